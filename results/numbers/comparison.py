"""All pairs of methods of a tree, compared on the images that they share.

A pair is compared where its test images are the same, seed by seed, and refused with a reason where that cannot be.
What is found is corrected for the number of comparisons, and summed up over data sets.  Runs of different kinds are
never mixed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from runs.files import ResultsError
from runs.methods import group
from runs.predictions import correct_images, images_of, read_predictions
from runs.record import Run

from .cells import ZERO_SHOT, Cell
from .paired import Difference, Paired, average_differences, paired
from .summary import Kind, Section, Summary

MOST_EXACT = 13  # data sets of which all patterns of signs are counted
UNSEEDED = -1  # in place of a seed, where a run stands for every seed


class NotComparable(Exception):
    """Two cells that cannot be compared: a short reason, and in the message what one finds out on request."""

    def __init__(self, reason: str, detail: Callable[[], str]) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        """Return reason and detail."""
        return f"{self.reason}: {self.detail()}"


# --- one pair --------------------------------------------------------------------------------------------


class Matched(NamedTuple):
    """What two cells have in common."""

    difference: Paired  # first minus second
    seeds: tuple[int, ...]
    note: str  # which seeds were left out; "" where none


def compare_cells(first: Cell, second: Cell, draws: int = 0) -> Matched:
    """Compare two methods in one place on the seeds that they share.

    The one run of a method without training stands for every seed.

    Parameters
    ----------
    first, second
        Of one data set and kind.
    draws
        Of the bootstrap (`paired`).

    Raises
    ------
    NotComparable
        Where they share no run, images or seed.
    """
    a, b = _by_seed(first), _by_seed(second)
    pairs = _common_seeds(a, b)
    if not pairs:
        raise NotComparable("no common seed", lambda: f"{_seeds(a)} and {_seeds(b)}")
    every = dict.fromkeys(run for pair in pairs.values() for run in pair)
    correct = {run: images for run in every if (images := correct_images(run)) is not None}
    kept = {seed: pair for seed, pair in pairs.items() if correct.keys() >= {*pair}}
    if not kept:
        lacking = next(run for run in every if run not in correct)
        raise NotComparable(
            "no predictions kept", lambda: f"{lacking.folder}; test the run again (train.py --eval-only)"
        )
    reference, *others = dict.fromkeys(run for pair in kept.values() for run in pair)
    for run in others:
        if images_of(run) != images_of(reference):
            raise NotComparable("other images", partial(_how_many_differ, reference, run))
    sizes = {len(correct[run]) for run in (reference, *others)}
    if len(sizes) > 1 or min(sizes) < 2:
        raise NotComparable("no two images", lambda: f"{reference.folder} and others have {sorted(sizes)} of them")
    rows, against = (np.stack([correct[pair[side]] for pair in kept.values()]) for side in (0, 1))  # (S, n) each
    left_out = {*a, *b} - kept.keys() - {UNSEEDED}
    note = f"only {_seeds(kept)}; of {_seeds(left_out)} not both have predictions" if left_out else ""
    return Matched(paired(rows, against, draws), tuple(kept), note)


def _by_seed(cell: Cell) -> dict[int, Run]:
    """Return the runs by seed; {UNSEEDED: run} of a method without training, whose run stands for every seed."""
    if not cell.runs:
        raise NotComparable("no run", lambda: "one of the two has none here")
    if not cell.runs[0].trained:
        return {UNSEEDED: cell.runs[0]}
    return {run.seed: run for run in cell.runs if run.seed >= 0}


def _common_seeds(first: Mapping[int, Run], second: Mapping[int, Run]) -> dict[int, tuple[Run, Run]]:
    """Pair the runs of `_by_seed`."""
    if UNSEEDED in first:
        return {seed: (first[UNSEEDED], run) for seed, run in second.items()}
    if UNSEEDED in second:
        return {seed: (run, second[UNSEEDED]) for seed, run in first.items()}
    return {seed: (first[seed], second[seed]) for seed in first if seed in second}


def _seeds(seeds: Iterable[int]) -> str:
    """Name seeds: "seed 1", "seeds 1, 2"."""
    numbers = sorted(seeds)
    return f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}" if numbers else "runs without a seed"


def _how_many_differ(first: Run, second: Run) -> str:
    """Say how many images and labels of two tests are not the same, by their files."""
    try:
        tests = [read_predictions(run.folder / run.record["predictions"]["file"]) for run in (first, second)]
    except ResultsError as error:
        return f"how many cannot be said, {error}"
    lines = [Counter(zip(test.images.tolist(), test.labels.tolist(), strict=True)) for test in tests]
    only = [(lines[0] - lines[1]).total(), (lines[1] - lines[0]).total()]
    where = f"{first.folder} and {second.folder}"
    if not any(only):
        return f"the same ones in another order ({where})"
    return f"{only[0]} of {len(tests[0])} and {only[1]} of {len(tests[1])} are not in the other test ({where})"


# --- all pairs of a tree ---------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where two methods meet; `second` is what `first` is compared with."""

    dataset: str
    kind: Kind
    shots: int
    first: str
    second: str

    @property
    def row(self) -> tuple[Kind, int, str, str]:
        """All but the data set."""
        return self.kind, self.shots, self.first, self.second


@dataclass(frozen=True)
class Pair:
    """A comparison in one place, and its p values after Holm's correction."""

    place: Place
    difference: Paired
    seeds: tuple[int, ...]  # UNSEEDED alone where neither method has any
    note: str = ""
    p_holm: float = math.nan  # over all pairs of the comparison
    mcnemar_holm: tuple[float, ...] = ()  # by seed, over all pairs with that seed


