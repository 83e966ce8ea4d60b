"""The table of accuracies with further columns, in which every class counts alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dassl.plain.text import shortened
from runs.methods import notes

from ..numbers.cells import COLUMNS
from ..numbers.classes import measured, worst_class
from ..numbers.summary import Section, Summary, averages
from . import standing
from .accuracies import CSV_COLUMNS, csv_lines, show_cell
from .layout import Block, csv_text, show_average, show_document

CAPTIONS = {
    "accuracy": "Accuracy in %",
    "balanced": "balanced: mean of the classes' accuracies in %",
    "macro_f1": "macro F1: mean of the classes' F1 in %",
    "worst": "worst class: accuracy in % of the class with the lowest one, mean over seeds, and its name",
}
SPREAD = "Mean ± population standard deviation over seeds (number of seeds)."
MOST_NAME = 20  # letters of a class's name


def format_columns(summary: Summary, columns: Sequence[str], style: str) -> str:
    """Show sections, then averages over data sets, with several columns a number of shots; ends with a newline.

    Parameters
    ----------
    summary
        Of the runs.
    columns
        Some of cells.COLUMNS.
    style
        One of layout.FORMATS; CSV has all columns of the table of accuracies, and these behind them.
    """
    others = [column for column in columns if column != "accuracy"]
    if style == "csv":
        heads = [head for column in others for head in (f"{column}_mean", f"{column}_std")]
        heads += ["worst_class"] if "worst" in others else []
        return csv_text([*CSV_COLUMNS, *heads], _lines(summary, others))
    by_column = {column: [_measured(section, column) for section in summary.sections] for column in columns}
    blocks = []
    for index, section in enumerate(summary.sections):
        rows = [
            [name, *(_show(section, by_column[c][index], name, shots, c) for shots in section.shots for c in columns)]
            for name in section.methods
        ]
        blocks.append(Block(section.title, ["method", *_heads(section, columns)], rows))
    for of_columns in zip(*(averages(by_column[column]) for column in columns), strict=True):
        like = of_columns[0].like
        rows = [
            [name, *(show_average(of.cells.get((name, shots))) for shots in like.shots for of in of_columns)]
            for name in like.methods
        ]
        blocks.append(Block(f"Average over {of_columns[0].title}", ["method", *_heads(like, columns)], rows))
    caption = f"{'; '.join(CAPTIONS[column] for column in columns)}. {SPREAD}"
    caption += " A cell with k/n seeds is incomplete." if summary.missing else ""
    behind = standing.footnote(summary.runs_by_method())
    return show_document([caption[0].upper() + caption[1:], behind, *notes(summary.methods)], blocks, style)


def _measured(section: Section, column: str) -> Section:
    return replace(section, cells={key: measured(cell, column) for key, cell in section.cells.items()})


def _heads(section: Section, columns: Sequence[str]) -> list[str]:
    return [f"{heading} {COLUMNS[column]}".rstrip() for heading in section.headings for column in columns]


def _show(section: Section, of_column: Section, method: str, shots: int, column: str) -> str:
    """Show a cell of a column; that of the worst class with its name: "41.67 ± 2.36 (3) mushroom"."""
    cell = section.cell(method, shots)
    worst = worst_class(cell) if cell and column == "worst" else None
    return show_cell(of_column.cell(method, shots)) + (f" {shortened(worst.name, MOST_NAME)}" if worst else "")


def _lines(summary: Summary, columns: Sequence[str]) -> Iterator[Sequence[Any]]:
    """Yield the lines of the CSV: those of the table of accuracies, and the columns behind them."""
    for line, cell in zip(csv_lines(summary), summary.cells.values(), strict=True):
        more: list[Any] = []
        for column in columns:
            number = measured(cell, column).accuracy
            more += [number.mean, number.deviation] if number else [None, None]
        worst = worst_class(cell)
        yield (*line, *more, *([worst.name if worst else ""] if "worst" in columns else []))
