"""Save and resume training.

A run keeps one folder for each registered model:

    model.pth.tar-<E>      after E finished epochs
    model-best.pth.tar     the best epoch on validation data, if that is asked for
    checkpoint             the name of the file saved last

A file is a dict with state_dict, epoch (E), optimizer, scheduler, val_result, and whatever else the caller
gives: tensors, NumPy arrays and plain containers only. Files appear under their names when complete, never
half-written.
"""
from __future__ import annotations

import collections
import hashlib
import io
import logging
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from dassl.plain.ranks import is_first

from .safe_load import CheckpointError, Inert, UnsafeCheckpointError, load_file
from .tools import StrPath, atomic_write, mkdir_if_missing

__all__ = [
    "CheckpointError", "UnsafeCheckpointError", "checksum", "find_checkpoints", "load_checkpoint", "load_resume_point",
    "load_training", "restore_training", "resume_from_checkpoint", "save_checkpoint",
]  # fmt: skip

log = logging.getLogger(__name__)

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
    """Write a checkpoint, and the name of its file to the folder's file `checkpoint`.

    What is neither tensor, array of numbers or texts, nor plain container is left out with a warning. Of several
    processes of one run the first one writes, and the others do nothing: they have the same.

    Parameters
    ----------
    state : dict
        state_dict, epoch (finished epochs), and whatever else is to be kept.
    save_dir : path
        The folder, which is made.
    is_best : bool
        Write model-best.pth.tar as well.
    remove_module_from_keys : bool
        Drop a leading "module." (of a DataParallel wrapper) from the keys of the state dict.
    model_name : str
        The file's name, by default model.pth.tar-<epoch>.

    Raises
    ------
    OSError
        On a full disk, say; every file is then as it was.
    """
    if not is_first():
        return
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
    log.info(f"Checkpoint saved to {os.path.join(save_dir, name)}")


