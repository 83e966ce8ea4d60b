"""The table of accuracies, as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io

from tabulate import tabulate

from .summary import ALL_IMAGES, Average, Cell, Section, Summary, averages, qualifier

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


def format_table(summary: Summary, style: str = "text") -> str:
    """Ends with a newline.  `style` is one of FORMATS; CSV is one line a cell, at full precision."""
    if style == "csv":
        return _csv(summary)
    blocks = [_heading(CAPTION + (" A cell with k/n seeds is incomplete." if summary.missing else ""), style)]
    for section in summary.sections:
        rows = [
            [method, *(show_cell(section.cell(method, shots)) for shots in section.shots)] for method in section.methods
        ]
        blocks.append(_block(section.title, rows, section, style))
    for section, cells in averages(summary.sections):
        rows = [
            [method, *(show_average(cells.get((method, shots))) for shots in section.shots)]
            for method in section.methods
        ]
        blocks.append(_block(average_title(section, cells), rows, section, style))
    return "\n\n".join(blocks) + "\n"


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


def columns(section: Section) -> list[str]:
    """ "0 shots", "1 shot", "2 shots", ..., "all images"."""
    names = {1: "1 shot", ALL_IMAGES: "all images"}
    return [names.get(shots, f"{shots} shots") for shots in section.shots]


def _block(title: str, rows: list[list[str]], section: Section, style: str) -> str:
    table = tabulate(
        rows,
        ["method", *columns(section)],
        tablefmt=FORMATS[style],
        disable_numparse=True,
        colalign=("left", *("right" for _ in section.shots)),
    )
    if style == "latex":
        table = table.replace("±", r"$\pm$").replace(ABSENT, "--")
    return f"{_heading(title, style)}\n{'' if style == 'text' else chr(10)}{table}"


def _heading(text: str, style: str) -> str:
    if style == "latex":
        return "% " + text.replace("±", "+-")
    return f"**{text}**" if style == "markdown" and text != CAPTION else text


def _csv(summary: Summary) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for section in summary.sections:
        for (method, shots), cell in section.cells.items():
            accuracy = cell.accuracy
            numbers = (repr(accuracy.mean), repr(accuracy.std)) if accuracy else ("", "")
            writer.writerow(
                [
                    section.dataset,
                    section.classes,
                    section.split,
                    method,
                    shots_name(shots),
                    len(cell.runs),
                    cell.expected,
                    *numbers,
                ]
            )
    return buffer.getvalue()
