"""A GPU for machines that have none: it knows shapes, types and devices, and no number.

`PretendGpu` is a context.  In it, tensors on the CPU are real and are computed with; tensors on "cuda:0" are torch's
fake tensors, for which every operation works out what kind of tensor would come.  So a whole training step can be
walked through as on a GPU, and three kinds of mistakes show:

- an operation on tensors of two devices raises, as it would there;
- so does one whose result has a shape that hangs on numbers (`nonzero`, a mask as index), for which a GPU would be
  waited for inside of the model;
- whoever asks for a number (`item`, `bool`, `tolist`, `cpu`, ...), or copies to the GPU without saying that it need not
  wait, makes a real GPU finish everything first.  Here numbers are made up, and it is counted who asked.

Trainers that are built in it have the GPU as their device.  torch's own engine for backward passes wants a driver, so
the graph is walked here, in Python.
"""
from __future__ import annotations

import contextlib
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from clip import prompt_text
from clip.openclip import texts
from trainers.parts import backbone

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = ("clip", "dassl", "demo", "predict", "results", "runs", "trainers")
DEVICE = torch.device("cuda:0")
NEW_ENOUGH = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 14)  # seen to work
aten = torch.ops.aten

NUMBERS = {aten._local_scalar_dense.default, aten.equal.default}  # whose answer is a number
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default}


@lru_cache(maxsize=1)
def can_pretend() -> bool:
    """Whether this torch leaves the driver alone; a CUDA build of torch 2.4 asks it for a slice of a fake tensor."""
    try:
        with FakeTensorMode():
            return torch.ones(2, 2, device=DEVICE)[:, 1:].shape == (2, 1)
    except RuntimeError:
        if NEW_ENOUGH:
            raise
        return False


class PretendGpu(TorchDispatchMode):
    """The context; what is copied from the GPU is 0 in it, and a single number that is read there 0.0, 1 or True.

    Attributes
    ----------
    waits : Counter
        {"trainers/plot/sinkhorn.py sinkhorn": how often}: who made a real GPU finish, the innermost function of ours.
    operations : set of str
        Names of the operations that the GPU was asked for.
    arithmetic : set of torch.dtype
        Of the products of matrices, and convolutions, among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.operations: set[str] = set()
        self.arithmetic: set[torch.dtype] = set()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> PretendGpu:
        if not can_pretend():
            pytest.skip("this torch asks for a driver even where it only pretends")
        with contextlib.ExitStack() as stack:
            stack.callback(forget)
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # 0, and never followed
            for module in ("dassl.engine.trainer", "runs.restore.rebuilding"):
                stack.enter_context(mock.patch(f"{module}.choose_device", lambda *name: DEVICE))
            stack.enter_context(mock.patch("torch.cuda.get_device_name", lambda device: "pretended"))
            stack.enter_context(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
            stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", lambda *how: True))
            stack.enter_context(mock.patch.object(FakeTensor, "tolist", lambda tensor: tensor.cpu().tolist()))
            stack.enter_context(mock.patch.object(Tensor, "backward", backward))
            stack.enter_context(mock.patch.object(torch.utils, "swap_tensors", stay))
            stack.enter_context(parameters_are_replaced())
            stack.enter_context(self._fake)
            super().__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.prim.device.default:  # asked half of the time
            return args[0].fake_device
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if not any(map(is_on_gpu, leaves)):
            with unset_fake_temporarily():
                return function(*args, **kwargs)

        self.operations.add(str(function))
        if function in NUMBERS:
            self._count()
            return 0.0 if len(args) == 1 and args[0].is_floating_point() else True
        target = kwargs.get("device") if function is aten._to_copy.default else None
        if target is not None and target.type == "cpu":
            self._count()
            with unset_fake_temporarily():
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if target is not None and not isinstance(args[0], FakeTensor) and not kwargs.get("non_blocking"):
            self._count()
        if any(isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor) for leaf in leaves):
            args, kwargs = tree_map(self._as_fake, (args, kwargs))
        result = function(*args, **kwargs)
        if function in PRODUCTS:
            self.arithmetic.add(result.dtype)
        return result

    def _as_fake(self, value: Any) -> Any:
        real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return self._fake.from_tensor(value) if real else value

    def _count(self) -> None:
        """Count a wait for the innermost function of ours that is being called."""
        frame: Any = sys._getframe(2)
        while frame is not None:
            path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
            if path.is_relative_to(REPOSITORY) and not name.startswith("<"):  # <genexpr>: whose function comes next
                path = path.relative_to(REPOSITORY)
                if path.parts[0] in OURS:
                    self.waits[f"{path.as_posix()} {name}"] += 1
                    return
            frame = frame.f_back
        self.waits["elsewhere"] += 1

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Count the waits within: yields a counter that is filled at the end."""
        before, counted = self.waits.copy(), Counter[str]()
        yield counted
        counted.update(self.waits - before)


