"""The table of accuracies: rows are methods, columns numbers of shots, a block a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets.draws import PROPORTIONAL
from runs.methods import notes

from ..numbers.best import Best, best
from ..numbers.cells import Cell, shots_name
from ..numbers.classes import MOST_UNEVEN, is_uneven
from ..numbers.summary import Section, Summary, averages
from . import standing
from .layout import Block, bold, csv_text, show_average, show_document, show_mean

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
        return csv_text(CSV_COLUMNS, csv_lines(summary))
    blocks, bests = [], []
    for section in summary.sections:
        bests.append(best([section]))
        blocks.append(_block(section.title, section, section.cells, show_cell, bests[-1]))
    for average in averages(summary.sections):
        bests.append(best(average.sections))
        blocks.append(_block(f"Average over {average.title}", average.like, average.cells, show_average, bests[-1]))
    note = CAPTION + (" A cell with k/n seeds is incomplete." if summary.missing else "")
    note += f" {PROPORTIONAL_NOTE}" * any(section.kind.draw == PROPORTIONAL for section in summary.sections)
    sign = {"text": "A star", "latex": "Bold", "markdown": "Bold"}[style]
    behind = standing.footnote(summary.runs_by_method())
    more = [behind, *bold_notes(bests, sign), *balance_notes(summary), *notes(summary.methods)]
    return show_document([note, *more], blocks, style)


def _block(title: str, section: Section, cells: Mapping[tuple[str, int], Any], show: Any, best: Best) -> Block:
    """Make a row a method, a column a number of shots; the means of the best of a column are bold."""
    rows = []
    for name in section.methods:
        row = [name]
        for shots in section.shots:
            text = show(cells.get((name, shots)))
            mean, space, rest = text.partition(" ")
            row.append(bold(mean) + space + rest if (name, shots) in best.places else text)
        rows.append(row)
    return Block(title, ["method", *section.headings], rows)


def bold_notes(bests: Sequence[Best], sign: str = "Bold") -> list[str]:
    """Say how the best of a column were found, and in how many columns they could not be; nothing without columns.

    Parameters
    ----------
    bests
        Of the tables that the note stands with.
    sign
        What the best of a column have.
    """
    reasons = sum((each.reasons for each in bests), Counter())
    said = []
    if any(each.places for each in bests):
        said.append(
            f"{sign}: the best of a column, with all that do not differ from it beyond the 95 % interval of the paired "
            "difference, which takes test images and seeds into account (python -m results compare)."
        )
    if in_part := sum(each.in_part for each in bests):
        said.append(f"In {in_part} column{'s' * (in_part > 1)} that was found on fewer seeds, those in common.")
    if reasons:
        why = [f"{reason} in {n} column{'s' * (n > 1)}" for reason, n in reasons.most_common()]
        said.append(f"No best is marked where methods cannot be compared: {', '.join(why)}.")
    return said


def balance_notes(summary: Summary) -> list[str]:
    """Say where accuracy counts some classes more than others, and what shows it otherwise; nothing elsewhere."""
    uneven = list(dict.fromkeys(section.dataset for section in summary.sections if is_uneven(section)))
    if not uneven:
        return []
    return [
        f"In {', '.join(uneven)} the largest class has more than {MOST_UNEVEN} times the test images of the smallest: "
        "--columns balanced macro_f1 worst has numbers in which every class counts alike."
    ]


def show_cell(cell: Cell | None) -> str:
    """Show mean, spread and seeds: "71.25 ± 0.35 (3)"; with one missing "(2/3)", with all "– (0/3)"."""
    return "" if cell is None else f"{show_mean(cell.accuracy)} ({seeds(cell)})"


def seeds(cell: Cell) -> str:
    """Say how many seeds there are, "3"; of how many, where some are missing, "2/3"."""
    return f"{len(cell.runs)}/{cell.expected}" if cell.missing else str(len(cell.runs))


def csv_lines(summary: Summary) -> Iterable[Sequence[Any]]:
    """Yield the lines of the CSV, one for each of `summary.cells`, at full precision."""
    for (dataset, kind, method, shots), cell in summary.cells.items():
        accuracy = cell.accuracy
        numbers = (accuracy.mean, accuracy.deviation) if accuracy else (None, None)
        behind = standing.columns(cell.runs)
        yield (dataset, *kind, method, shots_name(shots), len(cell.runs), cell.expected, *numbers, *behind)
