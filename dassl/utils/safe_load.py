"""Read a checkpoint file without running what is in it.

A pickle may name any function to be called while it is read. Files of this project hold tensors and plain
containers only, which torch's own safe loader reads. Checkpoints of the original engine also hold scheduler
and optimiser objects; these are read by an unpickler that knows a short list of names, replaces everything
from `torch.optim` by an inert stand-in, and refuses the rest before anything is executed.
"""
from __future__ import annotations

import collections
import difflib
import os
import pickle
import textwrap
import types
import warnings
from typing import Any

import numpy as np
import torch

from .tools import StrPath

__all__ = ["CheckpointError", "UnsafeCheckpointError", "load_file"]


class CheckpointError(RuntimeError):
    """A checkpoint file that cannot be used: damaged, incomplete, or not a checkpoint."""


class UnsafeCheckpointError(CheckpointError):
    """A file that would run code when read. It was not read any further."""


class Inert:
    """Stands where an optimiser or scheduler object was pickled; keeps its attributes, can do nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def _numpy_scalar(dtype: np.dtype, data: bytes) -> Any:
    if dtype.hasobject or dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"a NumPy number of type {dtype} is not plain")
    return np.frombuffer(data, dtype)[0].item()


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoded as {encoding} is not plain")
    return text.encode("latin1")


_BUILTINS = (dict, list, tuple, set, frozenset, int, float, bool, str, complex)
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "Counter"): collections.Counter,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
    ("_codecs", "encode"): _latin1,
}
_ALLOWED |= {(module, kind.__name__): kind for kind in _BUILTINS for module in ("builtins", "__builtin__")}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
_STAND_INS = (["torch", "optim"], ["dassl", "optim"])


class _Unpickler(pickle.Unpickler):
    """Knows the names above, tensor types and storages, and stand-ins; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module in _STORAGE_MODULES and name.endswith("Storage") and name.isidentifier():
            return getattr(torch.storage if module == "torch.storage" else torch, name)
        if module.split(".")[:2] in _STAND_INS:
            return Inert
        raise UnsafeCheckpointError(f"{module}.{name}")


def _load_pickle(file: Any, **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()


_pickle_module: Any = types.ModuleType("dassl_allow_list_pickle")
_pickle_module.Unpickler = _Unpickler
_pickle_module.load = _load_pickle


# what torch and pickle raise for files that were cut off or overwritten
_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, OSError,
    RuntimeError, TypeError, ValueError, pickle.PickleError,
)  # fmt: skip


def load_file(path: StrPath) -> Any:
    """What torch.save wrote to `path`, tensors on the CPU.

    Raises FileNotFoundError (with the nearest name in the folder), UnsafeCheckpointError for a file that
    names anything but tensors, plain containers and optimiser objects, CheckpointError for a damaged one.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(_missing(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols and storage classes out of fashion
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:  # objects: perhaps a checkpoint of the original engine
                return torch.load(path, map_location="cpu", pickle_module=_pickle_module, weights_only=False)
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(
            f"{path} was refused: it asks to load {error}, which could run code and no checkpoint needs; "
            "nothing was executed. Get the weights as plain tensors from a source you trust"
        ) from None
    except PermissionError:
        raise
    except _DAMAGE as error:
        detail = textwrap.shorten(str(error).split(". ")[0], 160) or "no details"
        raise CheckpointError(
            f"{path} ({os.path.getsize(path):,} bytes) is damaged, incomplete or no checkpoint: "
            f"{type(error).__name__}: {detail}"
        ) from error


def _missing(path: str) -> str:
    text = f'No file exists at "{path}"'
    if os.path.isdir(path):
        return f"{text}: it is a folder"
    folder, name = os.path.split(path)
    others = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    if not others:
        return f"{text}, and its folder {'is empty' if os.path.isdir(folder) else 'does not exist'}"
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.0)
    return f"{text}; did you mean {near[0]}? The folder holds: {', '.join(others[:12])}"
