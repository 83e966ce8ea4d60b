"""The order in which a loader visits the data: torch's samplers, and three that balance domains or classes.

All three draw as the original engine does, from Python's global `random` (and NumPy's, for classes that are too
small): an epoch when they are built, to learn its length, and one whenever they are iterated. So a seed gives the
original's order, and a saved random state repeats an epoch exactly.
"""
from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from dassl.config.values import SAMPLERS
from dassl.utils import check_availability


def _positions_by(attribute: str, data_source: Sequence[Any]) -> dict[int, list[int]]:
    """Return value of the attribute -> positions of its items, both in the order first seen."""
    groups: dict[int, list[int]] = {}
    for position, item in enumerate(data_source):
        groups.setdefault(getattr(item, attribute), []).append(position)
    return groups


class _DrawnSampler(Sampler[int]):
    """An epoch is drawn as a whole, and where a draw ends is up to chance.

    Trainers count batches to know which one is the last (there they step their schedule), so every epoch must have
    the length that was announced: draws that are too short are repeated, those that are too long are cut. (The
    original steps too early, or never, in such epochs.)
    """

    length: int

    def _draw(self) -> list[int]:
        """Return the positions of a whole epoch, in order."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        order = self._draw()
        while len(order) < self.length:
            order = self._draw()
        return iter(order[: self.length])

    def __len__(self) -> int:
        return self.length


class _DomainSampler(_DrawnSampler):
    """Every batch: equally many random items of each of `n_domain` domains, none twice in an epoch.

    An epoch ends when one of all domains can no longer fill its share.
    """

    def __init__(self, data_source: Sequence[Any], batch_size: int, n_domain: int = 0) -> None:
        self.data_source = data_source
        self.domain_dict = _positions_by("domain", data_source)
        self.domains = list(self.domain_dict)
        self.n_domain = n_domain if n_domain and n_domain > 0 else len(self.domains)
        if self.n_domain > len(self.domains):
            raise ValueError(f"N_DOMAIN is {n_domain}, but the data has only {len(self.domains)} domains")
        if batch_size % max(self.n_domain, 1) != 0:
            raise ValueError(
                f"BATCH_SIZE {batch_size} cannot be divided evenly among {self.n_domain} domains; set it to a "
                f"multiple of {self.n_domain}"
            )
        self.batch_size = batch_size
        self.n_img_per_domain = batch_size // max(self.n_domain, 1)
        self.length = len(self._draw())

    def _choose(self) -> list[int]:
        """Return the domains of the next batch."""
        raise NotImplementedError

    def _draw(self) -> list[int]:
        share = self.n_img_per_domain
        left = {domain: list(positions) for domain, positions in self.domain_dict.items()}
        order: list[int] = []
        while left and all(len(positions) >= share for positions in left.values()):
            for domain in self._choose():
                rest = left[domain]
                # drawing places picks what random.sample(rest, share) picks, and lets them be taken out at once
                places = random.sample(range(len(rest)), share)
                order += [rest[place] for place in places]
                for place in sorted(places, reverse=True):
                    del rest[place]
        return order


class RandomDomainSampler(_DomainSampler):
    """Every batch: `n_domain` random domains, equally many random items of each.

    Parameters
    ----------
    data_source : sequence of Datum
        The images.
    batch_size : int
        Images of a batch; `n_domain` must divide it.
    n_domain : int
        Domains of a batch; 0 or less: all. More than there are is a ValueError.
    """

    def _choose(self) -> list[int]:
        return random.sample(self.domains, self.n_domain)


class SeqDomainSampler(_DomainSampler):
    """Every batch: equally many random items of each domain, the domains in ascending order.

    Raises ValueError when the number of domains does not divide `batch_size`.
    """

    def __init__(self, data_source: Sequence[Any], batch_size: int) -> None:
        super().__init__(data_source, batch_size)

    def _choose(self) -> list[int]:
        return sorted(self.domains)


class RandomClassSampler(_DrawnSampler):
    """Every batch: `batch_size // n_ins` random classes with `n_ins` items of each.

    Classes with fewer items are filled up by drawing with replacement; a class's leftover items (fewer than `n_ins`)
    are left out. An epoch ends when too few classes remain.

    Parameters
    ----------
    data_source : sequence of Datum
        The images.
    batch_size, n_ins : int
        Images of a batch, and of each class in it. A ValueError where `n_ins` exceeds `batch_size`, or where a batch
        needs more classes than there are.
    """

    def __init__(self, data_source: Sequence[Any], batch_size: int, n_ins: int) -> None:
        if n_ins < 1 or batch_size < n_ins:
            raise ValueError(f"N_INS is {n_ins}; it must be between 1 and the batch size, {batch_size}")
        self.data_source = data_source
        self.batch_size = batch_size
        self.n_ins = n_ins
        self.ncls_per_batch = batch_size // n_ins
        self.index_dic = _positions_by("label", data_source)
        self.labels = list(self.index_dic)
        if len(self.labels) < self.ncls_per_batch:
            raise ValueError(
                f"a batch of {batch_size} with N_INS {n_ins} needs {self.ncls_per_batch} classes, "
                f"but the data has {len(self.labels)}; raise N_INS or lower the batch size"
            )
        self.length = len(self._draw())

    def _draw(self) -> list[int]:
        groups: dict[int, list[list[int]]] = {}  # label -> its items in random order, in lists of n_ins
        for label, positions in self.index_dic.items():
            positions = list(positions)
            if len(positions) < self.n_ins:
                positions = np.random.choice(positions, size=self.n_ins, replace=True).tolist()
            random.shuffle(positions)
            starts = range(0, len(positions) - self.n_ins + 1, self.n_ins)
            groups[label] = [positions[start : start + self.n_ins] for start in starts]
        available = list(self.labels)
        order: list[int] = []
        while len(available) >= self.ncls_per_batch:
            for label in random.sample(available, self.ncls_per_batch):
                order += groups[label].pop(0)
                if not groups[label]:
                    available.remove(label)
        return order


def build_sampler(
    sampler_type: str,
    cfg: Any = None,
    data_source: Sequence[Any] | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler[int]:
    """Build the sampler called `sampler_type`.

    Parameters
    ----------
    sampler_type : str
        RandomSampler, SequentialSampler (torch's), RandomDomainSampler, SeqDomainSampler or RandomClassSampler;
        anything else is a ValueError.
    cfg : object
        Not used; plugins give it.
    data_source : sequence of Datum
        The images.
    batch_size, n_domain, n_ins : int
        As the samplers want them.
    """
    check_availability(sampler_type, SAMPLERS, "sampler (DATALOADER.*.SAMPLER)")
    data = data_source or []
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data, batch_size, n_domain)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data, batch_size)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(data, batch_size, n_ins)
    return {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}[sampler_type](data)
