"""Tables as text, Markdown, LaTeX or CSV: what they all share, and the table of accuracies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tabulate import tabulate

from dassl.plain.text import csv_line
from runs.methods import notes

from ..numbers.summary import ALL_IMAGES, Average, Cell, Section, Summary, averages, qualifier

FORMATS = {"text": "simple", "markdown": "pipe", "latex": "latex_booktabs", "csv": ""}
ABSENT = "–"
CAPTION = "Accuracy in %, mean ± population standard deviation over seeds (number of seeds)."
CSV_COLUMNS = (
    "dataset",
    "classes",
    "split",
    "method",
    "shots",
    "seeds",
    "expected_seeds",
    "mean",
    "population_std",
)


# --- any table -------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """One table: a title, the head of its columns, and rows of text; the first `words` columns are no numbers."""

    title: str
    head: list[str]
    rows: list[list[str]]
    words: int = 1


def show_block(block: Block, style: str) -> str:
    """`style` is one of FORMATS, except csv."""
    align = ["left" if index < block.words else "right" for index in range(len(block.head))]
    head, *rows = block.head, *block.rows
    if style == "markdown":  # a bar would end its cell
        head, *rows = [[text.replace("|", r"\|") for text in row] for row in (head, *rows)]
    alignment = align if rows else None  # tabulate 0.9 cannot align columns without rows
    table = tabulate(rows, head, tablefmt=FORMATS[style], disable_numparse=True, colalign=alignment)
    if style == "latex":
        table = table.replace("±", r"$\pm$").replace("≥", r"$\geq$").replace(ABSENT, "--")
        table = table.replace("|", r"\textbar{}")  # in text, LaTeX's usual fonts have a dash there
    title = f"**{block.title}**\n" if style == "markdown" else show_note(block.title, style)
    return f"{title}\n{table}"


def show_note(text: str, style: str) -> str:
    """A line beside tables; a comment in LaTeX."""
    return "% " + text.replace("±", "+-") if style == "latex" else text


def show_document(notes: Iterable[str], blocks: Iterable[Block], style: str) -> str:
    """Notes, then tables; ends with a newline."""
    shown = [*(show_note(note, style) for note in notes), *(show_block(block, style) for block in blocks)]
    return "\n\n".join(shown) + "\n"


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Ends with a newline; see `csv_line`."""
    return "".join(csv_line(*row) for row in (columns, *rows))


# --- accuracies ------------------------------------------------------------------------------------------


def format_table(summary: Summary, style: str = "text") -> str:
    """Ends with a newline.  `style` is one of FORMATS; CSV is one line a cell, at full precision."""
    if style == "csv":
        return csv_text(CSV_COLUMNS, _lines(summary))
    blocks = []
    for section in summary.sections:
        rows = [
            [method, *(show_cell(section.cell(method, shots)) for shots in section.shots)] for method in section.methods
        ]
        blocks.append(Block(section.title, ["method", *columns(section)], rows))
    for section, cells in averages(summary.sections):
        rows = [
            [method, *(show_average(cells.get((method, shots))) for shots in section.shots)]
            for method in section.methods
        ]
        blocks.append(Block(average_title(section, cells), ["method", *columns(section)], rows))
    note = CAPTION + (" A cell with k/n seeds is incomplete." if summary.missing else "")
    return show_document([note, *notes(summary.methods)], blocks, style)


def show_cell(cell: Cell | None) -> str:
    """ "71.25 ± 0.35 (3)"; with a seed missing "71.25 ± 0.35 (2/3)"; with all missing "– (0/3)"."""
    if cell is None:
        return ""
    count = f"({len(cell.runs)}/{cell.expected})" if cell.missing else f"({len(cell.runs)})"
    accuracy = cell.accuracy
    if accuracy is None:
        return f"{ABSENT} {count}"
    deviation = f" ± {accuracy.std:.2f}" if accuracy.n > 1 else ""
    return f"{accuracy.mean:.2f}{deviation} {count}"


def show_average(average: Average | None) -> str:
    """ "71.25"; where it is the mean of less than the other cells are "71.25 (lacks 2 runs)", or, when whole data sets
    are missing, "71.25 (10 of 11 data sets)"."""
    if average is None:
        return ""
    shown = ABSENT if average.mean is None else f"{average.mean:.2f}"
    if average.n < average.expected:
        return f"{shown} ({average.n} of {average.expected} data sets)"
    return shown if average.whole else f"{shown} (lacks {average.missing} run{'s' * (average.missing > 1)})"


def average_title(section: Section, cells: dict[tuple[str, int], Average]) -> str:
    count = next(iter(cells.values())).expected
    return f"Average over {count} data sets{qualifier(section.classes, section.split)}"


def shots_name(shots: int) -> str:
    return "all" if shots == ALL_IMAGES else str(shots)


def shots_text(shots: int) -> str:
    """ "0 shots", "1 shot", "2 shots", ..., "all images"."""
    return {1: "1 shot", ALL_IMAGES: "all images"}.get(shots, f"{shots} shots")


def columns(section: Section) -> list[str]:
    return list(map(shots_text, section.shots))


def _lines(summary: Summary) -> Iterable[Sequence[Any]]:
    for section in summary.sections:
        for (method, shots), cell in section.cells.items():
            place = (section.dataset, section.classes, section.split, method, shots_name(shots))
            accuracy = cell.accuracy
            numbers = (accuracy.mean, accuracy.deviation) if accuracy else (None, None)
            yield (*place, len(cell.runs), cell.expected, *numbers)