@dataclass(frozen=True)
class Total:
    """A pair over the data sets where it was compared; its place has no data set."""

    place: Place
    difference: Difference  # the mean over data sets
    by_dataset: tuple[Paired, ...]
    p_holm: float = math.nan  # over all totals

    @property
    def record(self) -> tuple[int, int, int]:
        """Data sets that the first method wins, that are ties, and that it loses; a tie is within the interval."""
        winners = Counter(pair.winner for pair in self.by_dataset)
        return winners[1], winners[0], winners[-1]

    @property
    def wilcoxon(self) -> float:
        """Two-sided p of the signed-rank test on the mean differences of the data sets; 1 where all are 0."""
        from scipy.stats import permutation_test, rankdata, wilcoxon

        values = np.array([round(pair.difference, 9) for pair in self.by_dataset if round(pair.difference, 9)])
        if not len(values):
            return 1.0
        ranks = rankdata(np.abs(values))
        if len(np.unique(ranks)) == len(ranks) or len(ranks) > MOST_EXACT:
            return float(wilcoxon(values).pvalue)
        # with ties scipy goes through all signs one by one, for seconds; the same sums of signed ranks, all at once
        signed = (np.sign(values) * ranks,)
        return float(permutation_test(signed, np.sum, permutation_type="samples", n_resamples=math.inf).pvalue)

    @property
    def wilcoxon_least(self) -> float:
        """Least p that so many data sets can give: all signs alike, of 2^J equally likely ones."""
        return 2 / 2 ** len(self.by_dataset)


@dataclass
class Comparison:
    """What `compare` found."""

    pairs: list[Pair]
    totals: list[Total]  # of pairs that were compared on several data sets
    refused: list[tuple[Place, str]] = field(default_factory=list)  # where, and why


def compare(
    summary: Summary,
    methods: Sequence[str] = (),
    against: str | None = None,
    shots: Sequence[int] = (),
    draws: int = 0,
) -> Comparison:
    """Compare all pairs of methods.

    Parameters
    ----------
    summary
        Of the runs.
    methods
        Only these, the earlier minus the later one; default: all, and the later in the summary minus the earlier, so
        that training is compared with none.
    against
        Only pairs with this method, the other one minus it.
    shots
        Only these numbers; default: all.
    draws
        Of the bootstrap (`paired`).
    """
    names = list(methods or reversed(summary.methods))
    chosen = [(name, against) for name in names if name != against] if against else itertools.combinations(names, 2)
    pairs: dict[Place, Pair] = {}
    refused = {}
    for (first, second), section in itertools.product(list(chosen), summary.sections):
        for place, cells in _places(section, first, second):
            if (shots and place.shots not in shots) or place in pairs or place in refused:
                continue
            try:
                pairs[place] = Pair(place, *compare_cells(*cells, draws))
            except NotComparable as reason:
                refused[place] = str(reason)
    corrected = _corrected(list(pairs.values()))
    return Comparison(corrected, _totals(corrected), list(refused.items()))


def _places(section: Section, first: str, second: str) -> Iterator[tuple[Place, tuple[Cell, Cell]]]:
    """Yield every number of shots at which two methods meet, and their cells.

    Methods without training meet trained ones at all of theirs, and each other at 0, in whatever draw.
    """
    for shots in section.shots:
        own = [section.cell(name, shots) for name in (first, second)]
        if not any(own):
            continue
        a, b = (cell or section.cell(name, ZERO_SHOT) for cell, name in zip(own, (first, second), strict=True))
        if a is None or b is None or (shots == ZERO_SHOT and not all(own)):
            continue
        kind = section.kind._replace(draw="") if shots == ZERO_SHOT else section.kind
        yield Place(section.dataset, kind, shots, first, second), (a, b)


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """Add Holm's p values: of the differences over all pairs, of McNemar's tests over the pairs of each seed."""
    overall = holm([pair.difference.p for pair in pairs])
    by_seed: dict[int, dict[Place, float]] = {}
    for seed in {seed for pair in pairs for seed in pair.seeds}:
        having = [pair for pair in pairs if seed in pair.seeds]
        values = holm([pair.difference.mcnemar[pair.seeds.index(seed)] for pair in having])
        by_seed[seed] = {pair.place: value for pair, value in zip(having, values, strict=True)}
    return [
        replace(pair, p_holm=p, mcnemar_holm=tuple(by_seed[seed][pair.place] for seed in pair.seeds))
        for pair, p in zip(pairs, overall, strict=True)
    ]


def _totals(pairs: Sequence[Pair]) -> list[Total]:
    """Sum up pairs over data sets."""
    rows = [members for members in group(pairs, lambda pair: pair.place.row).values() if len(members) > 1]
    by_row = [tuple(pair.difference for pair in members) for members in rows]
    means = list(map(average_differences, by_row))
    return [
        Total(members[0].place._replace(dataset=""), mean, differences, p)
        for members, mean, differences, p in zip(
            rows, means, by_row, holm([mean.p for mean in means]), strict=True
        )
    ]  # fmt: skip


def holm(values: Sequence[float]) -> list[float]:
    """Correct p values of one family so that any false finding among them stays as rare as for one (Holm, 1979).

    statsmodels has it too, and has Python collect its garbage at every call: a second for the families of few seeds.
    """
    order = np.argsort(values)
    m = len(order)
    # The k-th smallest (k = 0, 1, ...) is one of m - k that are still in question; none may be below the one before it
    steps = np.maximum.accumulate(np.asarray(values, float)[order] * np.arange(m, 0, -1))
    corrected = np.empty(m)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected.tolist()
