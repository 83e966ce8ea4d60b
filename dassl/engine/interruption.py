"""Signals that end a run, or ask it to keep its state.

    SIGINT (Ctrl-C), SIGTERM, SIGHUP    the run stops where it is; what is kept is written by whoever catches the
                                        exception. A second Ctrl-C stops at once.
    SIGUSR1                             the run writes its state at the next step and goes on (Slurm sends it some time
                                        before the limit where it is asked to: sbatch --signal=B:USR1@60)

Signals that the program was told to ignore (by nohup, or in the background of a script) stay ignored.
"""
from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Signals", "exit_status", "heeding_signals"]

STOP = ("SIGINT", "SIGTERM", "SIGHUP")
KEEP = ("SIGUSR1",)  # not on every system


class Interrupted(KeyboardInterrupt):
    """A signal ended the run; `number` is the signal's. The text says what is kept and how the run goes on."""

    def __init__(self, text: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(text, number)
        self.number = number

    def __str__(self) -> str:
        return self.args[0]


def exit_status(error: KeyboardInterrupt) -> int:
    """130 for Ctrl-C, 143 for SIGTERM: what shells say of a program that a signal ended."""
    return 128 + int(getattr(error, "number", signal.SIGINT))


class Signals:
    """What has been asked for: to stop (the signal's number), to keep the state."""

    def __init__(self) -> None:
        self.stop: int | None = None
        self.keep = False
        self._process = os.getpid()

    def heed(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        if os.getpid() != self._process:  # a forked worker process: its parent will see to it
            return
        if signal.Signals(number).name in KEEP:
            self.keep = True
        elif self.stop is None:
            self.stop = number
            raise Interrupted(number=number)
        elif number == signal.SIGINT:  # who presses Ctrl-C twice will not wait
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise Interrupted once more: an exception that comes up in a destructor is lost."""
        if self.stop is not None:
            raise Interrupted(number=self.stop)


@contextlib.contextmanager
def heeding_signals() -> Iterator[Signals]:
    """Within it the signals above are heeded; then those that had the say before have it again.

    Only the main thread can do that: elsewhere nothing changes.
    """
    asked = Signals()
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for name in (*STOP, *KEEP):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, asked.heed)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
