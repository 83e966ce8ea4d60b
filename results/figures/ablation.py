"""Accuracy of one run under every matching, above how far each matching's plan is from doing nothing.

Matchings that have a strength stand side by side, each above its own axis: epsilon, which sharpens the plan where it is
small and flattens it to uniform where it is large; rho, or the share that is moved.  The others are lines across.  The
lower panels say how strong the medicine was, in distance from uniform and in mass that was left out, and the upper ones
whether it helped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..numbers.ablation import Ablation, Row
from .style import GREY, LOOKS, Look, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = ((0, (6, 3)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)))  # lines of the matchings without a strength
DISTANCES = (  # key, name, look
    ("distance_from_uniform", "all classes", LOOKS[0]),
    ("distance_from_uniform_predicted", "predicted class", LOOKS[10]),
    ("left_out_predicted", "left out, predicted class", LOOKS[7]),
)
AXES = {  # else the setting by its own name
    "epsilon": "epsilon of the transport (cosine distance)",
    "rho": "rho of unbalanced (cosine distance)",
    "share": "share of the mass that partial moves",
}
LINEAR = ("share",)  # the others on logarithmic axes
WIDE, NARROW = 5.4, 3.4  # inches, of one matching alone and of each of several


def ablation_figure(ablation: Ablation, title: str = "") -> Figure:
    """Draw accuracy against the strength of each matching, over the plan's distance from uniform.

    Hollow points: not every problem had converged within the limit of iterations.

    Parameters
    ----------
    ablation
        One run under several settings.
    title
        Instead of the usual one, for a page that names the run elsewhere.
    """
    by_matching: dict[str, list[Row]] = {}
    for row in ablation.rows:
        if row.varied is not None:
            by_matching.setdefault(row.matching, []).append(row)
    columns = list(by_matching.items()) or [("", [])]
    figure = new_figure(WIDE if len(columns) == 1 else NARROW * len(columns), 6.0)
    panels = figure.subplots(2, len(columns), sharex="col", sharey="row", height_ratios=[3, 2], squeeze=False)
    words = title or f"{ablation.trainer}, {ablation.dataset}: the same prompts under other matchings"
    set_title(panels[0, 0], words)
    panels[0, 0].set_ylabel(f"{ablation.split} accuracy (%)")
    leaves = any("left_out_predicted" in row.transport for row in ablation.rows)
    panels[1, 0].set_ylabel(f"distance of the plan\nfrom uniform{'; left out' * leaves}", linespacing=1.5)
    panels[1, 0].set_ylim(0, 1)
    for (matching, rows), (top, bottom) in zip(columns, panels.T, strict=True):
        _draw(ablation, matching, rows, top, bottom)
    if any(by_matching):
        below = _legend(panels[1])
        panels[1, -1].legend(below.values(), below.keys(), loc="upper right")
    above = _legend(panels[0])
    figure.legend(above.values(), above.keys(), loc="outside lower center", ncols=3 if len(columns) == 1 else 5)
    return figure


def _legend(row: Iterable[Axes]) -> dict[str, Any]:
    """Gather {name: what it looks like} from panels, each name once."""
    return {
        name: handle
        for axes in row
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }  # fmt: skip


def _draw(ablation: Ablation, matching: str, rows: list[Row], top: Axes, bottom: Axes) -> None:
    """Draw the two panels of a matching that has a strength; of none, where there is no such matching."""
    strengths = [row.varied.value for row in rows if row.varied]
    setting = rows[0].varied.name if rows and rows[0].varied else "epsilon"
    top.set_xscale("linear" if setting in LINEAR else "log")
    bottom.set_xlabel(AXES.get(setting, f"{setting} of {matching}"))
    _points(top, rows, strengths, [ablation.percent(row.correct) for row in rows], LOOKS[0], matching)
    for key, name, look in DISTANCES:
        if any(key in row.transport for row in rows):
            _points(bottom, rows, strengths, [_number(row.transport.get(key)) for row in rows], look, name)
    for index, row in enumerate(row for row in ablation.rows if row.varied is None):
        line, color = ACROSS[index % len(ACROSS)], LOOKS[1 + index].color
        name = row.matching + " (the run's own)" * row.own
        top.axhline(ablation.percent(row.correct), color=color, linestyle=line, linewidth=1.4, label=name)
    own = ablation.percent(ablation.own.correct)
    if ablation.own in rows and ablation.own.varied is not None:
        ring: dict[str, Any] = {"marker": "o", "markersize": 13, "markeredgewidth": 1.4, "markerfacecolor": "none"}
        ring |= {"markeredgecolor": GREY.color, "linestyle": "", "zorder": 4}
        top.plot([ablation.own.varied.value], [own], label="the run's own", **ring)
    low, high = own - ablation.standard_error, own + ablation.standard_error
    top.axhspan(low, high, color=GREY.color, alpha=0.14, linewidth=0, label="own ± standard error")
    if not all(map(_converged, rows)):
        top.plot([], [], color=LOOKS[0].color, marker="o", markerfacecolor="white", markeredgewidth=1.5, linestyle="",
                 label="not all converged")  # fmt: skip
    ticks = sorted(strengths) or [0.01, 0.1, 1.0]
    if setting not in LINEAR:
        bottom.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    bottom.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    bottom.set_xticks([], minor=True)


def _points(axes: Axes, rows: list[Row], at: list[float], values: list[float], look: Look, label: str) -> None:
    """Draw a line through the points, hollow where not all had converged."""
    axes.plot(at, values, color=look.color, marker=look.marker, linestyle=look.line, label=label, zorder=3)
    for strength, value, row in zip(at, values, rows, strict=True):
        if not _converged(row):
            axes.plot([strength], [value], marker=look.marker, color="white", markersize=3, linestyle="", zorder=4)


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
