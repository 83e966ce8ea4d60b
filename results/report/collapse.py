"""Do the prompts of a class grow alike in training?  The cosines between them by epoch, as a curve and in words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from runs.methods import group
from runs.record import Run

from ..figures.curves import common_history, finish_by_epoch, lines_by_shots
from ..figures.plotting import new_figure, set_title
from ..tables.tables import shots_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "prompt_cosine"  # of an entry of the history: the pairs (1, 2), (1, 3), ...


class Pairs(NamedTuple):
    """Cosines of all pairs of prompts after an epoch, each the mean over runs."""

    epoch: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + (f" ({self.low:.3f} to {self.high:.3f})" if self.low < self.high else "")


def pair_history(runs: Sequence[Run]) -> list[Pairs]:
    """By epoch, over the epochs that every run has; empty where there is one prompt, or an older record."""
    pairs = []
    for epoch, of_runs in common_history(runs, KEY):
        means = [statistics.fmean(values) for values in zip(*of_runs, strict=False)]
        if means:
            pairs.append(Pairs(epoch, statistics.fmean(means), min(means), max(means)))
    return pairs


def pairs_by_shots(runs: Sequence[Run]) -> dict[int, list[Pairs]]:
    """{shots: pair_history}, without those that have none."""
    found = {shots: pair_history(members) for shots, members in sorted(group(runs, lambda run: run.shots).items())}
    return {shots: pairs for shots, pairs in found.items() if pairs}


def prompts_figure(title: str, runs: Sequence[Run]) -> Figure | None:
    """Mean cosine between prompts by epoch, a line a number of shots; the band is the range of the pairs."""
    by_shots = pairs_by_shots(runs)
    if not by_shots:
        return None
    figure = new_figure(4.8, 4.6)
    axes = figure.subplots()
    for look, pairs in lines_by_shots(by_shots):
        epochs = [one.epoch for one in pairs]
        low, high = [one.low for one in pairs], [one.high for one in pairs]
        axes.fill_between(epochs, low, high, color=look["color"], alpha=0.16, linewidth=0)
        axes.plot(epochs, [one.mean for one in pairs], marker="o" if len(epochs) == 1 else None, **look)
    set_title(axes, title)
    axes.set_ylabel("cosine between prompts of a class")
    axes.set_ylim(top=1.0)
    finish_by_epoch(figure, axes)
    return figure


def describe_prompts(title: str, runs: Sequence[Run]) -> str:
    """The figure in words: first and last epoch."""
    said = [
        f"{shots_text(shots)}: {pairs[0]} → {pairs[-1]}" for shots, pairs in pairs_by_shots(runs).items()
    ]
    return f"Cosine between the prompts of a class, {title}, mean (range of the pairs), first → last epoch: " + (
        "; ".join(said) + "."
    )
