"""Save and resume training.

A run keeps one folder for each registered model:

    model.pth.tar-<E>      after E finished epochs
    model-best.pth.tar     the best epoch on validation data, if that is asked for
    checkpoint             the name of the file saved last

A file is a dict with state_dict, epoch (E), optimizer, scheduler, val_result, and whatever else the caller
gives: tensors and plain containers only. Files appear under their names when complete, never half-written.
"""
from __future__ import annotations

import collections
import io
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .safe_load import CheckpointError, Inert, UnsafeCheckpointError, load_file
from .tools import StrPath, atomic_write, mkdir_if_missing

__all__ = [
    "CheckpointError",
    "UnsafeCheckpointError",
    "find_checkpoints",
    "load_checkpoint",
    "load_resume_point",
    "restore_training",
    "resume_from_checkpoint",
    "save_checkpoint",
]

BEST_NAME = "model-best.pth.tar"
POINTER_NAME = "checkpoint"

# --- writing ---------------------------------------------------------------------------------------------


def save_checkpoint(
    state: dict[str, Any],
    save_dir: StrPath,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write `state` to `save_dir`/`model_name`, by default model.pth.tar-<state["epoch"]>.

    A leading "module." (of a DataParallel wrapper) is dropped from the keys of state["state_dict"], unless
    `remove_module_from_keys` is off. `is_best` writes model-best.pth.tar as well. What is neither tensor nor
    plain container is left out with a warning. Raises OSError, leaving every file as it was, on a full disk.
    """
    mkdir_if_missing(save_dir)
    weights = state["state_dict"]
    if remove_module_from_keys:
        weights = collections.OrderedDict((k.removeprefix("module."), value) for k, value in weights.items())
    plain = plain_data({key: value for key, value in state.items() if key != "state_dict"})
    name = model_name or f"model.pth.tar-{state['epoch']}"
    for target in (name, BEST_NAME) if is_best else (name,):
        write_tensors({"state_dict": weights} | plain, os.path.join(save_dir, target))
    with atomic_write(os.path.join(save_dir, POINTER_NAME)) as file:
        file.write(f"{name}\n")
    print(f"Checkpoint saved to {os.path.join(save_dir, name)}")


def plain_data(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` as tensors and plain containers; what is neither is left out with a warning."""
    dropped: list[str] = []
    plain = {key: _plain(value, key, dropped) for key, value in content.items()}
    if dropped:
        warnings.warn(f"not saved, because not plain data: {', '.join(dropped)}", stacklevel=3)
    return plain


def write_tensors(content: dict[str, Any], path: StrPath) -> None:
    """Write a dict of tensors and plain containers, whole or not at all."""
    buffer = io.BytesIO()  # in memory first: torch's own writer may abort the process on a full disk
    torch.save(content, buffer)
    with atomic_write(path, "wb", size=buffer.getbuffer().nbytes) as file:
        file.write(buffer.getbuffer())


def _plain(value: Any, where: str, dropped: list[str]) -> Any:
    """`value` with special containers and NumPy data made plain; what cannot be is named in `dropped`."""
    if isinstance(value, np.generic):  # first: some of them are also Python numbers
        return value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.Tensor)):
        return value
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Mapping):
        kept = {key: _plain(entry, f"{where}.{key}", dropped) for key, entry in value.items()}
        return {key: entry for key, entry in kept.items() if f"{where}.{key}" not in dropped}
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = [_plain(entry, f"{where}[{i}]", dropped) for i, entry in enumerate(value)]
        return tuple(entries) if isinstance(value, tuple) else entries
    dropped.append(where)
    return None


# --- reading ---------------------------------------------------------------------------------------------


def load_checkpoint(fpath: StrPath | None) -> dict[str, Any]:
    """The dict that `save_checkpoint`, or the original engine, wrote to `fpath`; tensors on the CPU.

    Raises ValueError for None, FileNotFoundError, UnsafeCheckpointError for a file that would run code, and
    CheckpointError for one that is damaged or holds something else.
    """
    if fpath is None:
        raise ValueError("File path is None")
    content = load_file(fpath)
    if not isinstance(content, dict):
        raise CheckpointError(f"{os.fspath(fpath)} holds a {type(content).__name__}, not a checkpoint")
    return content


