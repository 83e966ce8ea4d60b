"""Histograms of the scores of known and foreign images, a panel for each score.

Each origin's counts are shares of its own images, since there may be many more of one than of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ..numbers.ood import Detection
from .style import GREY, LOOKS, legend_below, new_figure, set_title, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.4, 3.2  # inches of a panel


def ood_figure(detection: Detection, title: str = "") -> Figure:
    """Draw the histograms.

    Parameters
    ----------
    detection
        One run, its known images and foreign ones.
    title
        Instead of the usual one, for a page that names the run elsewhere.
    """
    figure = new_figure(max(5.4, WIDTH * len(detection.scores)), HEIGHT)
    panels = figure.subplots(1, len(detection.scores), squeeze=False)[0]
    for axes, score in zip(panels, detection.scores, strict=True):
        edges = detection.edges[score]
        known = f"known: {short_name(detection.dataset)}"
        axes.stairs(_shares(detection.known[score]), edges, fill=True, color=GREY.color, alpha=0.45, label=known)
        for look, part in zip(cycle(LOOKS), detection.foreign):  # noqa: B905  (looks repeat)
            style = {"color": look.color, "linestyle": look.line, "linewidth": 1.4}
            axes.stairs(_shares(part.histograms[score]), edges, label=short_name(part.name), **style)
        set_title(axes, score if len(panels) > 1 else title or f"{detection.trainer}, {detection.dataset}: {score}")
        axes.set_xlabel("score (larger: more foreign)")
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_ylabel("share of the images (%)")
    if len(panels) > 1:
        figure.suptitle(title or f"{detection.trainer}, {detection.dataset}: known and foreign images")
    legend_below(figure, 4)
    return figure


def _shares(counts: Sequence[int]) -> np.ndarray:
    """In % of the images."""
    return 100 * np.asarray(counts) / max(1, sum(counts))


def describe_ood(detection: Detection) -> str:
    """Say what the figure shows, for those who cannot see it."""
    areas = "; ".join(
        f"{part.name}: " + ", ".join(f"{name} {part.separation[name].auroc:.1f}" for name in detection.scores)
        for part in detection.foreign
    )
    return (
        f"Histograms of scores of a {detection.trainer} run, for {detection.images} images of {detection.dataset} and "
        f"for foreign ones. AUROC in %, {areas}."
    )
