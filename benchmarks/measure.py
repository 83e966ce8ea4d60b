"""Old and new in turns, each in a process of its own, so that neither sees the other's memory.

What is measured is a function `make(side)` that returns a step; a step computes something and returns tensors to
compare. `make` is a module's function, or a `functools.partial` of one, for it is sent to another process. What counts
are the ratio of the medians, the largest difference of what was computed, and the peak of memory that a first step
takes on top of its model and input.
"""
from __future__ import annotations

import math
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Step = Callable[[], Sequence[Any]]  # -> tensors or numbers

TURN = 0.3  # seconds that a turn lasts at least: a process that was waiting needs a moment to be at its speed
LONG = 60.0  # seconds; steps of the original that take longer get one turn

# processes are forks of a server that has imported everything and computed nothing
PREPARED = get_context("forkserver")
PREPARED.set_forkserver_preload(["benchmarks.neighbour"])


class Side(NamedTuple):
    """How something is computed.

    Parameters
    ----------
    algorithm : str
        "old", the original, or "new".
    keeps_memory : bool
        Whether the process keeps freed memory, instead of returning it to the system and asking for it again, which
        costs a page fault for every 4 KB.
    """

    algorithm: str
    keeps_memory: bool


OLD = Side("old", keeps_memory=False)  # as the original runs
OLD_KEPT = Side("old", keeps_memory=True)  # the original without page faults
NEW = Side("new", keeps_memory=True)  # as train.py runs


class Outcome(NamedTuple):
    """What one turn gave.

    Parameters
    ----------
    seconds : float
        Of one step.
    peak : float
        Bytes, above what the process had in memory before the step.
    arrays : list of numpy.ndarray
        What the step computed.
    """

    seconds: float
    peak: float
    arrays: list[np.ndarray]


class Row(NamedTuple):
    """The figures of one line of the table.

    Parameters
    ----------
    subject : str
        Its title.
    old, new : float
        Seconds, medians of the turns.
    difference : float
        The largest, relative to the largest entry of what the original computed.
    old_kept, new_beside_kept : float, optional
        Seconds of the original algorithm where freed memory is kept, and of ours in turns with that.
    peak_old, peak_new : float
        Bytes; not a number where they were not measured.
    """

    subject: str
    old: float
    new: float
    difference: float
    old_kept: float | None = None
    new_beside_kept: float | None = None
    peak_old: float = math.nan
    peak_new: float = math.nan

    @property
    def ratio(self) -> float:
        """How many times faster new is."""
        return self.old / self.new

    @property
    def ratio_kept(self) -> float | None:
        """How many times faster new is than the original without page faults; None where that was left out."""
        return self.old_kept / self.new_beside_kept if self.old_kept and self.new_beside_kept else None


def measure(subject: str, make: Callable[[str], Step], repeats: int, kept: bool) -> Row:
    """Compare old and new.

    Parameters
    ----------
    subject : str
        Title of the row.
    make : callable
        Makes the step of "old" or "new".
    repeats : int
        Turns; one where a step of the original takes longer than `LONG`.
    kept : bool
        Also compare with the original algorithm without page faults.
    """
    with Process(NEW, make) as new:
        first_new = new.run()
        with Process(OLD, make) as old:
            first_old = old.run()
            repeats = 1 if first_old.seconds > LONG else repeats
            old_seconds, new_seconds = in_turns([old, new], repeats)
        row = Row(subject, old_seconds, new_seconds, largest_difference(first_old, first_new),
                  peak_old=first_old.peak, peak_new=first_new.peak)
        if kept:
            with Process(OLD_KEPT, make) as old:
                old.run()
                old_kept, new_beside_kept = in_turns([old, new], repeats)
                row = row._replace(old_kept=old_kept, new_beside_kept=new_beside_kept)
    return row


def in_turns(processes: Sequence[Process], repeats: int) -> list[float]:
    """Return the median seconds of each process; they step one after the other, `repeats` times."""
    rounds = [[process.run().seconds for process in processes] for _ in range(repeats)]
    return [statistics.median(seconds) for seconds in zip(*rounds, strict=True)]


def largest_difference(old: Outcome, new: Outcome) -> float:
    """Return the largest difference of what both computed, relative to the largest entry of the array it is in."""
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(old.arrays, new.arrays, strict=True))


# --- a process -------------------------------------------------------------------------------------------


class Process:
    """A fresh process that makes a step and runs it when asked; a context.

    Parameters
    ----------
    side : Side
        How it computes.
    make : callable
        Makes the step of `side.algorithm`.
    context : multiprocessing context
        How the process starts. A fork has libraries that have read the environment already: where a variable is what is
        compared, the process must be spawned.

    Raises
    ------
    RuntimeError
        Where the process is killed. What `make` or the step raises is raised here as it is.
    """

    def __init__(self, side: Side, make: Callable[[str], Step], context: BaseContext = PREPARED) -> None:
        self._side, self._make = side, make
        self._pool = ProcessPoolExecutor(1, context)

    def __enter__(self) -> Process:
        try:
            self._call(_prepare, self._side, self._make)
        except BaseException:
            self._pool.shutdown()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self) -> Outcome:
        """Take a turn: one step the first time, then as many as fill `TURN`."""
        return self._call(_run)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a measured process was killed, as happens where memory runs out: give fewer --classes"
            ) from None


_step: Step  # these two are the measured process's own
_steps = 1  # of the next turn


def _prepare(side: Side, make: Callable[[str], Step]) -> None:
    global _step
    if side.keeps_memory:
        from dassl.utils.memory import keep_freed_memory

        keep_freed_memory()
    _step = make(side.algorithm)


def _run() -> Outcome:
    global _steps
    before, start = start_of_peak(), time.perf_counter()
    for _ in range(_steps):
        results = _step()
    wait_for(results)
    seconds = (time.perf_counter() - start) / _steps
    _steps = max(1, round(TURN / seconds))
    arrays = [np.asarray(x.detach().float().cpu() if hasattr(x, "detach") else x) for x in results]
    return Outcome(seconds, peak() - before, arrays)


def wait_for(results: Sequence[Any]) -> None:
    """Wait until a GPU has computed them: it is done with everything before what is read."""
    for result in results:
        if hasattr(result, "device") and result.device.type != "cpu":
            result.flatten()[:1].cpu()


def _gpu() -> Any:
    """Return `torch.cuda` in a process that computes there, whose memory is then what counts; else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def start_of_peak() -> float:
    """Return the bytes in use now; the peak is counted from here on, where the system allows that."""
    if gpu := _gpu():
        gpu.reset_peak_memory_stats()
        return float(gpu.memory_allocated())
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak()
    return _bytes("VmRSS")


def peak() -> float:
    """Return the most bytes that this process has had since `start_of_peak`, or else since it began."""
    if gpu := _gpu():
        return float(gpu.max_memory_allocated())
    try:
        return _bytes("VmHWM")
    except OSError:  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _bytes(key: str) -> float:
    (kilobytes,) = re.findall(rf"^{key}:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return float(kilobytes) * 1024
