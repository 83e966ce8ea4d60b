"""What became of single classes: accuracy, gain over zero-shot CLIP, and which others they are taken for.

Everything is counted on test images, with mean and spread over seeds; a column is one method at one number of shots.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runs.methods import group
from runs.record import Run

from ..tables.tables import shots_text
from .summary import ZERO_SHOT, Section, Spread, Summary, spread


class Class(NamedTuple):
    """Sorts by label: names may occur twice."""

    label: int
    name: str


class Column(NamedTuple):
    """The runs of one method at one number of shots, one a seed."""

    method: str
    shots: int
    runs: list[Run]

    @property
    def title(self) -> str:
        """ "PLOT N=4, 16 shots"; "ZeroshotCLIP"."""
        if self.shots == ZERO_SHOT:
            return self.method
        return f"{self.method}, {shots_text(self.shots)}"

    @property
    def backbone(self) -> str:
        run = self.runs[0]
        return str(run.config.get("MODEL.BACKBONE.NAME") or run.record.get("backbone"))


def columns(section: Section, shots: int | None = None) -> list[Column]:
    """Every method that has a run there: at `shots`, or else at its most shots; untrained ones at 0 shots."""
    found = []
    for method in section.methods:
        held = {count: cell for count in section.shots if (cell := section.cell(method, count)) and cell.runs}
        most = max(held, key=section.shots.index, default=None)
        count = most if shots is None or most == ZERO_SHOT else shots
        if count in held:
            found.append(Column(method, count, held[count].runs))
    return found


def accuracies(run: Run) -> dict[Class, float]:
    """In %, of the classes that have test images; {} where the record does not tell."""
    return {Class(row["label"], row["name"]): row["accuracy"] for row in run.record.get("per_class") or []}


def over_seeds(by_run: Iterable[dict[Class, float]]) -> dict[Class, Spread]:
    """By label."""
    values = group((item for one in by_run for item in one.items()), lambda item: item[0])
    return {known: spread(value for _, value in values[known]) for known in sorted(values)}


# --- gain over zero-shot ---------------------------------------------------------------------------------


class Gain(NamedTuple):
    """What one column gained, in points of accuracy."""

    column: Column
    by_class: dict[Class, Spread]  # over seeds
    overall: Spread  # over seeds, of each seed's mean over classes


class Gains(NamedTuple):
    """Accuracy of each class minus zero-shot CLIP's, for the columns that are compared with the same run of that."""

    title: str  # of the section; with the backbone where there are several
    zero_shot: dict[Class, float]  # accuracy in %
    gains: list[Gain]

    def mean(self, known: Class) -> float:
        """Over the columns: what classes are sorted by."""
        return spread(one.by_class[known].mean for one in self.gains if known in one.by_class).mean

    @property
    def classes(self) -> list[Class]:
        """The one that gained most first."""
        known = {known for one in self.gains for known in one.by_class}
        return sorted(known, key=lambda one: (-self.mean(one), one.label))


def class_gains(summary: Summary, shots: int | None = None) -> tuple[list[Gains], list[str]]:
    """(one for every data set and backbone, what is missing in words)."""
    found, missing = [], []
    for section in summary.sections:
        there = columns(section, shots)
        zero_shot = {one.backbone: accuracies(one.runs[0]) for one in reversed(there) if one.shots == ZERO_SHOT}
        trained = group((one for one in there if one.shots != ZERO_SHOT), lambda one: one.backbone)
        for backbone, members in trained.items():
            base = zero_shot.get(backbone)
            if not base:
                wanting = "no" if base is None else "no accuracies of classes in the record of the"
                remedy = "run it with --trainer ZeroshotCLIP"
                missing.append(f"{section.title}: {wanting} zero-shot run with backbone {backbone} ({remedy})")
                continue
            gains = []
            for column in members:
                if gain := _gain(column, base):
                    gains.append(gain)
                else:
                    missing.append(f"{section.title}: no accuracies of classes in the records of {column.title}")
            if gains:
                found.append(Gains(f"{section.title}, {backbone}" if len(trained) > 1 else section.title, base, gains))
    return found, missing


def _gain(column: Column, base: dict[Class, float]) -> Gain | None:
    """None where no record tells."""
    by_run = [
        {known: value - base[known] for known, value in accuracies(run).items() if known in base} for run in column.runs
    ]
    by_run = [gain for gain in by_run if gain]
    if not by_run:
        return None
    return Gain(column, over_seeds(by_run), spread(spread(gain.values()).mean for gain in by_run))


# --- confusions ------------------------------------------------------------------------------------------


class Confusion(NamedTuple):
    """Test images of one class that were taken for another."""

    true: Class
    predicted: Class
    images: Spread  # over seeds
    share: float | None  # of the true class's images, in %, mean over seeds
    at_least: bool  # a record that lists the most frequent pairs only is without it: there it counts as none


class Confusions(NamedTuple):
    """The pairs of one column, the most frequent first."""

    column: Column
    pairs: list[Confusion]
    mistakes: float  # of all pairs together, mean over seeds
    lacking: list[Run]  # whose records are from before confusions were kept

    @property
    def told(self) -> bool:
        """Whether any record tells."""
        return len(self.lacking) < len(self.column.runs)


def confusions(column: Column) -> Confusions:
    """Mean over the seeds whose records tell."""
    needed = ("confusions", "total", "correct")
    telling = [run for run in column.runs if all(run.record.get(key) is not None for key in needed)]
    listed = [{_pair(row): row["count"] for row in run.record["confusions"]} for run in telling]
    totals = [{row["label"]: row["total"] for row in run.record.get("per_class") or []} for run in telling]
    mistakes = [run.record["total"] - run.record["correct"] for run in telling]
    cut = [sum(rows.values()) < wrong for rows, wrong in zip(listed, mistakes, strict=True)]
    pairs = []
    for pair in sorted({pair for rows in listed for pair in rows}):
        counts = [rows.get(pair, 0) for rows in listed]
        known = [(count, of[pair[0].label]) for count, of in zip(counts, totals, strict=True) if of.get(pair[0].label)]
        share = spread(100 * count / total for count, total in known).mean if known else None
        at_least = any(is_cut and not count for is_cut, count in zip(cut, counts, strict=True))
        pairs.append(Confusion(*pair, spread(counts), share, at_least))
    pairs.sort(key=lambda one: -one.images.mean)
    lacking = [run for run in column.runs if run not in telling]
    return Confusions(column, pairs, spread(mistakes).mean if mistakes else 0.0, lacking)


def _pair(row: dict) -> tuple[Class, Class]:
    return Class(row["true"], row["true_name"]), Class(row["predicted"], row["predicted_name"])


def all_confusions(summary: Summary, shots: int | None = None) -> list[tuple[Section, list[Confusions]]]:
    """Of every column of every section."""
    return [(section, [confusions(column) for column in columns(section, shots)]) for section in summary.sections]
