"""Reliability diagrams: how often a method is right where it says that it is, a panel a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dassl.plain.calibration import BINS, Bins

from ..numbers.calibration import Reliability
from .style import GREY, Look, legend_below, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 3.1  # inches of a panel
MARKS = (8.0, 160.0)  # area of a mark: of a bin with few images, and of one that holds them all
Panels = Sequence[tuple[str, Sequence[Reliability]]]  # (title of a section, its methods)


def reliability_figure(rows: Panels, look: dict[str, Look]) -> Figure:
    """Draw a row a section, in it a panel a method.

    Parameters
    ----------
    rows
        Sections that have something to draw.
    look
        How every method is drawn.
    """
    across = max(len(members) for _, members in rows)
    figure = new_figure(max(SIDE * across, 4.6), (SIDE + 0.35) * len(rows) + 0.4)
    grid = figure.subplots(len(rows), across, squeeze=False)
    for panels, (title, members) in zip(grid, rows, strict=True):
        for axes, shown in zip(panels, members, strict=False):
            draw_reliability(axes, shown, look[shown.column.method])
            set_title(axes, f"{title}: {shown.column.title}" if len(rows) > 1 else shown.column.title)
        panels[0].set_ylabel("accuracy; share of images (%)")
        for axes in panels[len(members) :]:
            axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("confidence (%)")
    legend_below(figure, columns=4)
    return figure


def draw_reliability(axes: Axes, shown: Reliability, look: Look) -> None:
    """Draw accuracy against mean confidence, a mark a bin, the larger the more images are in it.

    On the dashed diagonal confidence is what it should be; below it a method is too sure of itself.  Pale bars are the
    share of all images in each bin.  Hollow marks are those after temperature scaling.
    """
    share = 100 * shown.before.counts / shown.before.counts.sum()
    width = 100 / BINS
    bars: dict[str, Any] = {"color": GREY.color, "alpha": 0.25, "linewidth": 0}
    axes.bar(width * (np.arange(BINS) + 0.5), share, 0.92 * width, label="share of images", **bars)
    axes.plot([0, 100], [0, 100], color=GREY.color, linewidth=1, linestyle=(0, (4, 3)))
    filled: dict[str, Any] = {"color": look.color, "linewidths": 0}
    hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": look.color, "linewidths": 1.2}
    marks = [(shown.before, "o", "before scaling", filled), (shown.after, "D", "after scaling", hollow)]
    for bins, marker, label, style in marks:
        if bins is not None:
            axes.scatter(*points(bins), marker=marker, label=label, zorder=3, clip_on=False, **style)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xticks=range(0, 101, 25), yticks=range(0, 101, 25))


def points(bins: Bins) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean confidence and accuracy in %, and the area of the mark, of every bin that holds an image."""
    held = bins.counts > 0
    counts = bins.counts[held]
    least, most = MARKS
    return (
        100 * bins.confidence[held] / counts,
        100 * bins.hits[held] / counts,
        least + (most - least) * np.sqrt(counts / counts.sum()),
    )


def describe_reliability(title: str, members: Sequence[Reliability]) -> str:
    """Say what a row shows, for those who cannot see it: mean confidence beside accuracy, method by method."""
    said = []
    for shown in members:
        bins, total = shown.before, shown.before.counts.sum()
        confidence, accuracy = 100 * bins.confidence.sum() / total, 100 * bins.hits.sum() / total
        said.append(f"{shown.column.title} {confidence:.0f}% sure on average and right in {accuracy:.0f}%")
    return f"Reliability diagrams, {title}: {'; '.join(said)}."
