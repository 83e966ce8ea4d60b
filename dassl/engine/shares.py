"""A test on many processes: each scores its share of the batches, and all get all scores, in order.

Batch i belongs to rank i % W. After each round of W batches the scores are exchanged, so that the evaluator of every
process sees the whole test as that of a single one would.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from dassl.plain.ranks import RankError, rank, share, size
from dassl.plain.text import error_text

from . import processes

__all__ = ["in_rounds", "loader_share"]


class _BatchShare:
    """The batches of a sampler that belong to this process."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.batches), rank(), None, size())

    def __len__(self) -> int:
        return len(range(rank(), len(self.batches), size()))


def loader_share(loader: Iterable[Any]) -> Iterable[Any]:
    """Return what gives this process's batches of a loader; images of other processes are not even read.

    It draws from the random generators what the loader itself would, whatever the share.
    """
    if size() == 1:
        return loader
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        return share(loader)
    more = {"prefetch_factor": loader.prefetch_factor} if loader.num_workers else {}
    return DataLoader(
        loader.dataset,
        batch_sampler=_BatchShare(loader.batch_sampler),  # type: ignore[arg-type]
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        multiprocessing_context=loader.multiprocessing_context,
        **more,
    )


def in_rounds(own: Iterator[Any]) -> Iterator[Any]:
    """Yield what all processes have of a test, in the order of its batches, given what this one has.

    Every process takes part in every round, also one that has no batch left. Where one fails, all do, in this round, so
    that none waits for another.

    Parameters
    ----------
    own : iterator
        Plain data and tensors on the CPU, none of them None: those of batches rank, rank + W, rank + 2 W, ...

    Raises
    ------
    RankError
        With the message of the process that failed; that one raises its own exception.
    """
    while True:
        failure = item = None
        try:
            item = next(own, None)
        except Exception as error:
            failure = error
        answers = processes.gather((item, None if failure is None else processes.signed(error_text(failure))))
        if failure is not None:
            raise failure
        for text in filter(None, (text for _, text in answers)):
            raise RankError(text)
        items = [item for item, _ in answers if item is not None]
        yield from items
        if len(items) < size():
            return
