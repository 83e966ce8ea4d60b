"""Worker processes that stay from one epoch to the next, and give the random numbers that fresh ones would give.

A few-shot epoch is a few batches, less work than starting eight processes. Keeping them must not change what is drawn:
torch seeds fresh workers from a number that it draws from the global generator at the start of each epoch, and a
resumed run repeats an epoch exactly because it restores that generator. So this loader makes the same draw, at the same
moment, and sends the number along with the batches; a worker that meets a new number seeds itself as a fresh one would.

Workers have copies of the data set. When an epoch begins, and the data set is not what it was when they started, down
to whatever can be reached from it, they are replaced by fresh ones. Where that cannot be told, because something in it
cannot be pickled, every epoch has fresh ones.
"""
from __future__ import annotations

import hashlib
import pickle
import random
import weakref
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

__all__ = ["EpochLoader", "reseed"]


class SeededBatch(list[int]):
    """Positions of a batch, and the number that its epoch's workers are seeded from (None: they are fresh)."""

    seed: int | None = None


class _SeededBatches:
    """The batches of a sampler, each marked with the number of the epoch (`seed`, set before it begins)."""

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
    """Seed this worker's generators at the start of an epoch, as torch seeds those of a fresh worker.

    Data sets call this before they load a batch.

    Parameters
    ----------
    positions : iterable of int
        The batch as the sampler gives it, which carries the number of its epoch; any other changes nothing.
    last : int or None
        What the call before returned.

    Returns
    -------
    int or None
        The number that this worker is seeded from.
    """
    seed = getattr(positions, "seed", None)
    worker = get_worker_info()
    if seed is None or seed == last or worker is None:
        return last
    # torch.utils.data gives worker w these seeds from the number that it draws for an epoch
    random.seed(seed + worker.id)
    torch.manual_seed(seed + worker.id)
    np.random.seed(np.random.SeedSequence([worker.id, seed & 0xFFFFFFFF, seed >> 32]).generate_state(4))
    return seed


def _contents(value: Any) -> bytes | None:
    """Return a digest of all that `value` refers to; None if something in it cannot be pickled.

    Functions and classes count by their names: it does not see what changes in a module or a class.
    """
    digest = hashlib.blake2b()
    file: Any = SimpleNamespace(write=digest.update)  # a million images need not be in memory twice
    try:
        pickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception:  # objects of others say in their own ways that they cannot be pickled
        return None
    return digest.digest()


class _Epoch:
    """The batches of one epoch; `over` when all were given, or one failed."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.over = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._batches)
        except BaseException:
            self.over = True
            raise

    def __len__(self) -> int:
        return len(self._batches)


class EpochLoader(DataLoader):
    """A DataLoader with persistent workers, equal in every number to one without.

    Its data set must call `reseed` in `__getitems__`. Data sets with a method `prepare` have it called before an
    epoch, with the number of workers. What a worker changes in its own copy of the data set stays there until the
    worker is replaced.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    num_workers : int
        Worker processes; with 0 this is torch's loader.
    **settings
        As for torch's DataLoader.
    """

    def __init__(self, dataset: Any, num_workers: int = 0, **settings: Any) -> None:
        super().__init__(dataset, num_workers=num_workers, persistent_workers=num_workers > 0, **settings)
        self._marks = _SeededBatches(self.batch_sampler)
        self._copied: bytes | None = None  # what the workers have copies of
        self._epoch: weakref.ref[_Epoch] | None = None  # that they are, or were, busy with

    @property
    def _index_sampler(self) -> Any:
        """What torch takes the positions of the batches from."""
        return self._marks if self.num_workers > 0 else super()._index_sampler

    def __iter__(self) -> Any:
        prepare = getattr(self.dataset, "prepare", None)
        if prepare is not None:
            prepare(self.num_workers)
        self._marks.seed = None
        if self.num_workers == 0 or not self.persistent_workers:
            return super().__iter__()
        epoch = self._epoch() if self._epoch is not None else None
        if epoch is not None and not epoch.over:  # an epoch within an epoch has workers of its own
            return self._get_iterator()
        contents = _contents((self.dataset, self.num_workers, self.collate_fn, self.worker_init_fn))
        if contents is None or contents != self._copied:
            self._iterator = None  # which ends its workers; torch starts new ones, and makes the draw
        if self._iterator is not None:
            self._marks.seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator))
        self._copied = contents
        epoch = _Epoch(super().__iter__())
        self._epoch = weakref.ref(epoch)
        return epoch

    def end_workers(self) -> None:
        """End the worker processes now; an epoch that follows starts new ones.

        Left to the garbage collector, a loader that is part of a cycle (a trainer's is) takes five seconds for each
        worker: the collector closes the queues first, and then the message that ends the workers cannot be sent.
        """
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]
            self._iterator = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the workers out: a copy has none yet."""
        return self.__dict__ | {"_iterator": None, "_epoch": None}
