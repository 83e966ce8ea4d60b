"""Products with weights that never change, prepared once for the matrix library.

The towers of CLIP are frozen, so whatever a product does with its weights on every call can be done once: oneDNN gets
them in the blocked layout that its kernels read, for the product itself and, when a gradient is first asked for, for
the product with the transpose.  The sums are the same, in another order: float32 results agree to rounding (1e-6).

Only float32 on a CPU gains, and only there it is done; everywhere else, and where this build of PyTorch has no such
kernels, `FrozenLinear` is F.linear.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class FrozenLinear:
    """x (..., I) -> x W^T + b (..., O), differentiable in x alone.

    Not a module: it has no parameters and is in no state dict.

    Parameters
    ----------
    weight, bias
        (O, I), and (O,) or None; taken as they are now.  Make another one when they change (`Prepared`).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias
        self.packed = pack(weight) if can_pack(weight) else None
        self._packed_transpose: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply; where nothing is packed, or the arithmetic is another, by F.linear."""
        if self.packed is None or x.dtype != self.weight.dtype or torch.is_autocast_enabled(x.device.type):
            return F.linear(x, self.weight, self.bias)
        flat = x.reshape(-1, x.shape[-1])
        if not len(flat):
            return F.linear(x, self.weight, self.bias)
        return _FrozenProduct.apply(flat, self).view(*x.shape[:-1], -1)

    def transposed(self, gradient: Tensor) -> Tensor:
        """Multiply a gradient (R, O) with W to (R, I); the transpose is packed when first asked for."""
        assert self.packed is not None
        if self._packed_transpose is None:
            self._packed_transpose = pack(self.weight.t().contiguous())
        return _product(gradient, self._packed_transpose, None)


def state_of(tensor: Tensor) -> tuple[Any, ...]:
    """Describe a tensor by what changes when it is replaced, moved, converted, written to or unfrozen."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), tensor.dtype, str(tensor.device), tensor.requires_grad, version


class Prepared(Generic[M, T]):
    """What `make` makes of a module: made when first asked for, and anew when the module has changed.

    A module has changed when one of its parameters was replaced, moved, converted, written to or unfrozen.  A copy of
    this object, or a pickle, is without what was made.

    Parameters
    ----------
    module
        Whose parameters are watched.
    make
        Called with the module.
    """

    def __init__(self, module: M, make: Callable[[M], T]) -> None:
        self._module, self._make = module, make
        self._made: tuple[tuple[Any, ...], T] | None = None

    def __call__(self) -> T:
        """Return what was made of the module as it is now."""
        now = tuple(state_of(parameter) for parameter in self._module.parameters())
        if self._made is None or self._made[0] != now:
            self._made = now, self._make(self._module)
        return self._made[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": None}


class PackedLinear(nn.Linear):
    """An nn.Linear with the same parameters, under the same names, that packs them while they stay as they are."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self._frozen = Prepared(self, frozen_linear)

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear."""
        return self._frozen()(x)


def frozen_linear(layer: nn.Linear) -> FrozenLinear:
    """Take the weights of a layer as they are now."""
    return FrozenLinear(layer.weight, layer.bias)


class _FrozenProduct(torch.autograd.Function):
    """The product, with the transposed weights packed for the way back as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: FrozenLinear) -> Tensor:  # type: ignore[override]
        ctx.linear = linear
        assert linear.packed is not None
        return _product(x, linear.packed, linear.bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.linear.transposed(gradient.contiguous()), None


def _product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def pack(weight: Tensor) -> Tensor:
    """Make an opaque copy of a weight (O, I) that only `_product` can read."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())


def can_pack(weight: Tensor) -> bool:
    """Whether a weight is frozen, and of the only kind that gains by packing: float32 on a CPU."""
    frozen = not weight.requires_grad
    return frozen and weight.device.type == "cpu" and weight.dtype == torch.float32 and _kernels_work()


@lru_cache(maxsize=1)
def _kernels_work() -> bool:
    """Whether this build has the kernels and they give what F.linear gives; they are no public interface of PyTorch."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias = (torch.linspace(-1, 1, n).sin() for n in (5 * 32, 48 * 32, 48))
    x, weight = x.view(5, 32), weight.view(48, 32)
    try:
        return torch.allclose(_product(x, pack(weight), bias), F.linear(x, weight, bias), rtol=1e-4, atol=1e-4)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


def pairwise(x: Tensor, y: Tensor) -> Tensor:
    """Compute all inner products (R, S) of rows x (R, D) and y (S, D), by the same kernels where they serve."""
    if x.device.type == "cpu" and x.dtype == y.dtype == torch.float32 and x.numel() and y.numel() and _kernels_work():
        return _Pairwise.apply(x, y)
    return x @ y.t()


class _Pairwise(torch.autograd.Function):
    """x y^T, differentiable in both; the gradients are products of the same kind."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, y)
        return _product(x, y, None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, y = ctx.saved_tensors
        of_x, of_y = ctx.needs_input_grad
        return (
            _product(gradient, y.t(), None) if of_x else None,
            _product(gradient.t(), x.t(), None) if of_y else None,
        )
