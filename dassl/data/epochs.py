"""Worker processes that stay from one epoch to the next, and give the random numbers that fresh ones would give.

A few-shot epoch is a few batches, less work than starting eight processes. Keeping them must not change what is drawn:
torch seeds fresh workers from a number that it draws from the global generator at the start of each epoch, and a
resumed run repeats an epoch exactly because it restores that generator. So this loader makes the same draw, at the same
moment, and sends the number along with the batches; a worker that meets a new number seeds itself as a fresh one would.
"""
from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

__all__ = ["EpochLoader", "reseed"]


class SeededBatch(list[int]):
    """Positions of a batch, and the number that its epoch's workers are seeded from (None: they are fresh)."""

    seed: int | None = None


class _SeededBatches:
    """The batches of a sampler, marked."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.seed: int | None = None

    def __iter__(self) -> Iterator[SeededBatch]:
        seed = self.seed
        for positions in self.batches:
            batch = SeededBatch(positions)
            batch.seed = seed
            yield batch

    def __len__(self) -> int:
        return len(self.batches)


def reseed(positions: Iterable[int], last: int | None) -> int | None:
    """To be called by a data set before it loads a batch: seeds this worker's generators at the start of an epoch.

    `last` is what the call before returned.
    """
    seed = getattr(positions, "seed", None)
    worker = get_worker_info()
    if seed is None or seed == last or worker is None:
        return last
    random.seed(seed + worker.id)
    torch.manual_seed(seed + worker.id)
    np.random.seed(np.random.SeedSequence([worker.id, seed & 0xFFFFFFFF, seed >> 32]).generate_state(4))
    return seed


class EpochLoader(DataLoader):
    """A DataLoader with persistent workers, equal in every number to one without.

    Its data set calls `reseed` in `__getitems__`. Data sets with a method `prepare` have it called before an epoch.
    """

    def __init__(self, dataset: Any, num_workers: int = 0, **settings: Any) -> None:
        super().__init__(dataset, num_workers=num_workers, persistent_workers=num_workers > 0, **settings)
        self._started = self._running = False
        if num_workers > 0:
            self._marks = _SeededBatches(self.batch_sampler)
            self.__dict__["batch_sampler"] = self._marks  # torch refuses the plain assignment, and means it well

    def __iter__(self) -> Any:
        prepare = getattr(self.dataset, "prepare", None)
        if prepare is not None:
            prepare(self.num_workers)
        if self.num_workers == 0:
            return super().__iter__()
        if self._running:  # an epoch within an epoch has workers of its own
            self._marks.seed = None
            return self._get_iterator()
        if self._started:
            self._marks.seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator))
        else:
            self._marks.seed = None
        self._started = self._running = True
        return self._watched(super().__iter__())

    def _watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        finally:
            self._running = False