def plain_data(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` as tensors and plain containers; what is neither is left out with a warning."""
    dropped: list[str] = []
    plain = {key: _plain(value, key, dropped) for key, value in content.items()}
    if dropped:
        warnings.warn(f"not saved, because not plain data: {', '.join(dropped)}", stacklevel=3)
    return plain


def write_tensors(content: Any, path: StrPath) -> None:
    """Write tensors, arrays and plain containers as `torch.save` does, but whole or not at all."""
    buffer = io.BytesIO()  # in memory first: torch's own writer may abort the process on a full disk
    torch.save(content, buffer)
    with atomic_write(path, "wb", size=buffer.getbuffer().nbytes) as file:
        file.write(buffer.getbuffer())


def _plain(value: Any, where: str, dropped: list[str]) -> Any:
    """Return `value` without what is no plain data, which is named in `dropped`.

    Containers keep their kind where it is one that any reader knows: a subclass of list becomes a list.
    """
    if isinstance(value, np.generic):  # first: some of them are also Python numbers
        return value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.Tensor)):
        return value
    if type(value) is np.ndarray and value.dtype.kind in "?biufcSU":
        return value
    if isinstance(value, Mapping):
        kept = {key: _plain(entry, f"{where}.{key}", dropped) for key, entry in value.items()}
        kind: Any = type(value) if type(value) in (collections.OrderedDict, collections.Counter) else dict
        return kind({key: entry for key, entry in kept.items() if f"{where}.{key}" not in dropped})
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = [_plain(entry, f"{where}[{i}]", dropped) for i, entry in enumerate(value)]
        return next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))(entries)
    dropped.append(where)
    return None


# --- reading ---------------------------------------------------------------------------------------------


def load_checkpoint(fpath: StrPath | None) -> Any:
    """Read a file that `save_checkpoint`, the original engine or `torch.save` has written, without running any of it.

    Returns
    -------
    object
        As a rule a dict; of other files what they hold: a bare tensor, a list, NumPy arrays. Tensors are on the CPU.

    Raises
    ------
    ValueError
        For None.
    FileNotFoundError
        Where there is no file.
    UnsafeCheckpointError
        For a file that would run code.
    CheckpointError
        For a damaged one.
    """
    if fpath is None:
        raise ValueError("File path is None")
    return load_file(fpath)


def load_training(path: StrPath) -> dict[str, Any]:
    """Read the checkpoint of a model; CheckpointError for a file that holds something else."""
    content = load_checkpoint(path)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{os.fspath(path)} holds a {type(content).__name__}, not a checkpoint")
    return content


def checksum(path: StrPath) -> str:
    """Return the SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def find_checkpoints(fdir: StrPath) -> dict[int, str]:
    """Return {finished epochs: path} of the numbered checkpoints in a folder, the highest first."""
    names = os.listdir(fdir) if os.path.isdir(fdir) else []
    matches = filter(None, (re.fullmatch(r"model\.pth\.tar-(\d+)", name) for name in names))
    paths = {int(match[1]): os.path.join(fdir, match[0]) for match in matches}
    return dict(sorted(paths.items(), reverse=True))


def load_resume_point(folders: Sequence[StrPath]) -> tuple[int, list[dict[str, Any]]] | None:
    """Read the checkpoints that a run goes on from: of one epoch, for all its models.

    That epoch is the one which the folders' `checkpoint` files name. Where they name none or the best model, or not the
    same, or where a file is missing or damaged, which is a warning, it is the highest that every folder has.

    Parameters
    ----------
    folders : sequence of path
        One for each model.

    Returns
    -------
    tuple or None
        Finished epochs, and a checkpoint for each folder; None when no folder holds any.

    Raises
    ------
    CheckpointError
        When there are checkpoints, but no epoch is readable in all folders.
    UnsafeCheckpointError
        For a file that would run code: such a file is never passed over.
    """
    of_folders = [_resume_points(folder) for folder in folders]
    points = [paths for paths, _ in of_folders]
    if not any(points):
        return None
    common = sorted(set.intersection(*(set(point) for point in points)), reverse=True)
    named = min((epoch for _, epoch in of_folders if epoch is not None), default=None)
    if named in common and all(epoch is not None for _, epoch in of_folders):
        common.sort(key=lambda epoch: epoch != named)
    for epoch in common:
        try:
            return epoch, [load_training(point[epoch]) for point in points]
        except UnsafeCheckpointError:
            raise
        except CheckpointError as error:
            warnings.warn(f"{error}. Looking for another one", stacklevel=2)
    places = ", ".join(os.fspath(folder) for folder in folders)
    reason = "every checkpoint is damaged" if common else "no epoch was saved for every model"
    raise CheckpointError(f"cannot resume from {places}: {reason}; remove the folder to train from scratch")


def _resume_points(folder: StrPath) -> tuple[dict[int, str], int | None]:
    """Return {finished epochs: path}, and the epochs of the file that the pointer names.

    Files without a number are numbered on the inside: the best model, which may be older than the last one so that a
    pointer to it counts for nothing, and what a caller of `save_checkpoint` named otherwise.
    """
    points = find_checkpoints(folder)
    pointed = _pointed_name(folder)
    epochs = {os.path.basename(path): epoch for epoch, path in points.items()}
    for name in {BEST_NAME, pointed} - {*epochs, ""}:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            try:
                epochs[name] = int(load_training(path)["epoch"])
                if name == pointed != BEST_NAME:
                    points[epochs[name]] = path
                points.setdefault(epochs[name], path)
            except UnsafeCheckpointError:
                raise
            except (CheckpointError, KeyError, TypeError, ValueError) as error:
                warnings.warn(f"passing over {path}: {error}", stacklevel=3)
        elif name != BEST_NAME:
            warnings.warn(f"{os.path.join(folder, POINTER_NAME)} names {name}, which is not there", stacklevel=3)
    return points, None if pointed == BEST_NAME else epochs.get(pointed)


def _pointed_name(folder: StrPath) -> str:
    """Return the name of the file that was saved last, of this folder; empty where nothing says so."""
    pointer = os.path.join(folder, POINTER_NAME)
    if not os.path.isfile(pointer):
        return ""
    with open(pointer, encoding="utf-8", errors="replace") as file:
        return os.path.basename(file.readline().strip())


# --- resuming --------------------------------------------------------------------------------------------


def resume_from_checkpoint(
    fdir: StrPath,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
) -> int:
    """Restore a model, and its optimiser and schedule, in place, from the checkpoint of a folder to go on from.

    Which one that is, `load_resume_point` says.

    Returns
    -------
    int
        Finished epochs.

    Raises
    ------
    FileNotFoundError
        When the folder holds no checkpoint.
    RuntimeError or ValueError
        When it is of another model or optimiser.
    """
    point = load_resume_point([fdir])
    if point is None:
        raise FileNotFoundError(f"no checkpoint in {os.fspath(fdir)}")
    epoch, (checkpoint,) = point
    restore_training(checkpoint, model, optimizer, scheduler, source=os.fspath(fdir))
    return epoch


def restore_training(
    checkpoint: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    source: str = "the checkpoint",
) -> None:
    """Load weights, optimiser and schedule, in place.

    Parameters
    ----------
    checkpoint : dict
        state_dict, which must have exactly the model's keys; optimizer, scheduler and epoch where those are given.
    model : nn.Module
        A DataParallel wrapper is seen through.
    optimizer, scheduler : optional
        Skipped where they, or their entries in the checkpoint, are None.
    source : str
        Where the checkpoint is from, for messages.

    Raises
    ------
    RuntimeError
        When the checkpoint is of another model.
    ValueError
        When it is of another optimiser.
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
        if "after_warmup" in state:
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
