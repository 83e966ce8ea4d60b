"""The tables of `results compare`: every pair of methods in a place, and pairs summed up over data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runs.methods import group, notes
from runs.record import Run

from ..numbers.cells import shots_name, shots_text
from ..numbers.comparison import UNSEEDED, Comparison, Pair, Total
from ..numbers.paired import LEVEL, POWER, Difference
from .layout import Block, bold, csv_text, show_document
from .standing import footnote

MOST_SEEDS = 4  # of which every p is shown; of more, how many are below 0.05
PAIRED = ["difference", "95 % interval", "p", "Holm", "visible"]
HEAD = ["method", "against", "shots", *PAIRED, "McNemar by seed", "seeds", "images"]
TOTAL_HEAD = ["method", "against", "shots", *PAIRED, "wins/ties/losses", "Wilcoxon p"]
CSV_COLUMNS = (
    "dataset classes split draw shots first second difference standard_error degrees low high p p_holm visible "
    "images seeds only_first only_second mcnemar mcnemar_holm wins ties losses wilcoxon note"
).split()


def format_comparison(
    comparison: Comparison, runs: Mapping[str, Sequence[Run]], style: str = "text", draws: int = 0
) -> str:
    """Show a block a data set, then one over data sets; ends with a newline.

    Parameters
    ----------
    comparison
        Of a tree.
    runs
        {method: its runs}, for the footnote on what stands behind them.
    style
        One of layout.FORMATS; CSV has a line a pair and a line a total, at full precision.
    draws
        Of the bootstrap, which the note names.
    """
    if style == "csv":
        return csv_text(CSV_COLUMNS, _lines(comparison))
    over_data, by_data = blocks(comparison)
    names = dict.fromkeys(name for pair in comparison.pairs for name in (pair.place.first, pair.place.second))
    star = "after a star" if style == "text" else "bold"
    behind = footnote({name: runs[name] for name in names})
    said = [*how_compared(comparison, star, draws), *_seeds_left_out(comparison), behind, *notes(names)]
    return show_document(said, [*by_data, *over_data], style)


def blocks(comparison: Comparison) -> tuple[list[Block], list[Block]]:
    """Return the tables over data sets, and those of single ones."""
    totals = group(comparison.totals, lambda total: total.place.kind)
    pairs = group(comparison.pairs, lambda pair: (pair.place.dataset, pair.place.kind))
    over_data = [
        Block(
            f"Over {' or '.join(_numbers_of_data_sets(rows))} data sets{kind.qualifier}",
            TOTAL_HEAD, list(map(_total_row, rows)), words=2,
        )
        for kind, rows in totals.items()
    ]  # fmt: skip
    by_data = [
        Block(dataset + kind.qualifier, HEAD, list(map(_row, rows)), words=2) for (dataset, kind), rows in pairs.items()
    ]
    return over_data, by_data


def _row(pair: Pair) -> list[str]:
    seeds = str(pair.difference.seeds) if pair.seeds != (UNSEEDED,) else "none"
    return [
        pair.place.first,
        pair.place.second,
        shots_name(pair.place.shots),
        *_difference(pair.difference, pair.p_holm),
        _mcnemar(pair.mcnemar_holm),
        seeds + "*" * bool(pair.note),
        f"{pair.difference.images}",
    ]


def _total_row(total: Total) -> list[str]:
    enough = total.wilcoxon_least < LEVEL
    return [
        total.place.first,
        total.place.second,
        shots_name(total.place.shots),
        *_difference(total.difference, total.p_holm),
        "/".join(map(str, total.record)),
        show_p(total.wilcoxon) if enough else f"{show_p(total.wilcoxon)} (at least {show_p(total.wilcoxon_least)})",
    ]


def _difference(difference: Difference, p_holm: float) -> list[str]:
    """Show the columns PAIRED; what remains significant after the correction is bold."""
    mean = f"{difference.difference:+.2f}"
    return [
        bold(mean) if p_holm < LEVEL else mean,
        f"{difference.low:+.2f} to {difference.high:+.2f}",
        show_p(difference.p),
        show_p(p_holm),
        f"{difference.visible:.2f}",
    ]


def _mcnemar(values: Sequence[float]) -> str:
    """Show every seed's p; of many seeds, how many are significant."""
    if len(values) <= MOST_SEEDS:
        return ", ".join(map(show_p, values))
    return f"{sum(value < LEVEL for value in values)} of {len(values)} below {LEVEL:g}"


def show_p(p: float) -> str:
    """Show a p value: three digits behind the point, "<0.001" below."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _numbers_of_data_sets(totals: Iterable[Total]) -> list[str]:
    return list(map(str, sorted({len(total.by_dataset) for total in totals})))


def how_compared(comparison: Comparison, star: str, draws: int = 0) -> list[str]:
    """Say how interval, p and correction were made; `star` says how a significant difference looks."""
    how = f"{draws} draws" if draws else "its limit of many draws"
    said = [
        "Differences in points of accuracy, method minus the one it is compared with, on the same test images and "
        "seeds; the 95 % interval and p are Student's t with the standard error of a bootstrap over images and seeds "
        f"({how}). Holm: p corrected for all {len(comparison.pairs)} comparisons shown (McNemar's exact tests: for "
        f"those of the same seed), {star} where it is below {LEVEL:g}; visible: the smallest difference found with a "
        f"probability of {POWER:.0%}."
    ]
    if comparison.totals:
        said.append(
            "Over data sets: the mean difference, its p corrected for the rows of that table; a win or a loss is "
            "beyond the interval of its data set. Wilcoxon's signed-rank test takes each data set as one observation: "
            "with fewer than 6 it cannot be below 0.05, and the least that it can be is shown."
        )
    return said


def _seeds_left_out(comparison: Comparison) -> list[str]:
    """Say which pairs were compared on fewer seeds than they have."""
    said = []
    for pair in comparison.pairs:
        if pair.note:
            place = pair.place
            where = f"{place.dataset}{place.kind.qualifier} at {shots_text(place.shots)}"
            said.append(f"* {place.first} and {place.second}, {where}: {pair.note}.")
    return said


def _lines(comparison: Comparison) -> Iterable[Sequence[Any]]:
    """Yield the lines of the CSV; of a total the data set is empty."""
    for pair in comparison.pairs:
        difference = pair.difference
        seeds = "" if pair.seeds == (UNSEEDED,) else _joined(pair.seeds)
        counts = (difference.images, seeds, _joined(difference.won), _joined(difference.lost))
        tests = (_joined(difference.mcnemar), _joined(pair.mcnemar_holm))
        yield [*_place(pair), *_numbers(difference, pair.p_holm), *counts, *tests, *[None] * 4, pair.note]
    for total in comparison.totals:
        blank = [None] * 6
        numbers = _numbers(total.difference, total.p_holm)
        yield [*_place(total), *numbers, *blank, *total.record, total.wilcoxon, ""]


def _place(of: Pair | Total) -> list[Any]:
    place = of.place
    return [place.dataset, *place.kind, shots_name(place.shots), place.first, place.second]


def _numbers(difference: Difference, p_holm: float) -> list[float]:
    return [
        difference.difference,
        difference.standard_error,
        difference.degrees,
        difference.low,
        difference.high,
        difference.p,
        p_holm,
        difference.visible,
    ]


def _joined(values: Iterable[float]) -> str:
    """Join numbers of the seeds, in their order."""
    return " ".join(map(str, values))
