"""What tables are made of: the accuracies of one method in one place, their spread, and averages over data sets.

A cell is one method on one data set at one number of shots.  It holds one result a seed, and knows how many were
expected, so that a mean over fewer seeds is never shown as if it were whole.  Both ways of finding results share it:
`summary` (from records) and `protocols` (from the folder names of published code).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from runs.record import Run

ZERO_SHOT = 0  # the column of methods that saw no training image
ALL_IMAGES = -1  # ... of methods that saw every one
COLUMNS = {"accuracy": "", "balanced": "balanced", "macro_f1": "macro F1", "worst": "worst class"}  # and their heads
ABSENT = "–"  # what tables show in place of a number that there is not


class Spread(NamedTuple):
    """Mean and spread of `n` values.

    `std` is the population standard deviation (ddof 0), as the literature of this family reports it.
    """

    mean: float
    std: float
    n: int

    @property
    def deviation(self) -> float | None:
        """`std` where there is one: a single value says nothing of how values spread."""
        return self.std if self.n > 1 else None


def spread(values: Iterable[float]) -> Spread:
    """Average values; mean and std are NaN where any of them is not finite.

    Raises
    ------
    ValueError
        For no values at all.
    """
    values = list(values)
    if not values:
        raise ValueError("no values to average")
    if not all(map(math.isfinite, values)):
        return Spread(math.nan, math.nan, len(values))
    return Spread(statistics.fmean(values), statistics.pstdev(values), len(values))


@dataclass(frozen=True)
class Cell:
    """The results of one method at one number of shots on one data set.

    Parameters
    ----------
    runs
        One result a seed: `runs.record.Run`, `protocols.Result`, or anything else with a `seed` (-1: unseeded) and an
        `accuracy` in %.
    expected
        How many results the rest of the tree, or the protocol, leads one to expect here.
    """

    runs: Sequence[Any]
    expected: int

    @cached_property
    def accuracy(self) -> Spread | None:
        """Mean and spread over seeds; None without a result."""
        return spread(run.accuracy for run in self.runs) if self.runs else None

    @property
    def mean(self) -> float | None:
        """Mean over seeds in %; None without a result."""
        return self.accuracy.mean if self.accuracy else None

    @property
    def by_seed(self) -> dict[int, float]:
        """{seed: accuracy} of the seeded runs."""
        return {run.seed: run.accuracy for run in self.runs if run.seed >= 0}

    @property
    def missing(self) -> int:
        """How many expected results are not there."""
        return max(0, self.expected - len(self.runs))


def interval(runs: Sequence[Run]) -> tuple[float, float] | None:
    """Return the 95 % interval of an accuracy in %.

    Parameters
    ----------
    runs
        Of one method in one place, a run a seed. A single run has the exact binomial interval over test images (Clopper
        and Pearson); several have one over images and seeds (`paired.paired`, against a method that is never right).

    Returns
    -------
    low, high
        None where the records do not keep which images were right, or the runs were tested on different ones.
    """
    if len(runs) == 1:
        correct, total = (runs[0].record.get(key) for key in ("correct", "total"))
        if not total or correct is None:
            return None
        from scipy.special import betaincinv

        low = betaincinv(correct, total - correct + 1, 0.025) if correct else 0.0
        high = betaincinv(correct + 1, total - correct, 0.975) if correct < total else 1.0
        return float(100 * low), float(100 * high)
    import numpy as np

    from runs.predictions import correct_images, images_of

    from .paired import paired

    right = [images for run in runs if images_of(run) and (images := correct_images(run)) is not None]
    if len(right) < len(runs) or not right or len({images_of(run) for run in runs}) > 1:
        return None
    difference = paired(np.stack(right), np.zeros((1, right[0].size), dtype=bool))
    return max(0.0, difference.low), min(100.0, difference.high)


class Average(NamedTuple):
    """Mean over data sets of the means over seeds; `n` of `expected` data sets have one."""

    mean: float | None
    n: int
    expected: int
    missing: int  # runs that its cells lack
    by_seed: tuple[float, ...] = ()  # mean over data sets of each seed, where all have the same seeds

    @property
    def whole(self) -> bool:
        """Whether no run is missing behind it."""
        return not self.missing

    @property
    def comparable(self) -> float | None:
        """The mean where every data set has one: a mean over fewer data sets ranks with no other."""
        return self.mean if self.n == self.expected else None


def average(cells: Sequence[Cell]) -> Average:
    """Average one method's cells of several data sets."""
    means = [cell.mean for cell in cells if cell.mean is not None]
    seeds = cells[0].by_seed.keys()
    alike = all(cell.by_seed.keys() == seeds for cell in cells)
    return Average(
        statistics.fmean(means) if means else None,
        len(means),
        len(cells),
        sum(cell.missing for cell in cells),
        tuple(statistics.fmean(cell.by_seed[seed] for cell in cells) for seed in sorted(seeds)) if alike else (),
    )


def shots_name(shots: int) -> str:
    """Name a number of shots in a column of numbers: "16", or "all"."""
    return "all" if shots == ALL_IMAGES else str(shots)


def shots_text(shots: int) -> str:
    """Name a number of shots in a sentence or heading: "0 shots", "1 shot", "all images"."""
    return {1: "1 shot", ALL_IMAGES: "all images"}.get(shots, f"{shots} shots")
