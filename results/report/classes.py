"""The sections on single classes: gains over zero-shot, confusions, accuracies.

Each is shown data set by data set, and left out where no record tells of single classes.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from runs.files import ResultsError

from ..figures.classes import confusion_figure, describe_confusions, gains_figure
from ..figures.style import Look
from ..numbers.cells import ABSENT
from ..numbers.classes import Gains, accuracies, all_confusions, class_gains, columns, confusion_matrices, over_seeds
from ..numbers.summary import Section, Summary
from ..tables.classes import AT_LEAST, CONFUSION_CAPTION, GAIN_CAPTION, confusion_block, coverage, gain_block
from .parts import Cell, Table, block_table, figure

ALL_CLASSES = 200  # tables of more classes fold away
TOP = 10  # pairs of classes
MOST_DRAWN = 4  # data sets whose gains and pairs are drawn, and not only told
MATRIX_CLASSES = 30  # pictures of more are too large for a page


def gains(summary: Summary, look: dict[str, Look]) -> dict[str, Any] | None:
    """Show the numbers, and bars of the first few."""
    compared, missing = class_gains(summary)
    parts: list[tuple] = []
    for number, gains in enumerate(compared):
        words, drawn = describe_gains(gains), None
        if number < MOST_DRAWN:
            drawn = figure(gains_figure([gains], look), f"gains {gains.title}", words)
        parts.append((gains.title, drawn, words, block_table(gain_block(gains))))
    return {"caption": GAIN_CAPTION, "missing": missing, "parts": parts} if parts else None


def describe_gains(gains: Gains) -> str:
    """Say the bars in words, for those who cannot see them: the classes at either end, and the means over classes."""
    said = [f"{known.name} {gains.mean(known):+.1f}" for known in gains.classes]
    some = f"most {', '.join(said[:3])}; least {', '.join(said[-3:])}" if len(said) > 6 else ", ".join(said)
    overall = ", ".join(f"{gain.column.title} {gain.overall.mean:+.1f}" for gain in gains.gains)
    return f"Gain over zero-shot by class, {gains.title}, points, mean over methods: {some}. Over classes: {overall}."


def confusions(summary: Summary) -> dict[str, Any] | None:
    """Show the most frequent pairs of every method; says how many records keep none."""
    parts: list[tuple[str, list[tuple[str, Table]], Markup | None]] = []
    lacking, cut = 0, False
    for section, of_columns in all_confusions(summary):
        known = [column for column in of_columns if column.known]
        lacking += sum(len(column.lacking) for column in of_columns)
        cut |= any(pair.at_least for column in known for pair in column.pairs[:TOP])
        tables = [(coverage(column, TOP), block_table(confusion_block(section.title, column, TOP))) for column in known]
        if tables:
            parts.append((section.title, tables, matrices(section) if len(parts) < MOST_DRAWN else None))
    note = CONFUSION_CAPTION + AT_LEAST * cut
    if len(parts) > MOST_DRAWN:
        note += f" Pictures of the first {MOST_DRAWN}; python -m results confusions --figure draws all."
    if lacking:
        note += f" {lacking} record{'s' * (lacking > 1)} from before confusions were kept tell of none."
    return {"note": note, "parts": parts} if parts else None


def matrices(section: Section) -> Markup | None:
    """Draw all pairs; None of many classes, and where a run has kept no predictions."""
    if max(len(run.record.get("per_class") or []) for run in section.runs()) > MATRIX_CLASSES:
        return None
    try:
        shown = confusion_matrices(section)
    except ResultsError:
        return None
    words = describe_confusions(section.title, shown)
    return figure(confusion_figure([(section.title, shown)]), f"matrices {section.title}", words)


def class_accuracies(summary: Summary) -> dict[str, Any] | None:
    """Show the accuracy of every class at the largest number of shots, mean over seeds."""
    parts = []
    for section in summary.sections:
        by_column = {column.title: over_seeds(map(accuracies, column.runs)) for column in columns(section)}
        by_column = {title: by_class for title, by_class in by_column.items() if by_class}
        known = sorted({known for by_class in by_column.values() for known in by_class})
        means = lambda known: [by[known].mean if known in by else None for by in by_column.values()]  # noqa: B023,E731
        rows = [[Cell(known_class.name), *map(_cell, means(known_class))] for known_class in known]
        if rows:
            parts.append((section.title, Table(f"Accuracy by class, {section.title}", ["class", *by_column], rows)))
    return {"parts": parts, "fold_above": ALL_CLASSES} if parts else None


def _cell(value: float | None) -> Cell:
    """Put a number on a ground the bluer the higher it is."""
    if value is None:
        return Cell(ABSENT)
    return Cell(
        f"{value:.1f}", style=f"background:color-mix(in srgb, var(--accent) {0.4 * value:.0f}%, transparent)"
    )
