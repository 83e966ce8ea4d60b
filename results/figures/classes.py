"""Bars of what each class gained over zero-shot CLIP, a panel a data set, a bar a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..numbers.classes import Class, Gains
from .style import Look, legend_below, new_figure, set_title, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 40  # in a figure: half of them those that gained most, half those that gained least
ACROSS = 3
ROW, BAR = 0.13, 0.15  # inches a class, and more a method


def shown_classes(gains: Gains) -> list[Class]:
    """List the classes, the one that gained most first; of many the two ends."""
    classes = gains.classes
    half = MOST_CLASSES // 2
    return classes if len(classes) <= MOST_CLASSES else classes[:half] + classes[-half:]


def gains_figure(compared: Sequence[Gains], look: dict[str, Look]) -> Figure:
    """Draw a panel a data set; rows of panels are as high as their longest list of classes asks for.

    Parameters
    ----------
    compared
        Gains of every data set and backbone.
    look
        How every method is drawn.
    """
    across = min(ACROSS, len(compared))
    down = math.ceil(len(compared) / across)
    rows = [compared[index * across : (index + 1) * across] for index in range(down)]
    heights = [max(map(panel_height, row)) for row in rows]
    figure = new_figure(5.0 * across, sum(heights))
    grid = figure.subplots(down, across, squeeze=False, height_ratios=heights)
    for axes, gains in zip(grid.flat, compared, strict=False):
        draw_gains(axes, gains, look)
    for axes in grid.flat[len(compared) :]:
        axes.set_visible(False)
    legend_below(figure, columns=3)
    return figure


def panel_height(gains: Gains) -> float:
    """Height in inches that a panel's bars need."""
    return 1.1 + len(shown_classes(gains)) * (ROW + BAR * len(gains.gains))


def draw_gains(axes: Axes, gains: Gains, look: dict[str, Look]) -> None:
    """Draw classes downward, a bar a method, with the standard deviation over seeds.

    Beside its name stands what the class has without training, since a gain from 95% is another thing than one from 5%.
    Where classes in between are left out, a dashed line stands for them.
    """
    classes = shown_classes(gains)
    width = 0.8 / len(gains.gains)
    for index, gain in enumerate(gains.gains):
        places = [row + (index - (len(gains.gains) - 1) / 2) * width for row in range(len(classes))]
        bars = [(y, gain.by_class[known]) for y, known in zip(places, classes, strict=True) if known in gain.by_class]
        axes.barh(
            [place for place, _ in bars],
            [value.mean for _, value in bars],
            height=width * 0.9,
            color=look[gain.column.method].color,
            xerr=[value.std if value.n > 1 else math.nan for _, value in bars],
            error_kw={"elinewidth": 1, "ecolor": axes.xaxis.label.get_color(), "alpha": 0.7},
            label=gain.column.title,
        )
    names = [f"{short_name(known.name)} ({gains.zero_shot[known]:.0f})" for known in classes]
    axes.set_yticks(range(len(classes)), names, fontsize=9)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=axes.xaxis.label.get_color(), linewidth=1)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("gain over zero-shot accuracy (in brackets), points", wrap=True)
    left_out = len(gains.classes) - len(classes)
    set_title(axes, gains.title + (f", without {left_out} classes in between" if left_out else ""))
    if left_out:
        axes.axhline(len(classes) / 2 - 0.5, color=axes.xaxis.label.get_color(), linewidth=1, linestyle=(0, (4, 3)))
