"""From runs to numbers: a section a data set, methods by shots, mean and spread over seeds, gaps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runs.methods import data_names, data_path, group, name_methods
from runs.record import Run

ZERO_SHOT = 0  # the column of methods that saw no training image
ALL_IMAGES = -1  # ... of methods that saw every one


class Spread(NamedTuple):
    """`n` values; `std` is the population standard deviation (ddof 0), as the original reports it."""

    mean: float
    std: float
    n: int

    @property
    def deviation(self) -> float | None:
        """`std`, where there is one: a single value says nothing of how values spread."""
        return self.std if self.n > 1 else None


def spread(values: Iterable[float]) -> Spread:
    """Raises ValueError for no values."""
    values = list(values)
    if not values:
        raise ValueError("no values to average")
    if not all(map(math.isfinite, values)):
        return Spread(math.nan, math.nan, len(values))
    return Spread(statistics.fmean(values), statistics.pstdev(values), len(values))


@dataclass
class Cell:
    """The runs of one method at one number of shots, one a seed."""

    runs: list[Run]
    expected: int  # how many runs the other cells of the tree lead one to expect

    @property
    def accuracy(self) -> Spread | None:
        return spread(run.accuracy for run in self.runs) if self.runs else None

    @property
    def missing(self) -> int:
        return max(0, self.expected - len(self.runs))


@dataclass
class Section:
    """All methods on one data set (one class subset, one split)."""

    dataset: str
    classes: str
    split: str
    methods: list[str]
    shots: list[int]  # ascending; ZERO_SHOT first, ALL_IMAGES last
    cells: dict[tuple[str, int], Cell]

    @property
    def title(self) -> str:
        """ "DTD", "DTD, new classes", "DTD, val split"."""
        return self.dataset + qualifier(self.classes, self.split)

    def cell(self, method: str, shots: int) -> Cell | None:
        """None where nothing is expected: a trained method at 0 shots, an untrained one elsewhere."""
        return self.cells.get((method, shots))

    @property
    def missing(self) -> int:
        return sum(cell.missing for cell in self.cells.values())


@dataclass
class Summary:
    """Everything that a table, a curve and the report show."""

    sections: list[Section]
    methods: list[str]  # across all sections
    incomplete: list[Run] = field(default_factory=list)
    repeated: list[Run] = field(default_factory=list)  # complete, but another run stands in its place

    @property
    def missing(self) -> int:
        return sum(section.missing for section in self.sections)

    @property
    def whole(self) -> bool:
        return not self.missing and not self.incomplete

    @property
    def complete_runs(self) -> list[Run]:
        return [run for section in self.sections for cell in section.cells.values() for run in cell.runs]


def summarise(runs: Sequence[Run]) -> Summary:
    """Sort `runs` into sections and cells.

    Expected of every method and data set: the numbers of shots and the seeds that occur anywhere in `runs`, for the
    same part of the classes and the same split.  Of several complete runs in one place (a training and its evaluation,
    an accidental second one) the training counts, and of these the newest; unseeded runs are repetitions in their own
    right.
    """
    methods = name_methods(runs)
    method_of = {run: name for name, members in methods.items() for run in members}
    placed = [run for run in runs if run in method_of and run.dataset]
    names_of_data = data_names({data_path(run) for run in placed})
    sections, repeated = [], []
    for (classes, split), kind in group(placed, lambda run: (run.classes, run.split)).items():
        names = [name for name in methods if any(method_of[run] == name for run in kind)]
        seeds = {run.seed for run in kind if run.seed >= 0}
        shots = {run.shots for run in kind if run.trained}
        for (dataset, path), members in group(kind, lambda run: (run.dataset, data_path(run))).items():
            cells: dict[tuple[str, int], Cell] = {}
            for name in names:
                expected = _expected([run for run in kind if method_of[run] == name], seeds)
                here = [run for run in members if method_of[run] == name and run.complete]
                for count in sorted(shots) if methods[name][0].trained else [ZERO_SHOT]:
                    chosen, rest = _one_per_seed([run for run in here if run.shots == count])
                    cells[name, count] = Cell(chosen, expected)
                    repeated += rest
            columns = sorted({count for _, count in cells}, key=lambda count: (count == ALL_IMAGES, count))
            title = f"{dataset} ({names_of_data[path]})" if path else dataset
            sections.append(Section(title, classes, split, names, columns, cells))
    sections.sort(key=lambda section: section.title)
    return Summary(sections, list(methods), [run for run in runs if not run.complete], repeated)


def _one_per_seed(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    chosen, rest = [], []
    for seed, members in sorted(group(runs, lambda run: run.seed).items()):
        members.sort(key=lambda run: (run.record.get("mode") == "train", str(run.record.get("finished", ""))))
        kept = members if seed < 0 and members[0].trained else members[-1:]
        chosen += kept
        rest += [run for run in members if run not in kept]
    return chosen, rest


def _expected(runs: list[Run], seeds: set[int]) -> int:
    """One run of a method without training, or of one that was never seeded; else one for every seed."""
    return len(seeds) if any(run.seed >= 0 for run in runs) else 1


def qualifier(classes: str, split: str) -> str:
    """What a title adds for a part of the classes, or for another split than test."""
    subset = "" if classes == "all" else f", {classes} classes"
    return subset + ("" if split == "test" else f", {split} split")


class Average(NamedTuple):
    """Mean over data sets of the means over seeds; `n` of `expected` data sets have one."""

    mean: float | None
    n: int
    expected: int
    missing: int  # runs that its cells lack
    by_seed: tuple[float, ...] = ()  # mean over data sets of each seed, where all have the same seeds

    @property
    def whole(self) -> bool:
        return not self.missing


def averages(sections: Sequence[Section]) -> list[tuple[Section, dict[tuple[str, int], Average]]]:
    """For each kind of section (classes, split) with several data sets: (one of them, averages by cell)."""
    found = []
    for members in group(sections, lambda section: (section.classes, section.split)).values():
        if len(members) < 2:
            continue
        cells = {}
        for key in members[0].cells:
            held = [section.cells[key] for section in members]
            means = [cell.accuracy.mean for cell in held if cell.accuracy]
            missing = sum(cell.missing for cell in held)
            mean = statistics.fmean(means) if means else None
            cells[key] = Average(mean, len(means), len(members), missing, _averages_by_seed(held))
        found.append((members[0], cells))
    return found


def _averages_by_seed(cells: Sequence[Cell]) -> tuple[float, ...]:
    by_seed = [{run.seed: run.accuracy for run in cell.runs if run.seed >= 0} for cell in cells]
    seeds = by_seed[0].keys()
    if any(values.keys() != seeds for values in by_seed):
        return ()
    return tuple(statistics.fmean(values[seed] for values in by_seed) for seed in sorted(seeds))
