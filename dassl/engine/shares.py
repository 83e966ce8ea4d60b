"""A test on many processes: each scores its share of the batches, and all get all scores, in order.

Batch i belongs to rank i % W. After each round of W batches the scores are exchanged, so that the evaluator of every
process sees the whole test as that of a single one would.
"""
from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from dassl.plain.ranks import RankError, rank, size
from dassl.plain.text import error_text

from . import endings, processes

__all__ = ["in_rounds", "loader_share"]


def _turns(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield this process's share of the batches; the others are drawn and dropped."""
    return islice(iter(batches), rank(), None, size())


class _BatchShare:
    """The batches of a sampler that belong to this process."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return _turns(self.batches)

    def __len__(self) -> int:
        return len(range(rank(), len(self.batches), size()))


def loader_share(loader: Iterable[Any]) -> Iterable[Any]:
    """Return what gives this process's batches of a loader; images of other processes are not even read.

    It draws from the random generators what the loader itself would, whatever the share.
    """
    if size() == 1:
        return loader
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        return _turns(loader)
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
        prefetch_factor=loader.prefetch_factor,
    )


def in_rounds(batches: Iterator[Any], score: Callable[[Any], Any]) -> Iterator[Any]:
    """Score this process's batches of a test, and yield the scores of all processes in the order of the batches.

    Every process takes part in every round, also one that has no batch left. Where scoring fails in one, all end in the
    same round, and none waits for another.

    Parameters
    ----------
    batches : iterator
        Batches rank, rank + W, rank + 2 W, ... of the test.
    score : callable
        What there is to tell the others of a batch: plain data, and tensors on the CPU.

    Raises
    ------
    RankError
        With the message of the process that failed.
    """
    while True:
        answer, message = None, None
        if (batch := next(batches, None)) is not None:
            try:
                answer = (score(batch),)
            except Exception as error:
                message = endings.signed(error_text(error)), traceback.format_exc()
        answers, messages = zip(*processes.gather((answer, message), "a round of the test"), strict=True)
        for text, details in filter(None, messages):
            raise RankError(text, details)
        present = [answer for (answer,) in filter(None, answers)]
        yield from present
        if len(present) < size():
            next(batches, None)  # lets a generator end by itself, and finish what it does besides
            return
