"""How the processes of one run end together, although each waits for all others in every collective.

One that fails, is killed or hangs would leave the rest waiting. What is behind it is told through torchrun's store, a
small table on one of the machines:

- A process that fails puts its message there and leaves the group. The collective that the others wait in breaks; they
  find the message, and end with it. The first process prints it, and has it in the run's log.
- One that is killed leaves no message. The others look whose process is gone, or who does not answer in the store.
- One that hangs breaks nothing; a collective gives up after some minutes, and the others name who does not answer.
"""
from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import sys
import time
import traceback
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from dassl.plain import ranks
from dassl.plain.ranks import RankError, rank, size
from dassl.plain.text import error_text
from dassl.plain.writing import lives

from .interruption import Interrupted, exit_status

__all__ = [
    "ended_by", "failed", "has_read", "leave", "let_others_read", "machine", "meeting", "report", "signed",
]  # fmt: skip

ROLL_SECONDS = 10  # for the others to answer, once a collective has broken
LATE_SECONDS = 2  # likewise, once it has waited for minutes in vain
REPORT_SECONDS = 10  # for the first process to print a message, before the one that failed does
PAUSE = 0.05  # seconds between two looks into the store
USUAL = (ValueError, LookupError, OSError, RuntimeError, AssertionError, FloatingPointError)  # say all in their text


class Meeting:
    """What the processes of the present run have in common besides collectives: a part of torchrun's store.

    Attributes
    ----------
    minutes : float
        How long a process waits for others.
    place : str
        Where all were together last, for messages.
    over : bool
        Whether the run is over; another one may follow.
    """

    def __init__(self) -> None:
        self.minutes, self.place, self.over = 30.0, "the start", False
        self._number = 0  # of runs that these processes have made before
        self._store: Any = None  # this run's part of torchrun's
        self._connections: list[Any] = []  # of all runs: where the first process keeps the store, it ends with the last

    def begin(self, minutes: float) -> None:
        """Begin a run; what processes have left in the store before does not count."""
        if self.over:
            self._store, self._number, self.over = None, self._number + 1, False
        self.minutes, self.place = minutes, "the start"

    def store(self) -> Any:
        """Return the store, connected."""
        if self._store is None:
            # one for each run: an earlier one may still be busy with a collective that broke
            self._connections += [next(dist.rendezvous("env://", timeout=timedelta(minutes=self.minutes)))[0]]
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # of --max-restarts
            self._store = dist.PrefixStore(f"attempt {attempt}, run {self._number}", self._connections[-1])
        return self._store

    def leave_message(self, text: str, details: str = "") -> None:
        """Leave the message that ends the run, unless there is one."""
        if self.store().add("failures", 1) == 1:
            self.store().set("details", details)
            self.store().set("failure", text)

    def message(self) -> RankError:
        """Return the message that is there, or comes in this moment."""
        return RankError(self.store().get("failure").decode(), self.store().get("details").decode())


meeting = Meeting()


def let_others_read(key: str, seconds: float) -> None:
    """Keep the store until the others have read an entry, where it ends with this process.

    torchrun keeps it itself, but for --standalone before torch 2.5, where it is the first process's.  Another process
    says with `has_read` that it need not wait.
    """
    if ranks.started_as() > 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return
    waited, others = time.monotonic(), [f"{key} read by {other}" for other in range(1, ranks.started())]
    while time.monotonic() - waited < seconds and not meeting.store().check(others):
        time.sleep(PAUSE)


def has_read(key: str) -> None:
    """Say that this process has read an entry of the store; see `let_others_read`."""
    with contextlib.suppress(RuntimeError):  # the first process has not waited any longer
        meeting.store().set(f"{key} read by {ranks.started_as()}", "")


def machine() -> str:
    """Return which torchrun has started this process: the children of one have their process ids in common."""
    return os.environ.get("GROUP_RANK", "0")


def leave() -> None:
    """Leave the group, which breaks the collectives that others wait in."""
    if dist.is_available() and dist.is_initialized():
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


def signed(text: str) -> str:
    """Return a message with the process that it is of."""
    return f"rank {ranks.started_as()} on {platform.node()}: {text}"


