"""Old and new in turns, each in a process of its own, so that neither sees the other's memory.

A subject is a function `make(side, **settings) -> step`; a step computes something and returns tensors to compare.
What counts are the ratio of the medians, the largest difference of what was computed, and the peak of memory that a
first step takes on top of its model and input.
"""
from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Step = Callable[[], Sequence[Any]]  # -> tensors


class Side(NamedTuple):
    """How a subject is computed: by the original algorithm or ours, in a process that keeps freed memory or not."""

    name: str
    algorithm: str  # "old" or "new"
    keeps_memory: bool


OLD = Side("old", "old", keeps_memory=False)  # as the original runs
OLD_KEPT = Side("old, no page faults", "old", keeps_memory=True)
NEW = Side("new", "new", keeps_memory=True)  # as train.py runs


TURN = 0.3  # seconds that a turn lasts at least: a process that was waiting needs a moment to be at its speed


LONG = 60.0  # seconds; steps of the original that take longer get one turn


class Outcome(NamedTuple):
    seconds: float  # of one step
    peak: float  # bytes, above what the process held before the step
    arrays: list[np.ndarray]


class Row(NamedTuple):
    """A subject's figures; seconds are medians of the turns."""

    subject: str
    old: float
    new: float
    old_kept: float | None  # the original algorithm where freed memory is kept
    new_beside_kept: float | None  # ours, in turns with that
    peak_old: float  # bytes
    peak_new: float
    difference: float  # largest, relative to the largest entry

    @property
    def ratio(self) -> float:
        return self.old / self.new

    @property
    def ratio_kept(self) -> float | None:
        return self.old_kept / self.new_beside_kept if self.old_kept and self.new_beside_kept else None


def measure(subject: str, make: Callable[..., Step], settings: Mapping[str, Any], repeats: int, kept: bool) -> Row:
    """Old against new; with `kept`, then also against the old algorithm without page faults."""
    with Process(NEW, make, settings) as new:
        first_new = new.run()
        with Process(OLD, make, settings) as old:
            first_old = old.run()
            repeats = 1 if first_old.seconds > LONG else repeats
            times = in_turns([old, new], repeats)
        times_kept: list[list[float]] = []
        if kept:
            with Process(OLD_KEPT, make, settings) as old:
                old.run()
                times_kept = in_turns([old, new], repeats)
    difference = max(relative_difference(a, b) for a, b in zip(first_old.arrays, first_new.arrays, strict=True))
    old_seconds, new_seconds = (statistics.median(one) for one in times)
    old_kept, new_beside_kept = (statistics.median(one) for one in times_kept) if kept else (None, None)
    return Row(
        subject, old_seconds, new_seconds, old_kept, new_beside_kept, first_old.peak, first_new.peak, difference
    )


def in_turns(processes: Sequence[Process], repeats: int) -> list[list[float]]:
    """Seconds of every step: [process][repeat]."""
    rounds = [[process.run().seconds for process in processes] for _ in range(repeats)]
    return [list(one) for one in zip(*rounds, strict=True)]


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(a).max())


# --- a process -------------------------------------------------------------------------------------------


class Process:
    """Makes a step in a fresh process and runs it when asked; use it as a context."""

    def __init__(self, side: Side, make: Callable[..., Step], settings: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, side, make, dict(settings)), daemon=False)
        self.process.start()
        theirs.close()

    def __enter__(self) -> Process:
        self._receive()
        return self

    def run(self) -> Outcome:
        self.connection.send("run")
        return self._receive()

    def __exit__(self, *exception: object) -> None:
        self.connection.close()
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.kill()

    def _receive(self) -> Any:
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(
                f"a measured process ended with status {self.process.exitcode}; -9 means that memory ran out: "
                "give fewer --classes"
            ) from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def _serve(connection: Connection, side: Side, make: Callable[..., Step], settings: dict[str, Any]) -> None:
    try:
        if side.keeps_memory:
            from dassl.utils.memory import keep_freed_memory

            keep_freed_memory()
        step = make(side.algorithm, **settings)
        connection.send(None)
        steps = 1
        while True:
            try:
                connection.recv()
            except EOFError:
                return
            before = _start_of_peak()
            start = time.perf_counter()
            for _ in range(steps):
                arrays = step()
            seconds = (time.perf_counter() - start) / steps
            connection.send(Outcome(seconds, _peak() - before, [_array(x) for x in arrays]))
            steps = max(1, round(TURN / seconds))
    except Exception:
        connection.send(traceback.format_exc())


def _array(x: Any) -> np.ndarray:
    return np.asarray(x.detach().float().numpy() if hasattr(x, "detach") else x)


def _start_of_peak() -> float:
    """Bytes held now; the peak is counted from here on, where the system allows that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> float:
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return float(line.split()[1]) * 1024
    raise OSError(f"no {key}")
