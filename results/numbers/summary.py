"""From run records to cells: a section for every data set, in it every method at every number of shots.

What a tree of runs should hold is not written down anywhere, so it is inferred: every method is expected on every data
set at all numbers of shots and with all seeds that occur anywhere among runs of the same kind (the same part of the
classes, the same split).  A crashed seed is thus missed, not averaged away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runs.methods import data_names, data_path, group, name_methods
from runs.record import Run

from .cells import ALL_IMAGES, ZERO_SHOT, Average, Cell, average, shots_text


@dataclass
class Section:
    """All methods on one data set (one part of its classes, one split)."""

    dataset: str
    classes: str  # all, base or new
    split: str  # test or val
    methods: list[str]
    shots: list[int]  # ascending; ZERO_SHOT first, ALL_IMAGES last
    cells: dict[tuple[str, int], Cell]  # by method and shots

    @property
    def title(self) -> str:
        """The data set and what is special: "DTD", "DTD, new classes", "DTD, val split"."""
        return self.dataset + qualifier(self.classes, self.split)

    @property
    def headings(self) -> list[str]:
        """The heads of its columns: "0 shots", "1 shot", ..."""
        return list(map(shots_text, self.shots))

    def cell(self, method: str, shots: int) -> Cell | None:
        """None where nothing is expected: a trained method at 0 shots, an untrained one elsewhere."""
        return self.cells.get((method, shots))

    def runs(self, method: str = "") -> list[Run]:
        """Every counted run, of one method or of all."""
        return [run for (name, _), cell in self.cells.items() if method in ("", name) for run in cell.runs]

    @property
    def missing(self) -> int:
        """How many expected runs are not there."""
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
        """How many expected runs are not there."""
        return sum(section.missing for section in self.sections)

    @property
    def whole(self) -> bool:
        """Whether nothing is missing and no run is unfinished."""
        return not self.missing and not self.incomplete

    @property
    def complete_runs(self) -> list[Run]:
        """Every counted run."""
        return [run for section in self.sections for run in section.runs()]

    def runs_by_method(self) -> dict[str, list[Run]]:
        """List the counted runs of every method that has one."""
        runs = {method: [run for section in self.sections for run in section.runs(method)] for method in self.methods}
        return {method: members for method, members in runs.items() if members}


def summarise(runs: Sequence[Run]) -> Summary:
    """Sort runs into sections and cells.

    Of several complete runs in one place (a training and its evaluation, an accidental second one) the training counts,
    and of these the newest; unseeded runs are repetitions in their own right.

    Parameters
    ----------
    runs
        Complete or not, of any methods and data sets.  Those that do not even name trainer and data set are counted
        among the incomplete ones only.
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
                seeded = any(run.seed >= 0 for run in kind if method_of[run] == name)  # else it has one run
                here = [run for run in members if method_of[run] == name and run.complete]
                for count in sorted(shots) if methods[name][0].trained else [ZERO_SHOT]:
                    chosen, rest = _one_per_seed([run for run in here if run.shots == count])
                    cells[name, count] = Cell(chosen, len(seeds) if seeded else 1)
                    repeated += rest
            columns = sorted({count for _, count in cells}, key=lambda count: (count == ALL_IMAGES, count))
            title = f"{dataset} ({names_of_data[path]})" if path else dataset
            sections.append(Section(title, classes, split, names, columns, cells))
    sections.sort(key=lambda section: section.title)
    return Summary(sections, list(methods), [run for run in runs if not run.complete], repeated)


def _one_per_seed(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Return (the runs that count, the others)."""
    chosen, rest = [], []
    for seed, members in sorted(group(runs, lambda run: run.seed).items()):
        members.sort(key=lambda run: (run.record.get("mode") == "train", str(run.record.get("finished", ""))))
        kept = members if seed < 0 and members[0].trained else members[-1:]
        chosen += kept
        rest += [run for run in members if run not in kept]
    return chosen, rest


def qualifier(classes: str, split: str) -> str:
    """Say what a title adds for a part of the classes, or for another split than test."""
    subset = "" if classes == "all" else f", {classes} classes"
    return subset + ("" if split == "test" else f", {split} split")


@dataclass
class Averages:
    """The average over all data sets of one kind (part of the classes, split), by method and shots."""

    like: Section  # any of its sections: they have the same methods and shots
    count: int  # data sets
    cells: dict[tuple[str, int], Average]

    @property
    def title(self) -> str:
        """For instance "2 data sets, new classes"."""
        return f"{self.count} data sets" + qualifier(self.like.classes, self.like.split)


def averages(sections: Sequence[Section]) -> list[Averages]:
    """Average each kind of section of which there are several."""
    kinds = group(sections, lambda section: (section.classes, section.split)).values()
    return [
        Averages(
            members[0],
            len(members),
            {key: average([section.cells[key] for section in members]) for key in members[0].cells},
        )
        for members in kinds
        if len(members) > 1
    ]
