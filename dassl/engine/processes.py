"""The processes of one run: joined, agreeing with each other, and ending together.

    with process_group("cuda", 30):          # started by torchrun; with one process nothing happens
        if is_first(): write(...)
        meet("the folder is ready")          # all wait for all
        stop = highest([stop], "step 7")     # a decision that all take alike

They talk in collectives, in which each waits for all others. So one that fails, is killed or hangs would leave the rest
waiting. What is behind it is told through torchrun's store, a small table on one of the machines:

- A process that fails puts its message there and leaves the group. The collective that the others wait in breaks; they
  find the message, and end with it. The first process prints it, and has it in the run's log.
- One that is killed leaves no message. The others look whose process is gone, or who does not answer in the store.
- One that hangs breaks nothing; a collective gives up after `minutes`, and the others name who does not answer.
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
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from dassl.plain import ranks
from dassl.plain.ranks import RankError, is_first, rank, size
from dassl.plain.text import error_text
from dassl.plain.writing import lives

from .interruption import Interrupted, exit_status

__all__ = [
    "ended_by", "failed", "first_goes_first", "from_first", "gather", "highest", "meet", "process_group", "report",
    "same", "signed",
]  # fmt: skip

ROLL_SECONDS = 10  # for the others to answer, once a collective has broken
LATE_SECONDS = 2  # likewise, once it has waited for minutes in vain
REPORT_SECONDS = 10  # for the first process to print a message, before the one that failed does
USUAL = (ValueError, LookupError, OSError, RuntimeError, AssertionError, FloatingPointError)  # say all in their text
PAUSE = 0.05  # seconds between two looks into the store

_store: Any = None  # torchrun's, as far as it is this run's; None as long as nobody has needed it
_runs, _over = 0, False  # that these processes have made before, and whether the present one is over
_minutes = 30.0
_place = "the start"  # where all processes last met


# --- joined ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process_group(device: str = "cpu", minutes: float = 30.0) -> Iterator[None]:
    """Join the processes that torchrun has started, for the block. With one process nothing happens.

    Parameters
    ----------
    device : str
        Kind of device that tensors of collectives are on: on "cuda" they go through NCCL, and messages, whose tensors
        are on the CPU, through gloo as all does elsewhere.
    minutes : float
        How long a process waits for others.

    Raises
    ------
    RankError
        Where another process does not come, or fails meanwhile.
    """
    global _minutes, _over, _place, _runs, _store
    if ranks.started() == 1 or size() > 1:
        yield
        return
    if _over:
        _store, _runs, _over = None, _runs + 1, False
    _minutes, _place = minutes, "the start"
    wait = timedelta(minutes=minutes)
    try:
        store = _connected()
        _assemble(store)
        if device == "cuda":
            os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a broken or late collective raises, as gloo's does
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            store=dist.PrefixStore("group", store), rank=ranks.started_as(), world_size=ranks.started(), timeout=wait,
        )  # fmt: skip
        ranks.join()
        _share_threads()
        yield
        _wait_for_first(store)
    except BaseException as error:
        reason = ended_by(error)
        if reason is error:
            raise
        raise reason from None
    finally:
        ranks.join(False)
        _leave()
        _over = True


def _connected() -> Any:
    """Return torchrun's store, connected."""
    global _store
    if _store is None:
        store = next(dist.rendezvous("env://", timeout=timedelta(minutes=_minutes)))[0]
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # of --max-restarts
        _store = dist.PrefixStore(f"attempt {attempt}, run {_runs}", store)
    return _store


def _assemble(store: Any) -> None:
    """Wait until every process has come. A collective would wait for one that has failed on its way here."""
    store.set(f"process/{ranks.started_as()}", f"{_machine()} {os.getpid()} {platform.node()}")
    waited = time.monotonic()
    missing = list(range(ranks.started()))
    while missing:
        missing = [other for other in missing if not store.check([f"process/{other}"])]
        if store.check(["failure"]):
            raise _left_message(store)
        if missing and time.monotonic() - waited > 60 * _minutes:
            raise RankError(f"rank {missing[0]} has not started within {_minutes:g} minutes (TRAIN.RANK_MINUTES)")
        time.sleep(PAUSE * bool(missing))


def _machine() -> str:
    """Return which torchrun has started this process: those of one have their process ids in common."""
    return os.environ.get("GROUP_RANK", "0")


