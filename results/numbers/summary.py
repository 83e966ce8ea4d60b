"""From run records to cells: a section for every data set, in it every method at every number of shots.

What a tree of runs should hold is not written down anywhere, so it is inferred: every method is expected on every data
set at all numbers of shots and with all seeds that occur anywhere among runs of the same kind (the same part of the
classes, the same split, the same draw of the few shots).  A crashed seed is thus missed, not averaged away.  Runs of
different kinds are never averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from datasets.draws import PER_CLASS
from runs.methods import data_names, data_path, group, name_methods
from runs.record import Run

from .cells import ALL_IMAGES, ZERO_SHOT, Average, Cell, average, shots_text


class Kind(NamedTuple):
    """What runs must share for their accuracies to be averaged over data sets, or to stand in one table."""

    classes: str  # all, base or new
    split: str  # test or val
    draw: str  # of the few shots: per_class or proportional; "" where nothing was drawn

    @property
    def qualifier(self) -> str:
        """What a title adds for it: nothing for all classes, the test split and the default draw."""
        subset = "" if self.classes == "all" else f", {self.classes} classes"
        split = "" if self.split == "test" else f", {self.split} split"
        return subset + split + ("" if self.draw in ("", PER_CLASS) else f", {self.draw} draw")


@dataclass
class Section:
    """All methods on one data set, for runs of one kind."""

    dataset: str
    kind: Kind
    methods: list[str]
    shots: list[int]  # ascending; ZERO_SHOT first, ALL_IMAGES last
    cells: dict[tuple[str, int], Cell]  # by method and shots

    @property
    def title(self) -> str:
        """The data set and what is special: "DTD", "DTD, new classes", "DTD, proportional draw"."""
        return self.dataset + self.kind.qualifier

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
    def cells(self) -> dict[tuple[str, Kind, str, int], Cell]:
        """{(data set, kind, method, shots): cell}.

        Runs without a draw stand in the sections of every draw, to be compared with: here they are once.
        """
        return {
            (section.dataset, section.kind if shots > 0 else section.kind._replace(draw=""), method, shots): cell
            for section in self.sections
            for (method, shots), cell in section.cells.items()
        }

    @property
    def missing(self) -> int:
        """How many expected runs are not there."""
        return sum(cell.missing for cell in self.cells.values())

    @property
    def whole(self) -> bool:
        """Whether nothing is missing and no run is unfinished."""
        return not self.missing and not self.incomplete

    @property
    def complete_runs(self) -> list[Run]:
        """Every counted run, once."""
        return [run for cell in self.cells.values() for run in cell.runs]

    def runs_by_method(self) -> dict[str, list[Run]]:
        """List the counted runs of every method that has one."""
        runs: dict[str, list[Run]] = {method: [] for method in self.methods}
        for (_, _, method, _), cell in self.cells.items():
            runs[method] += cell.runs
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
    for kind, alike in _kinds(placed):
        names = [name for name in methods if any(method_of[run] == name for run in alike)]
        seeds = {run.seed for run in alike if run.seed >= 0}
        shots = {run.shots for run in alike if run.trained}
        for (dataset, path), members in group(alike, _data).items():
            cells: dict[tuple[str, int], Cell] = {}
            for name in names:
                seeded = any(run.seed >= 0 for run in alike if method_of[run] == name)  # else it has one run
                here = [run for run in members if method_of[run] == name and run.complete]
                for count in sorted(shots) if methods[name][0].trained else [ZERO_SHOT]:
                    chosen, rest = _one_per_seed([run for run in here if run.shots == count])
                    cells[name, count] = Cell(chosen, len(seeds) if seeded else 1)
                    repeated += [run for run in rest if run not in repeated]
            columns = sorted({count for _, count in cells}, key=lambda count: (count == ALL_IMAGES, count))
            title = f"{dataset} ({names_of_data[path]})" if path else dataset
            sections.append(Section(title, kind, names, columns, cells))
    sections.sort(key=lambda section: section.title)
    return Summary(sections, list(methods), [run for run in runs if not run.complete], repeated)


def _data(run: Run) -> tuple[str, str]:
    """Return what tells data sets apart: the name, and of the user's own pictures the path."""
    return run.dataset, data_path(run)


def _kinds(runs: Sequence[Run]) -> Iterator[tuple[Kind, list[Run]]]:
    """Yield every kind with its runs.

    Runs without a draw (zero-shot, or of all images) can be compared with those of any, so they belong to each draw,
    except on data sets where there are only runs of other draws.
    """
    for (classes, split), together in group(runs, lambda run: (run.classes, run.split)).items():
        drawn = group((run for run in together if run.draw), lambda run: run.draw)
        data_of = {draw: set(map(_data, members)) for draw, members in drawn.items()}
        for draw in sorted(drawn) or [""]:
            elsewhere = {data for known in data_of.values() for data in known} - data_of.get(draw, set())
            undrawn = [run for run in together if not run.draw and _data(run) not in elsewhere]
            yield Kind(classes, split, draw), [*undrawn, *drawn.get(draw, [])]


def _one_per_seed(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Return (the runs that count, the others)."""
    chosen, rest = [], []
    for seed, members in sorted(group(runs, lambda run: run.seed).items()):
        members.sort(key=lambda run: (run.record.get("mode") == "train", str(run.record.get("finished", ""))))
        kept = members if seed < 0 and members[0].trained else members[-1:]
        chosen += kept
        rest += [run for run in members if run not in kept]
    return chosen, rest


@dataclass
class Averages:
    """The average over all data sets of one kind, by method and shots."""

    sections: list[Section]  # with the same methods and shots
    cells: dict[tuple[str, int], Average]

    @property
    def like(self) -> Section:
        """One of its sections, for what all have in common."""
        return self.sections[0]

    @property
    def title(self) -> str:
        """For instance "2 data sets, new classes"."""
        return f"{len(self.sections)} data sets" + self.like.kind.qualifier


def averages(sections: Sequence[Section]) -> list[Averages]:
    """Average each kind of section of which there are several."""
    kinds = group(sections, lambda section: section.kind).values()
    return [
        Averages(
            members,
            {key: average([section.cells[key] for section in members]) for key in members[0].cells},
        )
        for members in kinds
        if len(members) > 1
    ]
