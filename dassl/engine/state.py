"""The state of a run on its way: kept now and then in one file, which is gone when the run is finished.

Training goes on bit for bit from the end of an epoch: there weights, optimisers, schedules and the random generators
are all that matters, whereas in the middle of one the worker processes are somewhere in their own random draws. So the
state after the last epoch is held in memory and written when some time has passed, or because the run is interrupted:
what is repeated then is what was done of one epoch. States too large to hold are written by time only.

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
    """Keeps the state of one run in `folder`/training-state.pth.tar.

    Parameters
    ----------
    folder : str or None
        The run's folder; None: nothing is kept.
    minutes : float
        Between two writes; 0: nothing is kept.
    done : int
        Epochs that earlier starts of the run have finished.

    Attributes
    ----------
    saved : int
        Epochs that the next start of the run need not repeat. `TrainerBase` raises it where it writes a checkpoint.
    """

    def __init__(self, folder: str | None, minutes: float, done: int = 0) -> None:
        self.path = None if folder is None else os.path.join(folder, STATE_NAME)
        self.period = 60 * minutes
        self.saved = done
        self._latest: dict[str, Any] | None = None
        self._started = self._written = time.monotonic()
        self._spent = 0.0
        self._complained = False

    def after(self, done: int, state: Callable[[], dict[str, Any]]) -> None:
        """Hold the state after `done` epochs in memory, and write it when the time has come.

        Parameters
        ----------
        done : int
            Finished epochs.
        state : callable
            Returns epoch (`done`), models ({name: what a checkpoint holds}) and engine (the rest). It is called only
            where the state is kept, since to collect it takes time.
        """
        now = time.monotonic()
        keeps = self.path is not None and self.period > 0
        if not keeps or done == 0 or self._spent > SHARE * (now - self._started):
            return
        whole = state()
        fits = _bytes(whole["models"]) <= LARGEST
        self._latest = whole | {"models": copy.deepcopy(whole["models"])} if fits else None
        if now - self._written >= self.period and done > self.saved:
            self._write(whole)
        self._spent += time.monotonic() - now

    def keep(self) -> None:
        """Write the state that is held in memory, if it is further than what is written."""
        if self._latest is not None and self._latest["epoch"] > self.saved:
            self._write(self._latest)

    def finish(self) -> None:
        """Remove the file: the run is over, and what it learned is saved."""
        if self.path is not None:
            clear_leftovers(os.path.dirname(self.path))
            if os.path.exists(self.path):
                os.unlink(self.path)

    def outlook(self, epoch: int, last: int) -> str:
        """Say how the run goes on when it is started again, interrupted in `epoch` (from 1) of `last`."""
        if self.saved >= last:
            return f"interrupted after training; the same command goes on behind epoch {last}, with the test"
        place = f"interrupted in epoch {epoch} of {last}; the same command "
        if not self.saved:
            return f"{place}starts again from the beginning: no finished epoch is kept"
        again = [str(number) for number in sorted({self.saved + 1, epoch}) if number <= epoch]
        repeated = f" and repeats epoch{'s' * (len(again) > 1)} {' to '.join(again)}" if again else ""
        return f"{place}goes on after epoch {self.saved}{repeated}"

    def _write(self, whole: dict[str, Any]) -> None:
        """Write a state. A full disk ends the keeping, not the training: the next time is another chance."""
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
    """Return the bytes that the tensors in nested containers take."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0


def furthest_state(folders: Iterable[str], names: Collection[str]) -> tuple[dict[str, Any], str] | None:
    """Find the state with the most finished epochs.

    One that is damaged, or lacks a model, is passed over with a warning.

    Parameters
    ----------
    folders : iterable of str
        Where to look.
    names : collection of str
        Models that must be in it.

    Returns
    -------
    tuple or None
        The state (see `StateKeeper.after`) and its path; None where there is none.

    Raises
    ------
    UnsafeCheckpointError
        For a file that would run code: it is never passed over.
    """
    states = []
    for path in dict.fromkeys(os.path.join(folder, STATE_NAME) for folder in folders):
        if not os.path.isfile(path):
            continue
        try:
            state = load_checkpoint(path)
            lacking = [name for name in names if "state_dict" not in state["models"][name]]
            if lacking or not isinstance(state["epoch"], int) or not isinstance(state["engine"], dict):
                raise CheckpointError(f"{path} is no state of a run")
            states.append((state, path))
        except UnsafeCheckpointError:
            raise
        except (CheckpointError, LookupError, TypeError) as error:
            warnings.warn(f"passing over the state in {path}: {error}", stacklevel=3)
    return max(states, key=lambda pair: pair[0]["epoch"], default=None)
