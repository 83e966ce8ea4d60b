"""What became of single classes: accuracy, gain over zero-shot CLIP, and which others they are taken for.

Everything is counted on test images, with mean and spread over seeds.  A column is one method at one number of shots,
by default the most that it has.  Gains compare with the zero-shot run of the same data set and backbone; confusions
come from records that list only their most frequent pairs, so some counts are lower bounds, and marked as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from runs.methods import group
from runs.predictions import read_predictions
from runs.record import Run

from .cells import ZERO_SHOT, Cell, Spread, shots_text, spread
from .summary import Section, Summary


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
        """For instance "PLOT N=4, 16 shots"; "ZeroshotCLIP"."""
        return self.method if self.shots == ZERO_SHOT else f"{self.method}, {shots_text(self.shots)}"

    @property
    def backbone(self) -> str:
        """The name of its CLIP: gains are within one backbone."""
        run = self.runs[0]
        return str(run.config.get("MODEL.BACKBONE.NAME") or run.record.get("backbone"))


def columns(section: Section, shots: int | None = None) -> list[Column]:
    """List every method that has a run: at `shots`, or else at its most shots; untrained ones at 0 shots."""
    chosen = []
    for method in section.methods:
        cells = {count: cell for count in section.shots if (cell := section.cell(method, count)) and cell.runs}
        most = max(cells, key=section.shots.index, default=None)
        count = most if shots is None or most == ZERO_SHOT else shots
        if count in cells:
            chosen.append(Column(method, count, list(cells[count].runs)))
    return chosen


def accuracies(run: Run) -> dict[Class, float]:
    """Accuracy in % of the classes that have test images; {} where the record does not tell."""
    return {Class(row["label"], row["name"]): row["accuracy"] for row in run.record.get("per_class") or []}


def over_seeds(by_run: Iterable[dict[Class, float]]) -> dict[Class, Spread]:
    """Average each class over the runs that have it, in the order of labels."""
    values = group((item for run in by_run for item in run.items()), lambda item: item[0])
    return {known: spread(value for _, value in values[known]) for known in sorted(values)}


# --- numbers in which every class counts alike -----------------------------------------------------------

MOST_UNEVEN = 2  # times as many test images in the largest class as in the smallest: beyond, accuracy favours some


class Measured(NamedTuple):
    """A run in a Cell, with another number in the place of its accuracy."""

    seed: int
    accuracy: float


def measured(cell: Cell, column: str) -> Cell:
    """Return a cell of another number than accuracy; runs whose records do not tell are missing there.

    Parameters
    ----------
    cell
        Of runs.
    column
        One of cells.COLUMNS: balanced is the mean of the classes' accuracies, macro_f1 the mean of their F1, worst the
        accuracy of `worst_class`.
    """
    if column == "accuracy":
        return cell
    worst = worst_class(cell) if column == "worst" else None

    def value(run: Run) -> float | None:
        if column == "macro_f1":
            return run.record.get("macro_f1")
        by_class = accuracies(run)
        if column == "worst":
            return by_class.get(worst) if worst else None
        return spread(by_class.values()).mean if by_class else None

    values = [(run.seed, value(run)) for run in cell.runs]
    return Cell([Measured(seed, number) for seed, number in values if number is not None], cell.expected)


def worst_class(cell: Cell) -> Class | None:
    """Return the class with the lowest accuracy, mean over seeds; None where no record tells.

    It is one class for all seeds: the mean over seeds of each seed's own worst class is lower, but of no class.
    """
    by_class = over_seeds(map(accuracies, cell.runs))
    return min(by_class, key=lambda known: by_class[known].mean, default=None)


def is_uneven(section: Section) -> bool:
    """Whether the largest class has more than MOST_UNEVEN times the smallest's test images, in the first record."""
    for run in section.runs():
        if totals := [row["total"] for row in run.record.get("per_class") or []]:
            return max(totals) > MOST_UNEVEN * min(totals)
    return False


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
        """Average the gain of a class over the columns: what classes are sorted by."""
        return spread(gain.by_class[known].mean for gain in self.gains if known in gain.by_class).mean

    @property
    def classes(self) -> list[Class]:
        """All classes, the one that gained most first."""
        known = {known for gain in self.gains for known in gain.by_class}
        return sorted(known, key=lambda known: (-self.mean(known), known.label))


