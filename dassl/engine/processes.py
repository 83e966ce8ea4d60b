"""The processes of one run: joined, and agreeing with each other.

    with process_group("cuda", 30):          # started by torchrun; with one process nothing happens
        if is_first(): write(...)
        meet("the folder is ready")          # all wait for all
        stop = highest([stop], "step 7")     # a decision that all take alike

They talk in collectives, in which each waits for all others. What becomes of the rest where one fails is in endings.py.
"""
from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from dassl.plain import ranks
from dassl.plain.ranks import RankError, is_first, size

from .endings import LATE_SECONDS, PAUSE, ended_by, has_read, leave, let_others_read, machine, meeting

__all__ = ["first_goes_first", "from_first", "gather", "highest", "meet", "process_group", "same"]


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
    if ranks.started() == 1 or size() > 1:
        yield
        return
    meeting.begin(minutes)
    try:
        store = meeting.store()
        _assemble(store)
        if device == "cuda":
            os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a broken or late collective raises, as gloo's does
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            store=dist.PrefixStore("group", store), rank=ranks.started_as(), world_size=ranks.started(),
            timeout=timedelta(minutes=minutes),
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
        leave()
        meeting.over = True


def _assemble(store: Any) -> None:
    """Wait until every process has come. A collective would wait for one that has failed on its way here."""
    store.set(f"process/{ranks.started_as()}", f"{machine()} {os.getpid()} {platform.node()}")
    waited = time.monotonic()
    missing = list(range(ranks.started()))
    while missing:
        missing = [other for other in missing if not store.check([f"process/{other}"])]
        if store.check(["failure"]):
            raise meeting.message()
        if missing and time.monotonic() - waited > 60 * meeting.minutes:
            text = f"rank {missing[0]} has not started within {meeting.minutes:g} minutes (TRAIN.RANK_MINUTES)"
            raise RankError(text)
        time.sleep(PAUSE * bool(missing))


def _share_threads() -> None:
    """Share out the processor's cores, where torchrun has chosen one thread for want of anything better."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // ranks.local_size()))


def _wait_for_first(store: Any) -> None:
    """Let all others wait until the first process has done everything, lest torchrun end it before."""
    if is_first():
        store.set("over", "")
        let_others_read("over", LATE_SECONDS)
        return
    waited = time.monotonic()
    while not store.check(["over"]) and time.monotonic() - waited < 60 * meeting.minutes:
        if store.check(["failure"]):
            raise meeting.message()
        time.sleep(PAUSE)
    has_read("over")


# --- agreeing --------------------------------------------------------------------------------------------


def gather(value: Any, place: str = "") -> list[Any]:
    """Return the values of all processes, by rank: plain data, and tensors on the CPU."""
    if size() == 1:
        return [value]
    answers: list[Any] = [None] * size()
    dist.all_gather_object(answers, value)
    if place:
        meeting.place = place
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
    meeting.place = place
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
