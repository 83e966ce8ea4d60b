"""Curves: accuracy against the number of shots, and loss and accuracy along a training.

`looks` gives every method its colour, marker and line once, for all figures of a page.  A curve never hides how much
stands behind it: the band is one standard deviation over seeds, dashes are single seeds, a hollow point is one seed.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from runs.files import ResultsError
from runs.methods import group
from runs.record import Run

from ..numbers.cells import ZERO_SHOT, shots_text
from ..numbers.summary import Section, Summary, averages
from .style import GREY, LOOKS, Look, legend_below, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")


def looks(summary: Summary) -> dict[str, Look]:
    """Choose one look a method, the same in every figure; the first method without training is grey."""
    cells = {key for section in summary.sections for key in section.cells}
    untrained = [name for name in summary.methods if (name, ZERO_SHOT) in cells]
    colours = itertools.cycle(LOOKS)
    return {name: GREY if name in untrained[:1] else next(colours) for name in summary.methods}


# --- accuracy against shots ------------------------------------------------------------------------------

HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 1.4, "linestyle": ""}
Point = tuple[int, float, list[float]]  # shots, mean, values of the seeds


def series(section: Section) -> dict[str, list[Point]]:
    """List the points by shots of every method; cells without a result and runs on all images have none."""
    lines: dict[str, list[Point]] = {}
    for method in section.methods:
        cells = [(shots, section.cell(method, shots)) for shots in section.shots if shots >= 0]
        points = [
            (shots, cell.accuracy.mean, [run.accuracy for run in cell.runs])
            for shots, cell in cells
            if cell is not None and cell.accuracy is not None
        ]
        if points:
            lines[method] = points
    return lines


def panels(summary: Summary) -> list[tuple[str, dict[str, list[Point]]]]:
    """List (title, points) of the averages, from cells that every data set has, then of every data set.

    An average over fewer data sets than its neighbour's would make a curve of two different things, so such cells are
    left out of the panel of averages.
    """
    shown = []
    for average in averages(summary.sections):
        lines: dict[str, list[Point]] = {}
        for (method, shots), cell in average.cells.items():
            if cell.comparable is not None and shots >= 0:
                lines.setdefault(method, []).append((shots, cell.comparable, list(cell.by_seed)))
        shown.append((f"Average of {average.title}", lines))
    shown += [(section.title, series(section)) for section in summary.sections]
    return [(title, lines) for title, lines in shown if lines]


def draw_accuracy(axes: Axes, title: str, lines: dict[str, list[Point]], look: dict[str, Look]) -> None:
    """Draw one panel: a log2 axis of shots, a line through the means, a band of one standard deviation, a dash a seed.

    Hollow points, without a band, are of one seed.  Methods without training stand as a star at 0 shots, with a line
    across for comparison.

    Parameters
    ----------
    axes
        Where to draw.
    title
        Of the panel.
    lines
        Points by shots of every method.
    look
        How every method is drawn.
    """
    counts = sorted({shots for points in lines.values() for shots, _, _ in points if shots > 0})
    origin = math.log2(counts[0]) - 1 if counts else 0.0
    single: list[tuple[float, float, Look]] = []  # points of one seed
    for method, points in lines.items():
        how = look[method]
        if points[0][0] == ZERO_SHOT:
            across: dict[str, Any] = {"color": how.color, "linestyle": how.line, "linewidth": 1.2}
            star: dict[str, Any] = {"marker": "*", "markersize": 11, "clip_on": False}
            axes.axhline(points[0][1], zorder=1, **across)
            axes.plot([origin], [points[0][1]], label=method, zorder=3, **across, **star)
            continue
        x = [math.log2(shots) for shots, _, _ in points]
        means = [mean for _, mean, _ in points]
        stds = [statistics.pstdev(values) if len(values) > 1 else math.nan for _, _, values in points]
        if not all(map(math.isnan, stds)):  # and none where there is one seed
            low, high = zip(*((mean - std, mean + std) for mean, std in zip(means, stds, strict=True)), strict=True)
            axes.fill_between(x, low, high, color=how.color, alpha=0.16, linewidth=0, zorder=1)
        for place, (_, _, values) in zip(x, points, strict=True):
            if len(values) > 1:
                dashes = axes.plot([place] * len(values), values, "_", color=how.color, alpha=0.75, zorder=2)
                dashes[0].set(markersize=12, markeredgewidth=1.2)
        axes.plot(x, means, color=how.color, marker=how.marker, linestyle=how.line, label=method, zorder=3)
        single += [(place, mean, how) for place, (_, mean, values) in zip(x, points, strict=True) if len(values) == 1]
    for place, mean, how in single:
        axes.plot([place], [mean], marker=how.marker, markeredgecolor=how.color, zorder=4, **HOLLOW)
    if single:
        axes.plot([], [], marker="o", markeredgecolor=GREY.color, label="hollow: 1 seed", **HOLLOW)
    ticks = [(origin, "0")] if any(p[0][0] == ZERO_SHOT for p in lines.values()) else []
    ticks += [(math.log2(shots), str(shots)) for shots in counts]
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    axes.set_xlim(ticks[0][0] - 0.25, ticks[-1][0] + 0.25)
    axes.set_xlabel("training images per class (shots)")
    axes.set_ylabel("accuracy (%)")
    set_title(axes, title)


def accuracy_figure(summary: Summary) -> Figure:
    """Draw a panel for every data set and one for their average.

    Raises
    ------
    ResultsError
        Where no run has a number of shots.
    """
    shown = panels(summary)
    if not shown:
        raise ResultsError("no complete run with a number of shots: there is nothing to draw")
    across = min(3, len(shown)) if len(shown) != 4 else 2
    down = math.ceil(len(shown) / across)
    figure = new_figure(4.6 * across if across > 1 else 6.4, (3.5 if down > 1 else 4.2) * down)
    look = looks(summary)
    grid = figure.subplots(down, across, squeeze=False)
    for index, (axes, (title, lines)) in enumerate(zip(grid.flat, shown, strict=False)):
        draw_accuracy(axes, title, lines, look)
        if index % across:  # what the panel to its left says, or the one below
            axes.set_ylabel("")
        if index + across < len(shown):
            axes.set_xlabel("")
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    legend_below(figure, columns=3 + across)
    return figure


def accuracy_panels(summary: Summary) -> list[tuple[str, Figure]]:
    """Draw the panels as figures of their own, each with a legend, for pages that flow."""
    figures, look = [], looks(summary)
    for title, lines in panels(summary):
        figure = new_figure(4.8, 3.8)
        draw_accuracy(figure.subplots(), title, lines, look)
        legend_below(figure, columns=3)
        figures.append((title, figure))
    return figures


# --- along the training ----------------------------------------------------------------------------------


def _is_finite(value: Any) -> bool:
    """Whether an entry of a history is a number, or a list of numbers: what was not finite is null in a record."""
    return value is not None and not (isinstance(value, list) and None in value)


def common_history(runs: Sequence[Run], key: str) -> list[tuple[int, list[Any]]]:
    """List (epoch, `key` of every run's history), over the epochs that every run has.

    Parameters
    ----------
    runs
        Whose histories are compared.
    key
        Of an entry: "loss", "acc" or "prompt_cosine".
    """
    per_run = [
        {entry["epoch"]: entry[key] for entry in run.record.get("history") or [] if _is_finite(entry.get(key))}
        for run in runs
    ]
    epochs = sorted(set.intersection(*map(set, per_run))) if per_run else []
    return [(epoch, [values[epoch] for values in per_run]) for epoch in epochs]


def mean_history(runs: Sequence[Run], key: str) -> tuple[list[int], list[float]]:
    """Return the epochs that every run has, and the mean over runs of `key` after each."""
    history = common_history(runs, key)
    return [epoch for epoch, _ in history], [statistics.fmean(values) for _, values in history]


def training_figure(title: str, runs: Sequence[Run]) -> Figure | None:
    """Draw training loss and accuracy of one method by epoch, a line a number of shots, mean over runs.

    Parameters
    ----------
    title
        Of the figure.
    runs
        Of one method on one data set.

    Returns
    -------
    figure
        None where no record keeps a history.
    """
    by_shots = dict(sorted(group(runs, lambda run: run.shots).items()))
    by_shots = {shots: members for shots, members in by_shots.items() if mean_history(members, "loss")[0]}
    if not by_shots:
        return None
    figure = new_figure(4.8, 4.6)
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    for look, members in lines_by_shots(by_shots):
        for axes, key in ((loss, "loss"), (accuracy, "acc")):
            epochs, means = mean_history(members, key)
            axes.plot(epochs, means, marker="o" if len(epochs) == 1 else None, **look)
    set_title(loss, title)
    loss.set_ylabel("training loss")
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel("training accuracy (%)")
    finish_by_epoch(figure, accuracy)
    return figure


def lines_by_shots(by_shots: Mapping[int, T]) -> Iterator[tuple[dict[str, Any], T]]:
    """Say how to plot the line of every number of shots, with what there is to plot: the darker, the fewer shots."""
    import matplotlib

    shades = matplotlib.colormaps["viridis"]
    for index, (shots, values) in enumerate(by_shots.items()):
        color = shades(0.36 + 0.38 * index / max(1, len(by_shots) - 1))
        yield {"color": color, "label": shots_text(shots), "linewidth": 1.5}, values


def finish_by_epoch(figure: Figure, axes: Axes) -> None:
    """Label the axis of epochs below `axes`, and put the legend below the figure."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) if len(labels) < 5 else 3)
