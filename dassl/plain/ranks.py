"""One run on many processes: which of them this one is.

`torchrun --nproc-per-node 4 train.py ...` starts train.py four times and says in the environment of each which one it
is, its rank from 0. Every process builds the same trainer and draws the same random numbers; what is shared out is the
work of the towers (by trainers that say `splits_work`) and the batches of a test. The first process alone writes files,
and speaks.

What stands here needs no torch. The processes are joined, and talk to each other, in dassl/engine/processes.py; until
they are, and in every plain run, there is one process, of rank 0.
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["RankError", "first_speaks", "is_first", "local_rank", "local_size", "rank", "size", "started", "started_as"]

_joined = False


class RankError(RuntimeError):
    """Another process of this run has failed, has ended, or did not come.

    Parameters
    ----------
    text : str
        Which one, where, and with what message.
    details : str
        Its traceback, for the log.
    """

    def __init__(self, text: str, details: str = "") -> None:
        super().__init__(text)
        self.details = details


# --- before the processes are joined ---------------------------------------------------------------------


def started() -> int:
    """Return how many processes torchrun has started for this run; 1 without it."""
    return _number("WORLD_SIZE", 1)


def started_as() -> int:
    """Return the rank that torchrun has given to this process; 0 without it."""
    return _number("RANK", 0) if started() > 1 else 0


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


@contextlib.contextmanager
def first_speaks() -> Iterator[None]:
    """Silence all processes but the first within the block: what they say and show is what that one does.

    Their `sys.__stderr__` is still the console, for what only they know.
    """
    if started_as() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


# --- once they are joined --------------------------------------------------------------------------------


def join(joined: bool = True) -> None:
    """Note that the processes are joined, or no longer; for dassl/engine/processes.py."""
    global _joined
    _joined = joined


def size() -> int:
    """Return the number of joined processes, W."""
    return started() if _joined else 1


def rank() -> int:
    """Return this process's number, from 0 to W - 1."""
    return started_as() if _joined else 0


def is_first() -> bool:
    """Tell whether this is the process that writes files, and speaks."""
    return rank() == 0


def local_rank() -> int:
    """Return this process's number among those on this machine, from 0."""
    return _number("LOCAL_RANK", 0) if _joined else 0


def local_size() -> int:
    """Return how many of the processes are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1) if _joined else 1
