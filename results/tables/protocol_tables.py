"""The tables of the evaluation protocols, as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from runs.methods import notes

from ..numbers.parse import ParseOptions
from ..numbers.protocols import DATASETS, DOMAINS, SOURCE, ZERO_SHOT, Cell, Grid, harmonic_mean
from ..numbers.published import HALVES, PUBLISHED, Figure, Published
from ..numbers.summary import Average
from .tables import ABSENT, Block, csv_text, show_average, show_document

CSV_COLUMNS = tuple(
    "protocol dataset part method shots seeds expected_seeds missing_runs mean spread source".split()
)  # harmonic means and averages have no seeds of their own
BY_SEED = "H over seeds"


def format_grid(grid: Grid, style: str = "text", options: ParseOptions | None = None, published: bool = False) -> str:
    """Ends with a newline.  `style` is one of FORMATS; CSV is one line a cell, at full precision.

    `published` adds the figures of others, and where they are from, where there are any for the protocol.
    """
    options = options or ParseOptions()
    if style == "csv":
        return csv_text(CSV_COLUMNS, _lines(grid, options, published))
    blocks = {"fewshot": _few_shot, "base2new": _base_to_new}.get(grid.protocol.name, _transfer)
    theirs = _theirs(grid) if published else []
    sources = {figures.source: [one.name for one in theirs if one.source == figures.source] for figures in theirs}
    said = [caption(grid, options), *(f"{', '.join(names)}: {source}." for source, names in sources.items())]
    return show_document(said, blocks(grid, options, theirs), style)


def caption(grid: Grid, options: ParseOptions) -> str:
    seeds = ", ".join(map(str, grid.seeds))
    text = f"{grid.protocol.title}: accuracy in %, mean ± {spread_name(options)} over seeds {seeds}."
    if grid.protocol.name == "base2new":
        text += " H: harmonic mean of the two means; of the averages, that of the two averages."
    text += " (k of n): only k of n seeds have a result." if grid.missing else ""
    return " ".join([text, *notes(grid.methods)])


def spread_name(options: ParseOptions) -> str:
    std = f"{'sample' if options.sample_std else 'population'} standard deviation"
    return f"95% interval (1.96 {std} / sqrt n)" if options.ci95 else std


def dataset_name(dataset: str) -> str:
    return DATASETS.get(dataset) or DOMAINS.get(dataset) or dataset


def average_name(grid: Grid) -> str:
    """ "average of 11 data sets"; "average of 2 data sets (the protocol has 11)"."""
    count, due = len(grid.averaged), grid.protocol.datasets
    text = f"average of {count} data set{'s' * (count != 1)}"
    return text if set(grid.averaged) == set(due) else f"{text} (the protocol has {len(due)})"


# --- blocks ----------------------------------------------------------------------------------------------


def _few_shot(grid: Grid, options: ParseOptions, theirs: list[Published]) -> Iterator[Block]:
    """A block a data set: methods by shots; then their average."""
    head = ["method", *("0 shots" if n == ZERO_SHOT else f"{n} shot{'s' * (n > 1)}" for n in grid.shots)]
    for name in grid.datasets:
        rows = [
            [method, *(_show_cell(grid.cell(method, name, "", count), options) for count in grid.shots)]
            for method in grid.methods
        ]
        for figures in theirs:
            found = [figures.accuracy.get(name, {}).get(("", count)) for count in grid.shots]
            if any(found):
                rows.append([figures.name, *map(_show_published, found)])
        yield Block(dataset_name(name), head, rows)
    rows = [
        [method, *(show_average(grid.average(method, "", count)) for count in grid.shots)] for method in grid.methods
    ]
    for figures in theirs:
        averages = [_published_average(grid, figures, "", count) for count in grid.shots]
        if any(averages):
            rows.append([figures.name, *map(_show_published, averages)])
    yield Block(average_name(grid).capitalize(), head, rows)


def _base_to_new(grid: Grid, options: ParseOptions, theirs: list[Published]) -> Iterator[Block]:
    """The average, then a block a data set: methods by base, new and harmonic mean."""
    both = [(grid.harmonic(m, name), grid.harmonic_by_seed(m, name)) for m in grid.methods for name in grid.datasets]
    differ = any(f"{mean:.2f}" != f"{other:.2f}" for mean, other in both if mean is not None and other is not None)
    head = ["method", *HALVES, "H", *[BY_SEED] * differ]
    rows = [
        [method, *(show_average(grid.average(method, part)) for part in HALVES)]
        + [show_average(grid.average_harmonic(method)), *[""] * differ]
        for method in grid.methods
    ]
    for figures in theirs:
        averages = [_published_average(grid, figures, part, 0) for part in HALVES]
        if all(averages):
            rows.append([figures.name, *_with_harmonic(averages), *[""] * differ])
    yield Block(average_name(grid).capitalize(), head, rows)
    for name in grid.datasets:
        rows = []
        for method in grid.methods:
            cells = [grid.cells[method, name, part, 0] for part in HALVES]
            row = [method, *(_show_cell(cell, options) for cell in cells)]
            row.append(_show_number(grid.harmonic(method, name)) + _lack(min(cells, key=lambda c: len(c.values))))
            rows.append(row + [_show_number(grid.harmonic_by_seed(method, name))] * differ)
        for figures in theirs:
            if name in figures.accuracy:
                pair = [figures.accuracy[name].get((part, 0)) for part in HALVES]
                rows.append([figures.name, *_with_harmonic(pair), *[""] * differ])
        yield Block(dataset_name(name), head, rows)


def _transfer(grid: Grid, options: ParseOptions, theirs: list[Published]) -> Iterator[Block]:
    """One block: data sets by methods; the source first, outside the average."""
    rows = [
        [
            dataset_name(name) + " (source)" * (name == SOURCE),
            *(_show_cell(grid.cell(method, name), options) for method in grid.methods),
            *(_show_published(figures.accuracy.get(name, {}).get(("", 0))) for figures in theirs),
        ]
        for name in grid.datasets
    ]
    rows.append(
        [
            average_name(grid),
            *(show_average(grid.average(method)) for method in grid.methods),
            *(_show_published(_published_average(grid, figures, "", 0)) for figures in theirs),
        ]
    )
    head = ["data set", *grid.methods, *(figures.name for figures in theirs)]
    yield Block(f"Trained on {dataset_name(SOURCE)}, tested on", head, rows)


# --- figures of others -----------------------------------------------------------------------------------


def _theirs(grid: Grid) -> list[Published]:
    """The published tables that have a figure for one of our cells."""
    return [
        figures
        for figures in PUBLISHED
        if figures.protocol == grid.protocol.name
        and any(shots in grid.shots for name in grid.datasets for _, shots in figures.accuracy.get(name, {}))
    ]


def _published_average(grid: Grid, figures: Published, part: str, shots: int) -> Figure | None:
    """Over the data sets of our average, where all of them are in the published table."""
    found = [figures.accuracy.get(name, {}).get((part, shots)) for name in grid.averaged]
    means = [one[0] for one in found if one is not None]
    return (statistics.fmean(means), None) if means and len(means) == len(found) else None


def _with_harmonic(pair: Sequence[Figure | None]) -> list[str]:
    base, new = pair
    mean = (harmonic_mean(base[0], new[0]), None) if base and new else None
    return [_show_published(base), _show_published(new), _show_published(mean)]


# --- text ------------------------------------------------------------------------------------------------


def _show_cell(cell: Cell | None, options: ParseOptions) -> str:
    """ "71.25 ± 0.35"; with a seed missing "71.25 ± 0.35 (2 of 3)"; with all missing "– (0 of 3)"."""
    if cell is None:
        return ""
    spread = cell.spread(options)
    return _show_number(cell.mean) + ("" if spread is None else f" ± {spread:.2f}") + _lack(cell)


def _show_published(figure: Figure | None) -> str:
    if figure is None:
        return ""
    mean, spread = figure
    return f"{mean:.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def _show_number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def _lack(cell: Cell) -> str:
    return f" ({len(cell.values)} of {cell.expected})" if cell.missing else ""


# --- CSV -------------------------------------------------------------------------------------------------


def _lines(grid: Grid, options: ParseOptions, published: bool) -> Iterator[Sequence[Any]]:
    """Cells, then harmonic means, then averages (dataset "average"), then the figures of others."""
    protocol = grid.protocol

    def line(
        dataset: str,
        part: str,
        method: str,
        shots: int,
        mean: float | None,
        spread: float | None = None,
        counts: tuple = ("", "", ""),
        source: str = "ours",
    ) -> Sequence[Any]:
        place = (protocol.name, dataset, part, method, shots if protocol.by_shots else "")
        return *place, *counts, mean, spread, source

    def average_line(part: str, method: str, shots: int, average: Average | None) -> Iterator[Sequence[Any]]:
        if average is not None:
            yield line("average", part, method, shots, average.mean, counts=("", "", average.missing))

    for (method, dataset, part, shots), cell in grid.cells.items():
        counts = (len(cell.values), cell.expected, cell.missing)
        yield line(dataset, part, method, shots, cell.mean, cell.spread(options), counts)
    for method in grid.methods:
        if protocol.name == "base2new":
            for dataset in grid.datasets:
                yield line(dataset, "H", method, 0, grid.harmonic(method, dataset))
                yield line(dataset, BY_SEED, method, 0, grid.harmonic_by_seed(method, dataset))
            yield from average_line("H", method, 0, grid.average_harmonic(method))
        for part in protocol.parts:
            for shots in grid.shots:
                yield from average_line(part, method, shots, grid.average(method, part, shots))
    for figures in _theirs(grid) if published else []:
        for dataset in (name for name in grid.datasets if name in figures.accuracy):
            for (part, shots), (mean, spread) in figures.accuracy[dataset].items():
                if shots in grid.shots:
                    yield line(dataset, part, figures.name, shots, mean, spread, source=figures.source)
