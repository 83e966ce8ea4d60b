"""Processes that each make one run after another, and end with the one that started them.

A run is made in a process of its own so that several share the cores, or have a GPU each.  A process keeps the models
and data that it has loaded for its next run.  Signals go along: SIGUSR1 asks every run to keep its state and go on,
SIGTERM and Ctrl-C to keep it and stop; and where the sweep itself is killed, the processes notice and stop likewise.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import Request

GRACE = 30  # seconds in which a run keeps its state, when the sweep has gone
KEEP = getattr(signal, "SIGUSR1", None)  # asks runs to keep their states and go on; not on every system


def check_devices(devices: Sequence[str]) -> None:
    """Raise ValueError for a GPU that this machine lacks: the process would work on the CPU instead."""
    import torch

    count = torch.cuda.device_count()
    for name in devices:
        number = name.removeprefix("cuda:")  # or the name of a GPU, or of a part of one, for CUDA_VISIBLE_DEVICES
        renumbered = "CUDA_VISIBLE_DEVICES" in os.environ and count
        if not count or (number.isdecimal() and int(number) >= count and not renumbered):
            known = ", ".join(map(str, range(count))) or "none; leave --devices out to work on the CPU"
            raise ValueError(f"--devices {','.join(devices)}: there is no GPU {name!r}; GPUs here: {known}")


def _in_worker(request: Request) -> tuple[dict[str, Any], str]:
    """Make one run in this process; return its record, and what it warned of."""
    from dassl.utils.logger import quiet
    from runs import execute

    warned = io.StringIO()
    try:
        with quiet(), contextlib.redirect_stderr(warned):
            return execute.run(request), warned.getvalue()
    except KeyboardInterrupt as stop:
        _end_without_parent()
        raise RuntimeError(str(stop)) from None  # this run's end, not the sweep's


def _start_worker(threads: int, device: str | None) -> None:
    """Prepare a new process: its device, its threads, and the signals that it listens to.

    The device must be chosen before anything looks for one.  Ctrl-C is for the process that started this one, which
    passes it on as SIGTERM.  A thread waits for the end of that process: nothing else would ever stop a worker then.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if KEEP is not None:
        signal.signal(KEEP, lambda number, frame: None)  # between two runs; each has a handler of its own
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {KEEP})
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # in a worker
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # a run in training keeps its state
    time.sleep(GRACE)
    os._exit(1)


def _end_without_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)


class Workers:
    """Processes with equal shares of the cores.

    Each is a pool of its own: a process that dies, for want of memory perhaps, costs its call and no other.

    Parameters
    ----------
    count
        How many there are.
    devices
        GPUs, dealt out in turns; none: each process sees what this one sees.
    """

    def __init__(self, count: int, devices: Sequence[str] = ()) -> None:
        self._others = set(multiprocessing.active_children())
        self.share = max(1, (os.cpu_count() or 1) // count)
        names = itertools.cycle([name.removeprefix("cuda:") for name in devices] or [None])
        self.devices = list(itertools.islice(names, count))
        self.pools = [self._start(device) for device in self.devices]
        self.idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            self.idle.put(number)

    def _start(self, device: str | None) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=spawn, initializer=_start_worker, initargs=(self.share, device))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `function` returns in the next process that is free; several threads may call."""
        number = self.idle.get()
        if KEEP is not None:  # would end a process that has only begun to start: it inherits this
            signal.pthread_sigmask(signal.SIG_BLOCK, {KEEP})
        try:
            return self.pools[number].submit(function, *arguments).result()
        except BrokenProcessPool as error:
            self.pools[number] = self._start(self.devices[number])
            raise RuntimeError("its process was killed, or died; did memory run out?") from error
        finally:
            self.idle.put(number)

    def close(self) -> None:
        """Wait until every process is done with its call, and end them, all at the same time."""
        for wait in (False, True):
            for pool in self.pools:
                pool.shutdown(wait)

    @contextlib.contextmanager
    def passing_on(self) -> Iterator[None]:
        """Open a context in which SIGUSR1 reaches the runs; only the main thread can receive signals."""
        if KEEP is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def pass_on(number: int, frame: FrameType | None) -> None:
            for process in self._processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)

        before = signal.signal(KEEP, pass_on)
        try:
            yield
        finally:
            signal.signal(KEEP, before)

    def _processes(self) -> set[Any]:
        return set(multiprocessing.active_children()) - self._others

    def stop(self) -> None:
        """End the processes now; runs in training keep their state first.

        A second Ctrl-C does not wait for that: it kills them.
        """
        mine = self._processes()
        try:
            for process in mine:
                process.terminate()
            self.close()
        except KeyboardInterrupt:
            for process in mine:
                process.kill()
            raise


@contextlib.contextmanager
def workers(
    count: int, report: Callable[[str], None], devices: Sequence[str] = ()
) -> Iterator[Callable[[Request], dict[str, Any]]]:
    """Start processes, and return a function that makes one run in the next one that is free; see `Workers`.

    Several threads may call it.  Each process loads models and data once.  `report` gets the lines that a run warns of.
    """
    processes = Workers(count, devices)

    def run(request: Request) -> dict[str, Any]:
        result, warned = processes.call(_in_worker, request)
        for line in filter(str.strip, warned.splitlines()):
            report(line)
        return result

    try:
        with processes.passing_on():
            yield run
    except KeyboardInterrupt:
        processes.stop()
        raise
    finally:
        processes.close()
