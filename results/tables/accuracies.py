"""The table of accuracies: rows are methods, columns numbers of shots, a block a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasets.draws import PROPORTIONAL
from runs.methods import notes

from ..numbers.cells import Cell, shots_name
from ..numbers.summary import Summary, averages
from . import standing
from .layout import Block, csv_text, show_average, show_document, show_mean

CAPTION = "Accuracy in %, mean ± population standard deviation over seeds (number of seeds)."
PROPORTIONAL_NOTE = (
    "Proportional draw: K shots are K images a class on average, in proportion to the classes' sizes; a number of "
    "shots there is not the same number elsewhere."
)
CSV_COLUMNS = (
    *"dataset classes split draw method shots seeds expected_seeds mean population_std".split(), *standing.COLUMNS
)  # fmt: skip


def format_table(summary: Summary, style: str = "text") -> str:
    """Show every section, then the averages over data sets; ends with a newline.

    Parameters
    ----------
    summary
        Of the runs.
    style
        One of layout.FORMATS; CSV has a line a cell, at full precision, and no averages.
    """
    if style == "csv":
        return csv_text(CSV_COLUMNS, _lines(summary))
    blocks = []
    for section in summary.sections:
        rows = [[name, *(show_cell(section.cell(name, n)) for n in section.shots)] for name in section.methods]
        blocks.append(Block(section.title, ["method", *section.headings], rows))
    for average in averages(summary.sections):
        section, cells = average.like, average.cells
        rows = [[name, *(show_average(cells.get((name, n))) for n in section.shots)] for name in section.methods]
        blocks.append(Block(f"Average over {average.title}", ["method", *section.headings], rows))
    note = CAPTION + (" A cell with k/n seeds is incomplete." if summary.missing else "")
    note += f" {PROPORTIONAL_NOTE}" * any(section.kind.draw == PROPORTIONAL for section in summary.sections)
    behind = standing.footnote(summary.runs_by_method())
    return show_document([note, behind, *notes(summary.methods)], blocks, style)


def show_cell(cell: Cell | None) -> str:
    """Show mean, spread and seeds: "71.25 ± 0.35 (3)"; with one missing "(2/3)", with all "– (0/3)"."""
    return "" if cell is None else f"{show_mean(cell.accuracy)} ({seeds(cell)})"


def seeds(cell: Cell) -> str:
    """Say how many seeds there are, "3"; of how many, where some are missing, "2/3"."""
    return f"{len(cell.runs)}/{cell.expected}" if cell.missing else str(len(cell.runs))


def _lines(summary: Summary) -> Iterable[Sequence[Any]]:
    for (dataset, kind, method, shots), cell in summary.cells.items():
        accuracy = cell.accuracy
        numbers = (accuracy.mean, accuracy.deviation) if accuracy else (None, None)
        behind = standing.columns(cell.runs)
        yield (dataset, *kind, method, shots_name(shots), len(cell.runs), cell.expected, *numbers, *behind)