def _share_threads() -> None:
    """Share out the processor's cores, where torchrun has chosen one thread for want of anything better."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // ranks.local_size()))


def _wait_for_first(store: Any) -> None:
    """Let all others wait until the first process has done everything, lest torchrun end it before."""
    if is_first():
        store.set("over", "")
    waited = time.monotonic()
    while not store.check(["over"]) and time.monotonic() - waited < 60 * _minutes:
        if store.check(["failure"]):
            raise _left_message(store)
        time.sleep(PAUSE)


def _leave() -> None:
    """Leave the group, which breaks the collectives that others wait in."""
    if dist.is_available() and dist.is_initialized():
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


# --- agreeing --------------------------------------------------------------------------------------------


def _arrive(place: str) -> None:
    global _place
    _place = place


def gather(value: Any, place: str = "") -> list[Any]:
    """Return the values of all processes, by rank: plain data, and tensors on the CPU."""
    if size() == 1:
        return [value]
    answers: list[Any] = [None] * size()
    dist.all_gather_object(answers, value)
    if place:
        _arrive(place)
    return answers


def from_first(value: Any, place: str) -> Any:
    """Return the first process's value: plain data."""
    return gather(value if is_first() else None, place)[0]


def meet(place: str) -> None:
    """Wait for all processes."""
    highest([0], place)


def highest(numbers: Sequence[int], place: str) -> list[int]:
    """Return the highest of each of the numbers over all processes; cheap enough for every step."""
    if size() == 1:
        return list(numbers)
    tensor = torch.tensor(numbers)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    _arrive(place)
    return tensor.tolist()


def same(value: Any, what: str, remedy: str = "") -> None:
    """Raise RankError unless `value` is the same on all processes."""
    values = gather(value, what)
    for other, theirs in enumerate(values):
        if theirs != values[0]:
            raise RankError(f"{what} is {values[0]!r} on rank 0, but {theirs!r} on rank {other}{remedy}")


@contextlib.contextmanager
def first_goes_first(place: str) -> Iterator[None]:
    """Let the first process do the block alone, and then the others at once: they find the files that it wrote."""
    if not is_first():
        meet(place)
    yield
    if is_first():
        meet(place)


# --- ending ----------------------------------------------------------------------------------------------


def signed(text: str) -> str:
    """Return a message with the process that it is of."""
    return f"rank {ranks.started_as()} on {platform.node()}: {text}"


def failed() -> bool:
    """Tell whether a process of this run has left the message that it failed."""
    if size() == 1 or _store is None:
        return False
    try:
        return _store.check(["failure"])
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
    try:
        store = _connected()
        if not isinstance(error, KeyboardInterrupt) and not _is_broken(error):
            details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            text = error_text(error) or type(error).__name__
            text = text if isinstance(error, USUAL) else f"{type(error).__name__}: {text}"
            _leave_message(store, signed(text), details)
            _leave()
            return error
        if not size() > 1:  # nobody waits for anybody yet
            return error
        late, interrupted = "timed out" in str(error).lower(), isinstance(error, KeyboardInterrupt)
        if interrupted:
            store.set("interrupted", str(exit_status(error) - 128))
            _leave()
        gone, missing = _call_roll(store, LATE_SECONDS if late else ROLL_SECONDS)
        if store.check(["interrupted"]) and not gone:
            stop = Interrupted("interrupted, as another process of this run", int(store.get("interrupted")))
            return error if interrupted else stop
        if missing:
            what = f"did not come within {_minutes:g} minutes (TRAIN.RANK_MINUTES)"
            what = what if late and not gone else "ended without a message (killed? out of memory?)"
            _leave_message(store, f"{', '.join(gone or missing)}: {what}; all were together last at {_place}")
        if store.check(["failure"]):
            return _left_message(store)
        return RankError(_lost(error))
    except (dist.DistError, RuntimeError) as gone:  # torchrun itself has ended
        return error if isinstance(error, KeyboardInterrupt) else RankError(_lost(gone))


def _is_broken(error: BaseException) -> bool:
    """Tell whether an exception is of a collective that another process did not take part in."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and re.search("gloo|nccl", str(error), re.IGNORECASE) is not None
    )


def _leave_message(store: Any, text: str, details: str = "") -> None:
    """Leave a message in the store, unless there is one."""
    if store.add("failures", 1) == 1:
        store.set("details", details)
        store.set("failure", text)


def _left_message(store: Any) -> RankError:
    """Return the message that is in the store, or comes in this moment."""
    return RankError(store.get("failure").decode(), store.get("details").decode())


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
            machine, pid, node = store.get(f"process/{other}").decode().split(maxsplit=2)
            names.append(f"rank {other} on {node}")
            if machine == _machine() and not lives(int(pid)):
                gone.append(names[-1])
        if gone or time.monotonic() - called > seconds:
            return gone, names
        if store.check(["interrupted"]):
            break
        time.sleep(PAUSE * bool(missing))
    return [], []


def _lost(error: BaseException) -> str:
    first_line = error_text(error).partition("\n")[0]
    return f"the processes of this run have lost each other; all were together last at {_place} ({first_line})"


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
        store = _connected()
        if ranks.started_as() == 0:
            print(lines, file=sys.__stderr__, flush=True)
            store.set("reported", "")
            return
        waited = time.monotonic()
        while time.monotonic() - waited < REPORT_SECONDS:
            if store.check(["reported"]):
                return
            time.sleep(PAUSE)
        if store.add("reporters", 1) > 1:
            return
    print(lines, file=sys.__stderr__, flush=True)
