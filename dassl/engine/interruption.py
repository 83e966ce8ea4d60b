"""Signals that end a run, or ask it to keep its state.

    SIGINT (Ctrl-C), SIGTERM, SIGHUP    the run stops at the next step, and keeps its state. A second Ctrl-C does not
                                        wait for the step.
    SIGUSR1                             the run keeps its state at the next step, and goes on

Where torchrun has started several processes of the run, they stop at the same step (`TrainerBase._obey_signals`), and
a second Ctrl-C counts after PATIENCE seconds only, since torchrun passes on the first one as well.

At the next step, because an exception that comes from a handler may come up in the middle of anything: in a destructor,
where it is lost, or within the lock of a library, which then waits for itself. Signals that the program was told to
ignore (by nohup, or in the background of a script) stay ignored.
"""
from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from dassl.plain.ranks import started, started_as

__all__ = ["Interrupted", "Signals", "exit_status", "catching_signals"]

STOP = ("SIGINT", "SIGTERM", "SIGHUP")
KEEP = ("SIGUSR1",)  # not on every system
PATIENCE = 2.0


class Interrupted(KeyboardInterrupt):
    """A signal ended the run.

    Parameters
    ----------
    text : str
        What is kept, and how the run goes on.
    number : int
        The signal's.
    """

    def __init__(self, text: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(text, number)
        self.number = number

    def __str__(self) -> str:
        return self.args[0]


def exit_status(error: KeyboardInterrupt) -> int:
    """Return what shells say of a program that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + int(getattr(error, "number", signal.SIGINT))


class Signals:
    """What signals have asked for since they are caught.

    Attributes
    ----------
    stop : int or None
        Number of the first signal that asked to stop.
    keep : bool
        Whether one has asked to keep the state. Whoever does so sets it back.
    between_steps : bool
        Whether the run has been stopped where it asks (`check`), and not in the middle of a step.
    """

    def __init__(self, at_once: bool = False, hopeless: Callable[[], bool] = lambda: False) -> None:
        self.stop: int | None = None
        self.keep = self.between_steps = False
        self._at_once, self._hopeless = at_once, hopeless
        self._first = 0.0  # when the first one came
        self._process = os.getpid()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note what a signal asks for: the handler."""
        if os.getpid() != self._process:  # a forked worker process: its parent will see to it
            return
        if signal.Signals(number).name in KEEP:
            self.keep = True
            return
        again, self.stop = self.stop is not None, self.stop or number
        self._first = self._first or time.monotonic()
        again = again and (started() == 1 or time.monotonic() - self._first > PATIENCE)
        if self._at_once or (again and number == signal.SIGINT) or self._hopeless():
            raise Interrupted(number=number)
        if number == signal.SIGINT and started_as() == 0:
            with contextlib.suppress(OSError):  # not print, in whose middle this may be
                os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    def check(self) -> None:
        """Raise Interrupted where a signal has asked to stop; to be called between two steps."""
        if self.stop is not None:
            self.between_steps = True
            raise Interrupted(number=self.stop)


@contextlib.contextmanager
def catching_signals(at_once: bool = False, hopeless: Callable[[], bool] = lambda: False) -> Iterator[Signals]:
    """Catch the signals above within the block; afterwards they are handled as before it.

    Only the main thread can catch signals: elsewhere nothing changes.

    Parameters
    ----------
    at_once : bool
        Raise Interrupted wherever the program is, for work that has no steps.
    hopeless : callable
        Tells, when a signal comes, whether there will be no further step, so that it is raised at once as well.
    """
    asked = Signals(at_once, hopeless)
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for name in (*STOP, *KEEP):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, asked.handle)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
