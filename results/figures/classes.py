"""Single classes in pictures: bars of what each gained over zero-shot CLIP, and matrices of what it is taken for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..numbers.classes import Class, Gains, Matrix
from .style import INK, Look, cut, legend_below, new_figure, set_title, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 40  # in a figure: half of them those that gained most, half those that gained least
ACROSS = 3
ROW, BAR = 0.13, 0.15  # inches a class, and more a method


# --- gains -----------------------------------------------------------------------------------------------


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


# --- confusions ------------------------------------------------------------------------------------------

NAMED = 60  # classes: of more, labels stand at a few rows only
NUMBERED = 12  # classes: with so few, the cells hold numbers
CELL = 0.17  # inches that a name needs
SIDES = (2.6, 8.5)  # inches of the smallest and largest matrix
WIDEST = 40.0  # inches of a row of many large ones
Panels = Sequence[tuple[str, Sequence[Matrix]]]  # (title of a section, its methods)


def confusion_figure(rows: Panels) -> Figure:
    """Draw a row a section, in it a matrix a method.

    Shares are shown on a scale of square roots, on which the few images that are taken for another class can be seen
    beside the many that are not.
    """
    from matplotlib.colors import PowerNorm

    across = max(len(members) for _, members in rows)
    largest = min(SIDES[1], max(SIDES[0], WIDEST / across))
    sides = [min(max(CELL * len(members[0].classes), SIDES[0]), largest) for _, members in rows]
    figure = new_figure(across * (max(sides) + 0.3) + 2.2, sum(side + 1.6 for side in sides))
    grid = figure.subplots(len(rows), across, squeeze=False, height_ratios=sides)
    scale = PowerNorm(0.5, 0, 1)
    for panels, (title, members) in zip(grid, rows, strict=True):
        for axes, matrix in zip(panels, members, strict=False):
            image = axes.imshow(matrix.shares, cmap="Blues", norm=scale, interpolation="nearest")
            _label(axes, matrix, first=axes is panels[0])
            set_title(axes, f"{title}: {matrix.column.title}" if len(rows) > 1 else matrix.column.title)
        for axes in panels[len(members) :]:
            axes.set_visible(False)
    bar = figure.colorbar(image, ax=grid, shrink=0.8, aspect=30, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels([f"{100 * share:g}%" for share in bar.get_ticks()], fontsize=8)
    bar.set_label("share of the true class's images")
    return figure


def _label(axes: Axes, matrix: Matrix, first: bool) -> None:
    """Write names at rows and columns, where they fit, and numbers into cells, where they do."""
    size = len(matrix.classes)
    axes.grid(False)
    axes.set_xlabel("predicted class")
    if size <= NAMED:
        names = [cut(short_name(name), 18) for name in matrix.classes]
        axes.set_xticks(range(size), names, rotation=90, fontsize=7)
        axes.set_yticks(range(size), names if first else [""] * size, fontsize=7)
        axes.tick_params(length=0)
    else:
        axes.locator_params(nbins=10, integer=True)
        axes.tick_params(labelsize=7)
    if first:
        axes.set_ylabel("true class" if size <= NAMED else "true class (label)")
    if size > NAMED:
        axes.set_xlabel("predicted class (label)")
    if size <= NUMBERED:
        for (row, column), share in np.ndenumerate(matrix.shares):
            if share >= 0.005:
                color = "white" if share > 0.4 else INK
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=color)


def describe_confusions(title: str, members: Sequence[Matrix]) -> str:
    """Say what a row shows, for those who cannot see it: the pair that each method mixes up most."""
    said = []
    for matrix in members:
        others = matrix.shares * (1 - np.eye(len(matrix.classes)))
        true, predicted = np.unravel_index(others.argmax(), others.shape)
        pair = f"{100 * others.max():.0f}% of {matrix.classes[true]} are taken for {matrix.classes[predicted]}"
        said.append(f"{matrix.column.title}: {pair}")
    return f"Confusion matrices, {title}; most often, {'; '.join(said)}."