def find_checkpoints(fdir: StrPath) -> dict[int, str]:
    """{finished epochs: path} of the numbered checkpoints in a folder, highest first."""
    names = os.listdir(fdir) if os.path.isdir(fdir) else []
    matches = [found for name in names if (found := re.fullmatch(r"model\.pth\.tar-(\d+)", name))]
    matches.sort(key=lambda found: int(found[1]), reverse=True)
    return {int(found[1]): os.path.join(fdir, found[0]) for found in matches}


def load_resume_point(folders: Sequence[StrPath]) -> tuple[int, list[dict[str, Any]]] | None:
    """The most finished epochs that every folder has a readable checkpoint of, and those checkpoints.

    A damaged file is passed over with a warning. None when no folder holds any checkpoint. Raises
    CheckpointError when there are some but no epoch is readable in all folders, and UnsafeCheckpointError for
    a file that would run code: such a file is never passed over.
    """
    points = [_resume_points(folder) for folder in folders]
    if not any(points):
        return None
    common = sorted(set.intersection(*(set(point) for point in points)), reverse=True)
    for epoch in common:
        try:
            return epoch, [load_checkpoint(point[epoch]) for point in points]
        except UnsafeCheckpointError:
            raise
        except CheckpointError as error:
            warnings.warn(f"{error}. Looking for an earlier one", stacklevel=2)
    places = ", ".join(os.fspath(folder) for folder in folders)
    reason = "every checkpoint is damaged" if common else "no epoch was saved for every model"
    raise CheckpointError(f"cannot resume from {places}: {reason}; remove the folder to train from scratch")


def _resume_points(folder: StrPath) -> dict[int, str]:
    """{finished epochs: path}; the best model, and a file of another name, are numbered on the inside."""
    points = find_checkpoints(folder)
    others = [BEST_NAME]
    pointer = os.path.join(folder, POINTER_NAME)
    if not points and os.path.isfile(pointer):
        with open(pointer, encoding="utf-8", errors="replace") as file:
            others.append(os.path.basename(file.readline().strip()))
    for path in (os.path.join(folder, name) for name in others if name):
        if os.path.isfile(path):
            try:
                points.setdefault(int(load_checkpoint(path)["epoch"]), path)
            except UnsafeCheckpointError:
                raise
            except (CheckpointError, KeyError, TypeError, ValueError) as error:
                warnings.warn(f"passing over {path}: {error}", stacklevel=3)
    return points


# --- resuming --------------------------------------------------------------------------------------------


def resume_from_checkpoint(
    fdir: StrPath,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
) -> int:
    """Restore the newest readable checkpoint of a folder; returns the number of finished epochs.

    Raises FileNotFoundError when the folder holds none; see `load_resume_point` for damaged ones.
    """
    found = load_resume_point([fdir])
    if found is None:
        raise FileNotFoundError(f"no checkpoint in {os.fspath(fdir)}")
    restore_training(found[1][0], model, optimizer, scheduler, source=os.fspath(fdir))
    return found[0]


def restore_training(
    checkpoint: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    source: str = "the checkpoint",
) -> None:
    """Load weights (strictly), optimiser and schedule, in place; entries that are None are skipped.

    Raises RuntimeError or ValueError, naming `source`, when the checkpoint is of another model.
    """
    if isinstance(model, nn.DataParallel):  # keys are saved without its prefix
        model = model.module
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise RuntimeError(f"{source} is of another model than this run's: {error}") from error
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        try:
            optimizer.load_state_dict(checkpoint["optimizer"])
        except ValueError as error:
            raise ValueError(f"{source} is of another optimiser than this run's: {error}") from error
    if scheduler is not None and checkpoint.get("scheduler") is not None:
        _restore_schedule(scheduler, checkpoint["scheduler"], int(checkpoint["epoch"]))


def _restore_schedule(scheduler: Any, state: dict[str, Any], epoch: int) -> None:
    """Move the live schedule to where the saved one stood; never replace its parts by loaded ones."""
    if hasattr(scheduler, "fast_forward"):
        if isinstance(state.get("successor"), dict):
            scheduler.load_state_dict(state)
        else:  # the original engine pickled the inner schedule as an object: count its steps again
            scheduler.fast_forward(epoch)
        return
    plain: dict[str, Any] = {}
    for name, live in scheduler.state_dict().items():
        if name in state and not isinstance(state[name], Inert):
            value = state[name]
            plain[name] = collections.Counter(value) if isinstance(live, collections.Counter) else value
    scheduler.load_state_dict(plain)
