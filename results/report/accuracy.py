"""The sections on accuracy and training: tables and curves, and the curves in words for those who cannot see them."""

from __future__ import annotations

from typing import Any

from runs.methods import group
from runs.record import Run

from ..figures.collapse import describe_prompts, prompts_figure
from ..figures.curves import accuracy_panels, common_history, panels, training_figure
from ..figures.style import Look
from ..numbers.best import Best, best
from ..numbers.cells import ZERO_SHOT, Average, shots_text, spread
from ..numbers.cells import Cell as Accuracies
from ..numbers.summary import Section, Summary, averages
from ..tables import standing
from ..tables.accuracies import bold_notes, seeds
from ..tables.layout import show_mean
from .parts import Cell, Table, figure, with_spread

MOST_TRAININGS = 6  # methods on data sets whose training is drawn


def accuracy(summary: Summary, look: dict[str, Look]) -> dict[str, Any]:
    """Show tables, averages first, then curves."""
    tables, bests = [], []
    for average in averages(summary.sections):
        bests.append(best(average.sections))
        title = f"Average over {average.title}"
        tables.append((title, _table(average.like, average.cells, show_average, look, bests[-1])))
    for section in summary.sections:
        bests.append(best([section]))
        title = section.title if len(summary.sections) > 1 else ""
        tables.append((title, _table(section, section.cells, show, look, bests[-1])))
    figures = [
        figure(drawn, f"curve {title}", describe(title, lines))
        for (title, drawn), (_, lines) in zip(accuracy_panels(summary), panels(summary), strict=True)
    ]
    said = [*bold_notes(bests), standing.footnote(summary.runs_by_method())]
    return {"tables": tables, "figures": figures, "look": look, "notes": [note for note in said if note]}


def _table(section: Section, by_place: dict, show: Any, look: dict[str, Look], best: Best) -> Table:
    """Make a row a method; what is best in a column beyond the interval is bold, ties included.

    Parameters
    ----------
    section
        Whose methods and shots are shown.
    by_place
        Cells or averages by method and shots.
    show
        Makes a table's cell of one of these; its kind is "gap" where there is no mean.
    look
        How every method is drawn; its colour is the dot before its name.
    best
        The cells that are bold.
    """
    rows = []
    for method in section.methods:
        row = [Cell(method, style=look[method].color)]
        for shots in section.shots:
            cell = show(by_place[method, shots]) if (method, shots) in by_place else Cell("")
            row.append(cell._replace(kind="best") if (method, shots) in best.places else cell)
        rows.append(row)
    return Table(f"Accuracy on {section.title}", ["method", *section.headings], rows)


def show(cell: Accuracies) -> Cell:
    """Show a cell; the spread and the number of seeds are small print."""
    if cell.accuracy is None:
        return Cell("missing ", f"({seeds(cell)})", "gap")
    text, deviation = with_spread(show_mean(cell.accuracy))[:2]
    return Cell(text, f"{deviation} ({seeds(cell)})")


def show_average(average: Average) -> Cell:
    """Show an average; what it lacks is small print."""
    lack = "" if average.whole else f" (lacks {average.missing} run{'s' * (average.missing > 1)})"
    kind = "gap" if average.comparable is None else ""
    return Cell("missing" if average.mean is None else f"{average.mean:.2f}", lack, kind)


def describe(title: str, lines: dict) -> str:
    """Say the curves in words: first and last point of every method."""
    said = []
    for method, points in lines.items():
        first, last = points[0], points[-1]
        if first[0] == ZERO_SHOT:
            said.append(f"{method} {first[1]:.1f}% without training")
        elif len(points) == 1:
            said.append(f"{method} {first[1]:.1f}% at {shots_text(first[0])}")
        else:
            said.append(f"{method} from {first[1]:.1f}% at {first[0]} to {last[1]:.1f}% at {shots_text(last[0])}")
    return f"Accuracy against shots, {title}: {'; '.join(said)}."


# --- training --------------------------------------------------------------------------------------------


def training(summary: Summary) -> dict[str, Any] | None:
    """Show loss and accuracy by epoch of every method and data set, mean over seeds; and prompts' cosines.

    The first MOST_TRAININGS are drawn, the others said in words: nobody looks at a hundred such figures.  Returns None
    where no record keeps a history.
    """
    parts: list[tuple[str, list, list[str]]] = []
    trainings, has_cosines = 0, False
    for section in summary.sections:
        figures, words = [], []
        for method in section.methods:
            runs = section.runs(method)
            if not any(loss for loss in _losses(runs).values()):
                continue
            title = f"{method}, {section.title}" if len(summary.sections) > 1 else method
            curves = (("training", training_figure, describe_training), ("prompts", prompts_figure, describe_prompts))
            for name, draw, describe in curves:
                if not (said := describe(title, runs)):
                    continue
                has_cosines |= name == "prompts"
                if trainings < MOST_TRAININGS and (drawn := draw(title, runs)):
                    figures.append(figure(drawn, f"{name} {title}", said))
                if trainings >= MOST_TRAININGS or name == "prompts":
                    words.append(said)
            trainings += 1
        if figures or words:
            parts.append((section.title, figures, words))
    shown = {"drawn": MOST_TRAININGS, "more": max(0, trainings - MOST_TRAININGS)}
    return {"parts": parts, "has_cosines": has_cosines, **shown} if parts else None


def describe_training(title: str, runs: list[Run]) -> str:
    """Say the curves of a training in words: first and last loss, mean over seeds."""
    said = []
    losses = _losses(runs)
    for shots, members in sorted(group([run for run in runs if losses[run]], lambda run: run.shots).items()):
        first, last = (spread(losses[run][at] for run in members).mean for at in (0, -1))
        said.append(f"{shots_text(shots)}: loss from {first:.2f} to {last:.2f}")
    return f"Training of {title}: {'; '.join(said)}."


def _losses(runs: list[Run]) -> dict[Run, list[float]]:
    """Return the loss of every epoch of each run; [] where its record keeps none."""
    return {run: [loss for _, (loss,) in common_history([run], "loss")] for run in runs}
