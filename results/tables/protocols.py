"""The tables of the evaluation protocols, as text, Markdown, LaTeX or CSV.

Few-shot and base-to-new have methods as rows, and a block for every data set and for the average; the transfers have
data sets as rows and methods as columns.  With `published`, figures of others stand beside ours, where there are some
for the same data sets; their averages are taken over our data sets.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from runs.methods import notes

from ..numbers.cells import Average, Cell, shots_text
from ..numbers.protocols.grid import Grid, harmonic_mean
from ..numbers.protocols.logs import LogOptions, deviation
from ..numbers.protocols.published import PUBLISHED, Figure, Published
from ..numbers.protocols.trees import DATASETS, DOMAINS, HALVES, SOURCE
from . import standing
from .layout import Block, csv_text, show_average, show_document, show_number

CSV_COLUMNS = tuple(
    "protocol dataset part method shots seeds expected_seeds missing_runs mean spread source".split()
)  # harmonic means and averages have no seeds of their own
BY_SEED = "H over seeds"


def format_grid(grid: Grid, style: str = "text", options: LogOptions | None = None, published: bool = False) -> str:
    """Show the whole table; ends with a newline.

    Parameters
    ----------
    grid
        The cells.
    style
        One of layout.FORMATS; CSV is one line a cell, at full precision.
    options
        Which spread is shown.
    published
        Add the figures of others, and where they are from, where there are any for the protocol.
    """
    options = options or LogOptions()
    theirs = _theirs(grid) if published else []
    if style == "csv":
        return csv_text(CSV_COLUMNS, _lines(grid, options, theirs))
    blocks = {"fewshot": _few_shot, "base2new": _base_to_new}.get(grid.protocol.name, _transfer)
    sources = {figures.source: [other.name for other in theirs if other.source == figures.source] for figures in theirs}
    credits = [f"{', '.join(names)}: {source}." for source, names in sources.items()]
    behind = standing.footnote(grid.runs_by_method())
    return show_document([caption(grid, options), behind, *credits], blocks(grid, options, theirs), style)


def caption(grid: Grid, options: LogOptions) -> str:
    """Say what the numbers are, and what is to be known of marked methods."""
    seeds = ", ".join(map(str, grid.seeds))
    text = f"{grid.protocol.title}: accuracy in %, mean ± {spread_name(options)} over seeds {seeds}."
    if grid.protocol.name == "base2new":
        text += " H: harmonic mean of the two means; of the averages, that of the two averages."
    text += " (k of n): only k of n seeds have a result." if grid.missing else ""
    return " ".join([text, *notes(grid.methods)])


def spread_name(options: LogOptions) -> str:
    """Name what stands behind ±."""
    std = f"{'sample' if options.sample_std else 'population'} standard deviation"
    return f"95% interval (1.96 {std} / sqrt n)" if options.ci95 else std


def dataset_name(dataset: str) -> str:
    """Name a data set as the literature does."""
    return DATASETS.get(dataset) or DOMAINS.get(dataset) or dataset


def average_name(grid: Grid) -> str:
    """Name the average: "average of 11 data sets", "average of 2 data sets (the protocol has 11)"."""
    count, whole = len(grid.averaged), grid.protocol.datasets
    text = f"average of {count} data set{'s' * (count != 1)}"
    return text if set(grid.averaged) == set(whole) else f"{text} (the protocol has {len(whole)})"


# --- blocks ----------------------------------------------------------------------------------------------


def _few_shot(grid: Grid, options: LogOptions, theirs: list[Published]) -> Iterator[Block]:
    """Make a block a data set, methods by shots; then one of their average."""
    head = ["method", *map(shots_text, grid.shots)]
    for name in grid.datasets:
        rows = [[m, *(_show_cell(grid.cell(m, name, "", k), options) for k in grid.shots)] for m in grid.methods]
        rows += _their_rows(theirs, lambda figures: [figures.figure(name, "", k) for k in grid.shots])  # noqa: B023
        yield Block(dataset_name(name), head, rows)
    rows = [[method, *(show_average(grid.average(method, "", k)) for k in grid.shots)] for method in grid.methods]
    rows += _their_rows(theirs, lambda figures: [_their_average(grid, figures, "", k) for k in grid.shots])
    yield Block(average_name(grid).capitalize(), head, rows)


def _base_to_new(grid: Grid, options: LogOptions, theirs: list[Published]) -> Iterator[Block]:
    """Make a block of the average, then one a data set: methods by base, new and harmonic mean.

    A last column has the harmonic mean taken seed by seed, if that differs anywhere in the two decimals shown.
    """
    both = [(grid.harmonic(m, name), grid.harmonic_by_seed(m, name)) for m in grid.methods for name in grid.datasets]
    last = [BY_SEED] * any(show_number(mean) != show_number(other) for mean, other in both if None not in (mean, other))
    head = ["method", *HALVES, "H", *last]
    rows = []
    for method in grid.methods:
        averages = [*(grid.average(method, part) for part in HALVES), grid.average_harmonic(method)]
        rows.append([method, *map(show_average, averages), *[""] * len(last)])
    rows += _their_rows(theirs, lambda f: _with_harmonic(_their_average(grid, f, part, 0) for part in HALVES), last)
    yield Block(average_name(grid).capitalize(), head, rows)
    for name in grid.datasets:
        rows = []
        for method in grid.methods:
            cells = grid.halves(method, name)
            harmonic = show_number(grid.harmonic(method, name)) + _lack(min(cells, key=lambda cell: len(cell.runs)))
            by_seed = [show_number(grid.harmonic_by_seed(method, name)) for _ in last]
            rows.append([method, *(_show_cell(cell, options) for cell in cells), harmonic, *by_seed])
        rows += _their_rows(theirs, lambda f: _with_harmonic(f.figure(name, part) for part in HALVES), last)  # noqa: B023
        yield Block(dataset_name(name), head, rows)


def _transfer(grid: Grid, options: LogOptions, theirs: list[Published]) -> Iterator[Block]:
    """Make one block: data sets by methods; the source first, outside the average."""
    rows = [
        [
            dataset_name(name) + " (source)" * (name == SOURCE),
            *(_show_cell(grid.cell(method, name), options) for method in grid.methods),
            *(_show_figure(figures.figure(name)) for figures in theirs),
        ]
        for name in grid.datasets
    ]
    averages = [show_average(grid.average(method)) for method in grid.methods]
    rows.append([average_name(grid), *averages, *(_show_figure(_their_average(grid, f, "", 0)) for f in theirs)])
    head = ["data set", *grid.methods, *(figures.name for figures in theirs)]
    yield Block(f"Trained on {dataset_name(SOURCE)}, tested on", head, rows)


# --- figures of others -----------------------------------------------------------------------------------


def _theirs(grid: Grid) -> list[Published]:
    """Choose the published tables that have a figure for one of our cells."""
    return [
        figures
        for figures in PUBLISHED
        if figures.protocol == grid.protocol.name
        and any(shots in grid.shots for name in grid.datasets for _, shots in figures.accuracy.get(name, {}))
    ]


def _their_rows(
    theirs: list[Published], figures_of: Callable[[Published], list[Figure | None]], padding: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Yield a row for every published method that has a figure there.

    Parameters
    ----------
    theirs
        Published methods.
    figures_of
        Chooses the figures of one of them, one a column.
    padding
        As many empty cells follow.
    """
    for published in theirs:
        figures = figures_of(published)
        if any(figures):
            yield [published.name, *map(_show_figure, figures), *[""] * len(padding)]


