"""Do the prompts of a class grow alike in training?  The cosines between them by epoch, as a curve and in words.

PLOT's prompts start apart, and the transport spreads its mass over all of them whatever they are; if they grew alike,
several prompts would say no more than one.  Runs keep the cosines of all pairs of prompts after every epoch.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from runs.methods import group
from runs.record import Run

from ..numbers.cells import shots_text
from .curves import common_history, finish_by_epoch, lines_by_shots
from .style import new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "prompt_cosine"  # of an entry of the history: the pairs (1, 2), (1, 3), ...


class Pairs(NamedTuple):
    """Cosines of all pairs of prompts after an epoch, each the mean over runs.

    `mean`, `low` and `high` are over the pairs: at 1 the two prompts of a pair have become one.
    """

    epoch: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Show the mean, and the range where there are several pairs."""
        return f"{self.mean:.3f}" + (f" ({self.low:.3f} to {self.high:.3f})" if self.low < self.high else "")


def pair_history(runs: Sequence[Run]) -> list[Pairs]:
    """Average each pair over runs, by epoch.

    Parameters
    ----------
    runs
        Of one method at one number of shots.

    Returns
    -------
    pairs
        One entry for every epoch that all runs have; empty where there is one prompt, or an older record.
    """
    pairs = []
    for epoch, of_runs in common_history(runs, KEY):
        means = [statistics.fmean(values) for values in zip(*of_runs, strict=False)]
        if means:
            pairs.append(Pairs(epoch, statistics.fmean(means), min(means), max(means)))
    return pairs


def pairs_by_shots(runs: Sequence[Run]) -> dict[int, list[Pairs]]:
    """Average the pairs of every number of shots that has some."""
    by_shots = sorted(group(runs, lambda run: run.shots).items())
    return {shots: pairs for shots, members in by_shots if (pairs := pair_history(members))}


def prompts_figure(title: str, runs: Sequence[Run]) -> Figure | None:
    """Draw the mean cosine between prompts by epoch, a line a number of shots; the band is the range of the pairs.

    Returns None where no record has cosines.
    """
    by_shots = pairs_by_shots(runs)
    if not by_shots:
        return None
    figure = new_figure(4.8, 4.6)
    axes = figure.subplots()
    for look, pairs in lines_by_shots(by_shots):
        epochs, means, low, high = zip(*pairs, strict=True)
        axes.fill_between(epochs, low, high, color=look["color"], alpha=0.16, linewidth=0)
        axes.plot(epochs, means, marker="o" if len(epochs) == 1 else None, **look)
    set_title(axes, title)
    axes.set_ylabel("cosine between prompts of a class")
    axes.set_ylim(top=1.0)
    finish_by_epoch(figure, axes)
    return figure


def describe_prompts(title: str, runs: Sequence[Run]) -> str:
    """Say what the figure shows, first and last epoch; "" where no record has cosines."""
    said = [f"{shots_text(shots)}: {pairs[0]} → {pairs[-1]}" for shots, pairs in pairs_by_shots(runs).items()]
    about = f"Cosine between the prompts of a class, {title}, mean (range of the pairs), first → last epoch"
    return f"{about}: {'; '.join(said)}." if said else ""
