"""Any table in any of the formats, and how single numbers are shown in it.

tabulate draws text, Markdown and LaTeX; what is added here is what it does not escape: bars in Markdown, and signs that
LaTeX's usual fonts lack.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tabulate import tabulate

from dassl.plain.text import csv_line

from ..numbers.cells import ABSENT, Average, Spread, spread

FORMATS = {"text": "simple", "markdown": "pipe", "latex": "latex_booktabs", "csv": ""}  # tabulate's name of each
BOLD = {"text": ("*", ""), "markdown": ("**", "**"), "latex": (r"\textbf{", "}")}  # what stands around bold text
START, END = "\ue000", "\ue001"  # around bold text until it is shown: no name or number has these signs


class Block(NamedTuple):
    """One table: a title, the head of its columns, and rows of text; the first `words` columns are no numbers."""

    title: str
    head: list[str]
    rows: list[list[str]]
    words: int = 1


def bold(text: str) -> str:
    """Mark text in a block as bold; in plain text a star stands before it, where right-aligned numbers stay aligned."""
    return f"{START}{text}{END}"


def show_block(block: Block, style: str) -> str:
    """Show title and table; `style` is one of FORMATS, except csv."""
    align = ["left" if index < block.words else "right" for index in range(len(block.head))]
    head, *rows = block.head, *block.rows
    if style == "markdown":  # a bar would end its cell
        head, *rows = [[text.replace("|", r"\|") for text in row] for row in (head, *rows)]
    if style != "latex":  # there tabulate would escape the command
        head, *rows = [[_show_bold(text, style) for text in row] for row in (head, *rows)]
    alignment = align if rows else None  # tabulate 0.9 cannot align columns without rows
    table = tabulate(rows, head, tablefmt=FORMATS[style], disable_numparse=True, colalign=alignment)
    if style == "latex":
        table = table.replace("±", r"$\pm$").replace("≥", r"$\geq$").replace(ABSENT, "--")
        table = table.replace("|", r"\textbar{}")  # in text, LaTeX's usual fonts have a dash there
        table = _show_bold(table, style)
    title = f"**{block.title}**\n" if style == "markdown" else show_note(block.title, style)
    return f"{title}\n{table}" if block.title else table


def _show_bold(text: str, style: str) -> str:
    """Replace the marks of `bold`."""
    start, end = BOLD[style]
    return text.replace(START, start).replace(END, end)


def show_note(text: str, style: str) -> str:
    """Show a line beside tables, which in LaTeX is a comment."""
    return "% " + text.replace("±", "+-") if style == "latex" else text


def show_document(notes: Iterable[str], blocks: Iterable[Block], style: str) -> str:
    """Show notes, except empty ones, then tables; ends with a newline."""
    shown = [*(show_note(note, style) for note in notes if note), *(show_block(block, style) for block in blocks)]
    return "\n\n".join(shown) + "\n"


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write CSV, ending with a newline; numbers are at full precision, and text is nothing that a sheet computes."""
    return "".join(csv_line(*row) for row in (columns, *rows))


def show_mean(value: Spread | None, digits: int = 2, sign: str = "") -> str:
    """Show mean and spread.

    Parameters
    ----------
    value
        None is shown as ABSENT.
    digits
        Behind the point.
    sign
        "+" for differences.

    Returns
    -------
    text
        "71.25 ± 0.35"; without spread for a single value.
    """
    if value is None:
        return ABSENT
    deviation = "" if value.deviation is None else f" ± {value.std:.{digits}f}"
    return f"{value.mean:{sign}.{digits}f}{deviation}"


def show_number(value: float | None) -> str:
    """Show an accuracy."""
    return ABSENT if value is None else f"{value:.2f}"


def show_average(average: Average | None) -> str:
    """Show an average, and what it lacks.

    That is "71.25"; where it is the mean of less than the other cells are "71.25 (lacks 2 runs)", or, when whole data
    sets are missing, "71.25 (10 of 11 data sets)".
    """
    if average is None:
        return ""
    shown = show_number(average.mean)
    if average.n < average.expected:
        return f"{shown} ({average.n} of {average.expected} data sets)"
    return shown if average.whole else f"{shown} (lacks {average.missing} run{'s' * (average.missing > 1)})"


def duration(seconds: Sequence[float]) -> str:
    """Show a mean duration in the unit that suits it."""
    if not seconds:
        return ABSENT
    mean = spread(seconds).mean
    if mean < 90:
        return f"{mean:.1f} s"
    return f"{mean / 60:.1f} min" if mean < 5400 else f"{mean / 3600:.1f} h"