def _their_average(grid: Grid, figures: Published, part: str, shots: int) -> Figure | None:
    """Average a published column over the data sets of our average, where it has all of them."""
    each = [figures.figure(name, part, shots) for name in grid.averaged]
    means = [figure[0] for figure in each if figure is not None]
    return (statistics.fmean(means), None) if means and len(means) == len(each) else None


def _with_harmonic(halves: Iterator[Figure | None]) -> list[Figure | None]:
    """Add the harmonic mean to published figures of base and new classes."""
    base, new = halves
    return [base, new, (harmonic_mean(base[0], new[0]), None) if base and new else None]


# --- text ------------------------------------------------------------------------------------------------


def _show_cell(cell: Cell | None, options: LogOptions) -> str:
    """Show "71.25 ± 0.35"; with a seed missing "71.25 ± 0.35 (2 of 3)"; with all missing "– (0 of 3)"."""
    return "" if cell is None else _show_figure((cell.mean, _spread(cell, options))) + _lack(cell)


def _show_figure(figure: tuple[float | None, float | None] | None) -> str:
    """Show "92.00 ± 0.15"; without spread where none was published."""
    if figure is None:
        return ""
    mean, spread = figure
    return show_number(mean) + ("" if spread is None else f" ± {spread:.2f}")


def _spread(cell: Cell, options: LogOptions) -> float | None:
    """None for fewer than two seeds."""
    return deviation([run.accuracy for run in cell.runs], options) if len(cell.runs) > 1 else None


def _lack(cell: Cell) -> str:
    """Say "(2 of 3)" where seeds are missing."""
    return f" ({len(cell.runs)} of {cell.expected})" if cell.missing else ""


# --- CSV -------------------------------------------------------------------------------------------------


def _lines(grid: Grid, options: LogOptions, theirs: list[Published]) -> Iterator[Sequence[Any]]:
    """Cells, then harmonic means, then averages (dataset "average"), then the figures of others."""
    protocol = grid.protocol

    def line(dataset: str, part: str, method: str, shots: int, mean: float | None, spread: float | None = None,
             counts: tuple = ("", "", ""), source: str = "ours") -> Sequence[Any]:  # fmt: skip
        place = (protocol.name, dataset, part, method, shots if protocol.by_shots else "")
        return *place, *counts, mean, spread, source

    def average_line(part: str, method: str, shots: int, average: Average | None) -> Iterator[Sequence[Any]]:
        if average is not None:
            yield line("average", part, method, shots, average.mean, counts=("", "", average.missing))

    for (method, dataset, part, shots), cell in grid.cells.items():
        counts = (len(cell.runs), cell.expected, cell.missing)
        yield line(dataset, part, method, shots, cell.mean, _spread(cell, options), counts)
    for method in grid.methods:
        if protocol.name == "base2new":
            for dataset in grid.datasets:
                yield line(dataset, "H", method, 0, grid.harmonic(method, dataset))
                yield line(dataset, BY_SEED, method, 0, grid.harmonic_by_seed(method, dataset))
            yield from average_line("H", method, 0, grid.average_harmonic(method))
        for part in protocol.parts:
            for shots in grid.shots:
                yield from average_line(part, method, shots, grid.average(method, part, shots))
    for figures in theirs:
        for dataset in (name for name in grid.datasets if name in figures.accuracy):
            for (part, shots), (mean, spread) in figures.accuracy[dataset].items():
                if shots in grid.shots:
                    yield line(dataset, part, figures.name, shots, mean, spread, source=figures.source)
