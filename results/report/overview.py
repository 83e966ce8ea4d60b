"""The top of the page: what was run, in a sentence, and the numbers that one looks for first."""

from __future__ import annotations

from typing import Any

from dassl.plain.console import ranges_text
from datasets.draws import PROPORTIONAL
from runs.methods import group, notes

from ..numbers.best import best
from ..numbers.cells import ALL_IMAGES, ZERO_SHOT, Spread, average, shots_text, spread
from ..numbers.summary import Summary
from .parts import Cell

MOST_TILES = 9  # more would hide the page behind them


def overview(summary: Summary) -> dict[str, Any]:
    """Say what was run, with warnings, and the numbers that one looks for first.

    Returns
    -------
    data
        The sentence, what came out in words, the notes on marked methods, whether all is whole, and the tiles as
        (name, number).
    """
    runs = summary.complete_runs
    shots = sorted({run.shots for run in runs if run.shots > 0})
    seeds = sorted({run.seed for run in runs if run.seed >= 0})
    sentence = f"{join(summary.methods)} on {join([section.title for section in summary.sections])}"
    if shots:
        sentence += f"; {join(shots)} training image{'s' * (shots != [1])} per class"
        sentence += " on average" * any(run.draw == PROPORTIONAL for run in runs)
    if seeds:
        sentence += f"; seed{'s' * (len(seeds) > 1)} {ranges_text(seeds)}"
    tiles = [("runs complete", Cell(str(len(runs)), f" of {len(runs) + summary.missing}"))]
    most = max(shots, default=ALL_IMAGES)
    for method in summary.methods:
        for count in (ZERO_SHOT, most):
            value = headline(summary, method, count)
            if value is not None:
                where = "without training" if count == ZERO_SHOT else f"at {shots_text(most)}"
                where += ", average" if len(summary.sections) > 1 else ""
                deviation = "" if value.deviation is None else f" ± {value.deviation:.1f}"
                tiles.append((f"{method} {where}", Cell(f"{value.mean:.1f}%", deviation)))
    return {
        "sentence": sentence,
        "findings": findings(summary),
        "tiles": tiles if len(tiles) <= MOST_TILES else tiles[:1],
        "notes": notes(summary.methods),
        "whole": summary.whole,
    }


def findings(summary: Summary) -> list[str]:
    """Say which method is best at the most shots, and which others cannot be told from it: of each kind, on average."""
    said = []
    for sections in group(summary.sections, lambda section: section.kind).values():
        shots = max((count for count in sections[0].shots if count > 0), default=max(sections[0].shots))
        column = best(sections, [shots])
        winners = [name for name, _ in column.places]
        if not winners:
            continue
        means = {name: average([section.cells[name, shots] for section in sections]).mean for name in winners}
        top = max(winners, key=lambda name: means[name] or 0.0)
        others = [name for name in sections[0].methods if name in winners and name != top]
        where = sections[0].title if len(sections) == 1 else f"{len(sections)} data sets" + sections[0].kind.qualifier
        so = f"{join(others)} cannot be told from it" if others else "beyond chance better than every other there"
        said.append(f"At {shots_text(shots)} on {where}, {top} has the highest accuracy ({means[top]:.1f}%): {so}.")
    return said


def headline(summary: Summary, method: str, shots: int) -> Spread | None:
    """Find the one cell there is, or the mean over data sets where all have one.

    Returns None where they are of several kinds (parts of the classes, splits, draws), which have no mean in common.
    """
    if len({section.kind for section in summary.sections}) > 1:
        return None
    cells = [cell for section in summary.sections if (cell := section.cell(method, shots))]
    spreads = [cell.accuracy for cell in cells if cell.accuracy]
    if not spreads or len(spreads) < len(summary.sections):
        return None
    return spreads[0] if len(spreads) == 1 else Spread(spread(value.mean for value in spreads).mean, 0.0, 1)


def join(items: list) -> str:
    """List items in a sentence: "a", "a and b", "a, b and c"."""
    texts = [str(item) for item in items]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)