def class_gains(summary: Summary, shots: int | None = None) -> tuple[list[Gains], list[str]]:
    """Compare every trained column with zero-shot CLIP.

    Parameters
    ----------
    summary
        Of the runs.
    shots
        Of the trained columns; by default the most of each method.

    Returns
    -------
    compared
        Gains of every data set and backbone that has both.
    missing
        Sentences on what cannot be compared, and how to mend it.
    """
    compared, missing = [], []
    for section in summary.sections:
        title = section.title
        shown = columns(section, shots)
        zero_shot = {column.backbone: accuracies(column.runs[0]) for column in reversed(shown) if not column.shots}
        trained = group((column for column in shown if column.shots), lambda column: column.backbone)
        for backbone, members in trained.items():
            base = zero_shot.get(backbone)
            if not base:
                wanting = "no" if base is None else "no accuracies of classes in the record of the"
                remedy = "run it with --trainer ZeroshotCLIP"
                missing.append(f"{title}: {wanting} zero-shot run with backbone {backbone} ({remedy})")
                continue
            gains = []
            for column in members:
                if gain := _gain(column, base):
                    gains.append(gain)
                else:
                    missing.append(f"{title}: no accuracies of classes in the records of {column.title}")
            if gains:
                compared.append(Gains(f"{title}, {backbone}" if len(trained) > 1 else title, base, gains))
    return compared, missing


def _gain(column: Column, base: dict[Class, float]) -> Gain | None:
    """Gains over the accuracies `base`; None where no record of the column has accuracies of classes."""
    by_run = [
        {known: value - base[known] for known, value in accuracies(run).items() if known in base} for run in column.runs
    ]
    by_run = [gain for gain in by_run if gain]
    if not by_run:
        return None
    return Gain(column, over_seeds(by_run), spread(spread(gain.values()).mean for gain in by_run))


# --- confusions ------------------------------------------------------------------------------------------


class Confusion(NamedTuple):
    """Test images of one class that were taken for another, over seeds."""

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
    def known(self) -> bool:
        """Whether any record keeps confusions."""
        return len(self.lacking) < len(self.column.runs)


def confusions(column: Column) -> Confusions:
    """Average the pairs of a column over the seeds whose records keep them.

    A record lists its most frequent pairs only. Where one is without a pair that another lists, it counts as none
    there, and is marked `at_least`, if the record's list was cut: that is when it names fewer mistakes than the run
    made.

    Shares are of the true class's images, where a record says how many there are.
    """
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
    pairs.sort(key=lambda pair: -pair.images.mean)
    lacking = [run for run in column.runs if run not in telling]
    return Confusions(column, pairs, spread(mistakes).mean if mistakes else 0.0, lacking)


def _pair(row: dict) -> tuple[Class, Class]:
    return Class(row["true"], row["true_name"]), Class(row["predicted"], row["predicted_name"])


def all_confusions(summary: Summary, shots: int | None = None) -> list[tuple[Section, list[Confusions]]]:
    """Average the confusions of every column of every section."""
    return [(section, [confusions(column) for column in columns(section, shots)]) for section in summary.sections]


class Matrix(NamedTuple):
    """How the test images of each class were classified: one column, mean over its seeds."""

    column: Column
    classes: list[str]  # by label
    shares: np.ndarray  # (C, C) of the true class's images (rows), from 0 to 1; a row without images is 0


def confusion_matrices(section: Section, shots: int | None = None) -> list[Matrix]:
    """Count all pairs of every column, from the predictions beside its runs.

    Raises
    ------
    ResultsError
        Where a run has kept none; the message names it.
    """
    return [_matrix(column) for column in columns(section, shots)]


def _matrix(column: Column) -> Matrix:
    matrices = []
    for run in column.runs:
        predictions = read_predictions(run.folder)
        size = predictions.num_classes
        pairs = np.bincount(predictions.labels * size + predictions.predicted, minlength=size * size)
        counts = pairs.reshape(size, size)
        matrices.append(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    names = {known.label: known.name for run in column.runs for known in accuracies(run)}
    return Matrix(column, [names.get(label, str(label)) for label in range(size)], np.mean(matrices, axis=0))