def failed() -> bool:
    """Tell whether a process of this run has left the message that it failed."""
    try:
        return size() > 1 and meeting.store().check(["failure"])
    except RuntimeError:  # torchrun has ended
        return True


def ended_by(error: BaseException) -> BaseException:
    """Return what is behind an exception: a RankError (or Interrupted) where that is another process, or itself.

    It ends this process's part in the run: an exception of its own is left for the others.
    """
    if ranks.started() == 1 or isinstance(error, RankError):
        return error
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):  # torchrun ends the rest where one has ended; not before it has spoken
        if hasattr(signal, name):
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    stop = error if isinstance(error, KeyboardInterrupt) else None
    try:
        store = meeting.store()
        if stop is None and not _is_broken(error):
            details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            text = error_text(error) or type(error).__name__
            text = text if isinstance(error, USUAL) else f"{type(error).__name__}: {text}"
            meeting.leave_message(signed(text), details)
            leave()
        elif size() > 1:
            return _behind(store, error, stop)
        return error
    except RuntimeError as gone:  # torchrun itself has ended
        return stop or _lost(gone)


def _behind(store: Any, error: BaseException, stop: KeyboardInterrupt | None) -> BaseException:
    """Find out what is behind a broken collective, or whether all were stopped where `stop` ends this process."""
    if stop is not None:
        store.set("interrupted", str(exit_status(stop) - 128))
        leave()
    late = "timed out" in str(error).lower()
    gone, missing = _call_roll(store, LATE_SECONDS if late else ROLL_SECONDS)
    if store.check(["interrupted"]) and not gone:
        return stop or Interrupted("interrupted, as another process of this run", int(store.get("interrupted")))
    if missing:
        what = f"did not come within {meeting.minutes:g} minutes (TRAIN.RANK_MINUTES)"
        what = what if late and not gone else "ended without a message (killed? out of memory?)"
        meeting.leave_message(f"{', '.join(gone or missing)}: {what}; all were together last at {meeting.place}")
    return meeting.message() if store.check(["failure"]) else _lost(error)


def _is_broken(error: BaseException) -> bool:
    """Tell whether an exception is of a collective that another process did not take part in."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and re.search("gloo|nccl", str(error), re.IGNORECASE) is not None
    )


def _call_roll(store: Any, seconds: float) -> tuple[list[str], list[str]]:
    """Say that this process is there, and wait for the others to do so.

    Returns
    -------
    gone, missing
        Those whose processes are no longer there, as far as this machine can tell, and all that have not answered; both
        empty where all have, or one has left a message, or was interrupted.
    """
    store.set(f"there/{rank()}", "")
    missing, called = list(range(size())), time.monotonic()
    while missing and not store.check(["failure"]):
        missing = [other for other in missing if not store.check([f"there/{other}"])]
        names, gone = [], []
        for other in missing:
            its_machine, pid, node = store.get(f"process/{other}").decode().split(maxsplit=2)
            names.append(f"rank {other} on {node}")
            if its_machine == machine() and not lives(int(pid)):
                gone.append(names[-1])
        if gone or time.monotonic() - called > seconds:
            return gone, names
        if store.check(["interrupted"]):
            break
        time.sleep(PAUSE * bool(missing))
    return [], []


def _lost(error: BaseException) -> RankError:
    first_line = error_text(error).partition("\n")[0]
    text = f"the processes of this run have lost each other; all were together last at {meeting.place} ({first_line})"
    return RankError(text)


def report(error: BaseException, lines: str) -> None:
    """Print, once for all processes, what a run has failed with.

    The first process prints it; another one only where that one does not, because it is gone.

    Parameters
    ----------
    error : Exception
        What this process has ended with.
    lines : str
        What to print.
    """
    ended_by(error)
    with contextlib.suppress(Exception):  # torchrun has ended: print it
        store = meeting.store()
        if ranks.started_as() == 0:
            print(lines, file=sys.__stderr__, flush=True)
            store.set("reported", "")
            let_others_read("reported", LATE_SECONDS)
            return
        waited = time.monotonic()
        while time.monotonic() - waited < REPORT_SECONDS:
            if store.check(["reported"]):
                has_read("reported")
                return
            time.sleep(PAUSE)
        if store.add("reporters", 1) > 1:
            return
    print(lines, file=sys.__stderr__, flush=True)
