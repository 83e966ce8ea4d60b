"""Work that several processes share: the towers of one training step, split by rank.

A run may be made by W processes (`torchrun`), each with all of the learned parameters and all of the batch.  What costs
is split: rank r encodes its part of the images, and the prompts of its part of the classes.  Image features are
then gathered, every rank scores all images against its own classes, and the logits are gathered.  From there on all
ranks compute the same loss.

The gradient follows from one rule.  Let the W ranks compute the losses L_1 ... L_W, all equal to L, and let every
gather have its true adjoint, which sums over the ranks what each of them makes of the gathered values.  Then what
reaches a parameter on rank r is a part of the gradient of L_1 + ... + L_W = W L, the parts of all ranks add up to the
whole, and their *mean* (`average_gradients`) is the gradient of L: also for terms of a loss that every rank computes in
full.

Classes are split and features of images gathered, not the reverse, for what is sent: B M D numbers for B images of M
places and B C logits, instead of N C D for N prompts of C classes, forward and backward.  For RN50, batches of 32 and
21,841 classes that is 2.3 million numbers a step instead of 179 million.

Everything here is for one process, too, where nothing is split and nothing sent.  Only torch.distributed is used; who
starts and ends the processes is the engine's concern.

Axes: B images, C classes, M places, N prompts, D feature width.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from .features import ImageFeatures

T = TypeVar("T")

_sharing: ContextVar[bool] = ContextVar("sharing", default=False)


def size() -> int:
    """Return W, how many processes make this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this one is, from 0."""
    return dist.get_rank() if size() > 1 else 0


@contextmanager
def sharing() -> Iterator[None]:
    """Within it all ranks do the same step together, and the work of the towers is split; outside each works alone."""
    token = _sharing.set(True)
    try:
        yield
    finally:
        _sharing.reset(token)


def shared() -> bool:
    """Tell whether work is split: in `sharing`, where there is more than one process."""
    return size() > 1 and _sharing.get()


def parts(total: int) -> list[int]:
    """Split a number of things among the ranks, as evenly as can be: W numbers, the larger ones first."""
    each, more = divmod(total, size())
    return [each + (number < more) for number in range(size())]


def own(total: int) -> slice:
    """Return which of `total` things are this rank's, in the order of the ranks."""
    before = parts(total)[: rank()]
    return slice(sum(before), sum(before) + parts(total)[rank()])


def turns(things: Iterable[T]) -> Iterator[T]:
    """Give this rank's share of things that are dealt out in turns, as the batches of a test are."""
    return islice(things, rank(), None, size())


def turns_of(loader: Iterable[Any]) -> Iterable[Any]:
    """Load this rank's share of a loader's batches; images of the others are not even opened.

    The draw that a loader makes from the global generator when it begins happens on every rank alike.
    """
    if size() == 1:
        return loader
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        return turns(loader)
    names = "num_workers collate_fn pin_memory generator timeout worker_init_fn multiprocessing_context prefetch_factor"
    settings = {name: getattr(loader, name) for name in names.split()}
    return DataLoader(loader.dataset, batch_sampler=list(turns(loader.batch_sampler)), **settings)


# --- sums and gathers ------------------------------------------------------------------------------------


def gather(x: Tensor, dim: int, total: int, alike: bool = True) -> Tensor:
    """Put the parts of all ranks end to end, differentiably.

    Parameters
    ----------
    x
        This rank's part: `own(total)` of the whole along `dim`.
    dim, total
        The axis along which the whole is split, and its length.
    alike
        Whether all ranks compute the same with the whole.  Then each knows what the others make of it, and the adjoint,
        W times its own gradient, needs no message.  Else the gradients of all ranks are summed.

    Returns
    -------
    Tensor
        As x, with `total` along `dim`.
    """
    return _Gather.apply(x, dim, parts(total), alike)


class _Gather(torch.autograd.Function):
    """The gather and its adjoint."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, lengths: Sequence[int], alike: bool) -> Tensor:  # type: ignore[override]
        ctx.dim, ctx.lengths, ctx.alike = dim, lengths, alike
        rows = x.movedim(dim, 0)  # messages are of one length: short parts are filled up
        message = rows.new_zeros(max(lengths), *rows.shape[1:])
        message[: len(rows)] = rows
        received = [torch.empty_like(message) for _ in lengths]
        if message.numel():
            dist.all_gather([_bytes(part) for part in received], _bytes(message))
        whole = torch.cat([part[:length] for part, length in zip(received, lengths, strict=True)])
        return whole.movedim(0, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        gradient = gradient * size() if ctx.alike else _sum(gradient)
        start = sum(ctx.lengths[: rank()])
        return gradient.narrow(ctx.dim, start, ctx.lengths[rank()]), None, None, None


def _bytes(tensor: Tensor) -> Tensor:
    """View a tensor as bytes: what only moves needs no arithmetic, which not every backend has for every format."""
    return tensor.view(torch.uint8) if tensor.dim() else tensor.reshape(1).view(torch.uint8)


def _sum(x: Tensor) -> Tensor:
    """Sum a tensor over the ranks, in float32 at least."""
    total = x.to(torch.promote_types(x.dtype, torch.float32), copy=True, memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total.to(x.dtype)


def mean(x: Tensor, weight: float) -> Tensor:
    """Average tensors of one shape over the ranks that share a step, each by the weight of what it stands for."""
    if not shared():
        return x
    total = torch.cat([x.reshape(-1) * weight, x.new_tensor([weight])])
    dist.all_reduce(total)
    return (total[:-1] / total[-1]).view_as(x)


def any_of(answer: bool) -> bool:
    """Tell whether the answer is yes on any of the ranks that share a step."""
    return any(gather_objects(answer)) if shared() else answer


def encode(tower: Callable[[Tensor], ImageFeatures], images: Tensor | ImageFeatures) -> ImageFeatures:
    """Encode images, each rank its part where work is shared, and gather their features, differentiably.

    Parameters
    ----------
    tower
        Images (B, 3, H, W) -> their features.
    images
        All B of them on every rank; features are handed through.  Fewer images than processes are not split.
    """
    if isinstance(images, ImageFeatures) or not shared() or len(images) < size():
        return tower(images)  # type: ignore[arg-type]
    features = tower(images[own(len(images))])
    return ImageFeatures(*(gather(tensor, 0, len(images), alike=False) for tensor in features))


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients of parameters by their mean over the ranks, in one message; nothing with one process."""
    if size() == 1:
        return
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in learned]
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        some = [number for number, gradient in enumerate(gradients) if gradient.dtype == dtype]
        flat = _sum(torch.cat([gradients[number].flatten() for number in some])) / size()
        for number, values in zip(some, flat.split([gradients[n].numel() for n in some]), strict=True):
            learned[number].grad = values.view_as(learned[number])


def gather_objects(value: T) -> list[T]:
    """Return the values of all ranks, in their order; plain data and tensors on the CPU."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values
