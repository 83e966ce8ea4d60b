"""The state of a run on its way: kept now and then in one file, which is gone when the run is finished.

Training goes on bit for bit from the end of an epoch: there weights, optimisers, schedules and the random generators
are all that matters, whereas in the middle of one the worker processes are somewhere in their own random draws. So the
state after the last epoch is held in memory and written when it is due, by time, or because the run is interrupted:
what is repeated then is what was done of one epoch. States too large to hold are written when they are due only.

Holding and writing take a small share of the time of training; where they would take more, they happen less often, and
an interruption costs more than one epoch.
"""
from __future__ import annotations

import copy
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch

from dassl.plain.text import error_text
from dassl.plain.writing import clear_leftovers
from dassl.utils.checkpoint import CheckpointError, UnsafeCheckpointError, load_checkpoint, plain_data, write_tensors

__all__ = ["STATE_NAME", "StateKeeper", "furthest_state"]

STATE_NAME = "training-state.pth.tar"
SHARE = 0.02  # of the time, at most, for holding and writing
LARGEST = 256e6  # bytes that are held in memory


class StateKeeper:
    """Keeps the state of one run in `folder`/training-state.pth.tar; a `folder` of None, or 0 `minutes`: keeps none.

    `saved` counts the epochs that the next start of the run need not repeat, at first those `done` by earlier starts;
    `TrainerBase` raises it where it writes a checkpoint.
    """

    def __init__(self, folder: str | None, minutes: float, done: int = 0) -> None:
        self.path = None if folder is None else os.path.join(folder, STATE_NAME)
        self.period = 60 * minutes
        self.saved = done
        self._held: dict[str, Any] | None = None
        self._started = self._written = time.monotonic()
        self._spent = 0.0
        self._complained = False

    def after(self, done: int, state: Callable[[], dict[str, Any]]) -> None:
        """After `done` epochs: hold what `state` returns, and write it when it is due.

        It returns epoch (`done`), models ({name: what a checkpoint holds}), engine.
        """
        now = time.monotonic()
        keeps = self.path is not None and self.period > 0
        if not keeps or done == 0 or self._spent > SHARE * (now - self._started):
            return
        whole = state()
        due = now - self._written >= self.period and done > self.saved
        holds = _bytes(whole["models"]) <= LARGEST
        self._held = whole | {"models": copy.deepcopy(whole["models"])} if holds else None
        if due:
            self._write(whole)
        self._spent += time.monotonic() - now

    def keep(self) -> None:
        """Write what is held, if that is further than what is written."""
        if self._held is not None and self._held["epoch"] > self.saved:
            self._write(self._held)

    def finish(self) -> None:
        """The run is over, and what it learned is saved."""
        if self.path is not None:
            clear_leftovers(os.path.dirname(self.path))
            if os.path.exists(self.path):
                os.unlink(self.path)

    def outlook(self, epoch: int, last: int) -> str:
        """How the run goes on when it is started again, interrupted in `epoch` (from 1) of `last`."""
        if self.saved >= last:
            return f"interrupted after training; the same command goes on behind epoch {last}, with the test"
        place = f"interrupted in epoch {epoch} of {last}; the same command "
        if not self.saved:
            return f"{place}starts again from the beginning: no finished epoch is kept"
        again = [str(number) for number in sorted({self.saved + 1, epoch}) if number <= epoch]
        repeated = f" and repeats epoch{'s' * (len(again) > 1)} {' to '.join(again)}" if again else ""
        return f"{place}goes on after epoch {self.saved}{repeated}"

    def _write(self, whole: dict[str, Any]) -> None:
        """A full disk ends the keeping, not the training: the next time is another chance."""
        assert self.path is not None
        try:
            write_tensors(plain_data(whole), self.path)
        except OSError as error:
            if not self._complained:
                warnings.warn(f"the state after epoch {whole['epoch']} is not kept: {error_text(error)}", stacklevel=3)
            self._complained = True
        else:
            self.saved, self._complained = whole["epoch"], False
        self._written = time.monotonic()


def _bytes(value: Any) -> int:
    """What the tensors in nested containers take."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0


def furthest_state(folders: Iterable[str], names: Collection[str]) -> tuple[dict[str, Any], str] | None:
    """The state with the most finished epochs in one of `folders`, and its path; None where there is none.

    One that is damaged, or lacks a model of `names`, is passed over with a warning. Raises UnsafeCheckpointError for a
    file that would run code.
    """
    found = []
    for path in dict.fromkeys(os.path.join(folder, STATE_NAME) for folder in folders):
        if not os.path.isfile(path):
            continue
        try:
            state = load_checkpoint(path)
            lacking = [name for name in names if "state_dict" not in state["models"][name]]
            if lacking or not isinstance(state["epoch"], int) or not isinstance(state["engine"], dict):
                raise CheckpointError(f"{path} is no state of a run")
            found.append((state, path))
        except UnsafeCheckpointError:
            raise
        except (CheckpointError, LookupError, TypeError) as error:
            warnings.warn(f"passing over the state in {path}: {error}", stacklevel=3)
    return max(found, key=lambda one: one[0]["epoch"], default=None)
