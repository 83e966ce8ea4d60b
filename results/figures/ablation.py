"""Accuracy of one run under every matching, above how far each matching's plan is from doing nothing.

Both panels share the axis of epsilon, which only the transport has; the other matchings are lines across.  A small
epsilon sharpens the plan, a large one flattens it to uniform, so the lower panel says how strong the medicine was, and
the upper one whether it helped.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..numbers.ablation import Ablation, Row
from .style import GREY, LOOKS, Look, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = ((0, (6, 3)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)))  # lines of the matchings without epsilon
DISTANCES = (  # key, name, look
    ("distance_from_uniform", "all classes", LOOKS[0]),
    ("distance_from_uniform_predicted", "predicted class", LOOKS[10]),
)


def ablation_figure(ablation: Ablation, title: str = "") -> Figure:
    """Draw accuracy against epsilon, over the plan's distance from uniform; the other matchings are lines across.

    Hollow points: not every problem had converged within the limit of iterations.

    Parameters
    ----------
    ablation
        One run under several settings.
    title
        Instead of the usual one, for a page that names the run elsewhere.
    """
    figure = new_figure(5.4, 6.0)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    top.set_xscale("log")
    set_title(top, title or f"{ablation.trainer}, {ablation.dataset}: the same prompts under other matchings")
    top.set_ylabel(f"{ablation.split} accuracy (%)")
    bottom.set_ylabel("distance of the plan\nfrom uniform", linespacing=1.5)
    bottom.set_xlabel("epsilon of the transport (cosine distance)")
    bottom.set_ylim(0, 1)

    transported = [row for row in ablation.rows if row.epsilon is not None]
    _points(top, transported, [ablation.percent(row.correct) for row in transported], LOOKS[0], "ot")
    for key, name, look in DISTANCES:
        _points(bottom, transported, [_number(row.transport.get(key)) for row in transported], look, name)
    for index, row in enumerate(row for row in ablation.rows if row.epsilon is None):
        line, color = ACROSS[index % len(ACROSS)], LOOKS[1 + index].color
        name = row.matching + " (the run's own)" * row.own
        top.axhline(ablation.percent(row.correct), color=color, linestyle=line, linewidth=1.4, label=name)
    own = ablation.percent(ablation.own.correct)
    if ablation.own.epsilon is not None:
        ring = {"marker": "o", "markersize": 13, "markeredgewidth": 1.4, "markerfacecolor": "none", "linestyle": ""}
        top.plot([ablation.own.epsilon], [own], markeredgecolor=GREY.color, label="the run's own", zorder=4, **ring)
    low, high = own - ablation.standard_error, own + ablation.standard_error
    top.axhspan(low, high, color=GREY.color, alpha=0.14, linewidth=0, label="own ± standard error")
    if not all(map(_converged, transported)):
        top.plot([], [], color=LOOKS[0].color, marker="o", markerfacecolor="white", markeredgewidth=1.5, linestyle="",
                 label="not all converged")  # fmt: skip

    ticks = sorted(row.epsilon or 0.0 for row in transported) or [0.01, 0.1, 1.0]
    bottom.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    bottom.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    bottom.set_xticks([], minor=True)
    if transported:
        bottom.legend(loc="upper right")
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _points(axes: Axes, rows: list[Row], values: list[float], look: Look, label: str) -> None:
    """Draw a line through the points, hollow where not all had converged."""
    epsilons = [_number(row.epsilon) for row in rows]
    axes.plot(epsilons, values, color=look.color, marker=look.marker, linestyle=look.line, label=label, zorder=3)
    for epsilon, value, row in zip(epsilons, values, rows, strict=True):
        if not _converged(row):
            axes.plot([epsilon], [value], marker=look.marker, color="white", markersize=3, linestyle="", zorder=4)


def _number(value: float | None) -> float:
    """NaN, which matplotlib leaves out, for what is not there."""
    return math.nan if value is None else value


def _converged(row: Row) -> bool:
    """Whether every problem of the test had converged."""
    return row.transport.get("converged_share") == 1.0


def describe_ablation(ablation: Ablation) -> str:
    """Say what the figure shows, for those who cannot see it."""
    accuracy = ", ".join(f"{row.title} {ablation.percent(row.correct):.1f}%" for row in ablation.rows)
    return f"Accuracy of one {ablation.trainer} run on {ablation.dataset} under other matchings: {accuracy}."