def is_on_gpu(value: Any) -> bool:
    """Whether an argument of an operation is a tensor on the GPU, or the GPU."""
    return isinstance(value, FakeTensor) or (isinstance(value, torch.device) and value.type == "cuda")


def forget() -> None:
    """Empty what the program keeps for later: there must be no pretended tensor in it."""
    for kept in (backbone._frozen_clip, prompt_text._layout, prompt_text._future, texts._rows):
        kept.cache_clear()


def train_step(trainer: Any) -> None:
    """Make one step, as in an epoch of one batch."""
    trainer.num_batches = trainer.max_epoch = 1
    trainer.batch_idx = 0
    trainer.set_model_mode("train")
    meters = trainer.forward_backward(next(iter(trainer.train_loader_x)))
    assert set(meters) <= {"loss", "acc"}


def stay(old: Tensor, new: Tensor) -> None:
    """Stand for what `module.to(device)` does to parameters that are on the GPU already: they are the same."""
    assert (old.device, old.dtype, old.shape) == (new.device, new.dtype, new.shape)


@contextlib.contextmanager
def parameters_are_replaced() -> Iterator[None]:
    """Within it `module.to(device)` gives a module new parameters: a real one cannot take over a fake one's data."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


# --- the backward pass -----------------------------------------------------------------------------------


def backward(loss: Tensor) -> None:
    """Add to the gradient of every leaf what torch's engine would, one function of the graph after the other."""
    assert loss.grad_fn is not None
    gradients: dict[Any, list[Any]] = {loss.grad_fn: [torch.ones_like(loss)]}
    with torch.no_grad():
        for node in in_order(loss.grad_fn):
            incoming = gradients.pop(node, [None])
            if all(gradient is None for gradient in incoming):
                continue
            if hasattr(node, "variable"):  # a leaf
                leaf, (gradient,) = node.variable, incoming
                assert gradient.device == leaf.device
                leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
                continue
            outgoing = node.apply(*incoming) if hasattr(node, "apply") else node(*incoming)
            outgoing = outgoing if isinstance(outgoing, tuple) else (outgoing,)
            for (receiver, number), gradient in zip(node.next_functions, outgoing, strict=True):
                if receiver is None or gradient is None:
                    continue
                wanted = receiver._input_metadata[number]  # the engine sums over what was expanded, and converts
                if gradient.shape != wanted.shape:
                    gradient = gradient.sum_to_size(wanted.shape)
                gradient = gradient.to(wanted.dtype)
                slots = gradients.setdefault(receiver, [])
                slots += [None] * (number + 1 - len(slots))
                slots[number] = gradient if slots[number] is None else slots[number] + gradient


def in_order(root: Any) -> Sequence[Any]:
    """Sort the functions of a graph: each comes after all that hand it a gradient."""
    done: dict[Any, None] = {}
    stack = [(root, False)]
    while stack:
        node, finished = stack.pop()
        if finished:
            done[node] = None
        elif node not in done:
            stack.append((node, True))
            stack += [(receiver, False) for receiver, _ in node.next_functions if receiver is not None]
    return list(reversed(done))
