"""The picture of one image's transport: its scores, and below each other the maps of every class that is shown.

Two classes share one colour scale, so that they can be compared.  Where features are no places (PLOT++), the plan
itself is drawn: a row for a visual prompt, a column for a text prompt.  What a matching leaves out, or a selection of
places, is faded in the maps, and has a map of its own behind them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..numbers.plans import Explained, Scale, ShownClass, distances, plan_distance, prompt_maps, relative, softmax
from .sheet import Sheet, faded, fit, grid_lines, tinted
from .style import INK, cut, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN, GAP = 0.12, 0.1  # inches, as all lengths here
LEFT = 2.7  # width of the column with the picture and its scores
HEADING, TITLE = 0.5, 0.36  # heights of the two lines above a class, of those above a map
MATRIX_CELL = (0.72, 0.42)
MOST_COLUMNS = 8  # prompts beside each other; more fill several bands
TRUE_COLOR, OTHER_COLOR = "#009e73", "#8b949e"


def draw(explained: Explained) -> Figure:
    """Draw the picture with its scores, and each prompt's map for each shown class.

    A map is smooth over the picture, and below it cell by cell as it was computed.
    """
    scale = Scale.over(*(relative(shown.plan) for shown in explained.shown))
    features, prompts = explained.shown[0].plan.shape
    leaves = explained.shown[0].left_out is not None
    block = _Maps(explained, prompts, leaves) if explained.grid else _Matrix(features, prompts, leaves)
    blocks_height = len(explained.shown) * (HEADING + block.height) + (len(explained.shown) - 1) * 2 * GAP
    scores = _Scores(explained)
    left, top = LEFT + 4 * MARGIN, MARGIN
    bar_left = left + block.width + 2 * MARGIN
    sheet = Sheet(bar_left + 1.25, max(blocks_height, scores.height) + 2 * MARGIN)
    scores.draw(sheet, MARGIN, MARGIN)
    for shown in explained.shown:
        words = "taken for: " if shown is explained.shown[0] else "truly: "
        name = short_name(explained.classnames[shown.label], int(10 * (bar_left + 1.2 - left)) - len(words))
        sheet.text(left, top, words + name, 9.5, fontweight="bold")
        left_out = "" if shown.left_out_share is None else f"; {shown.left_out_share:.0%} left out"
        sheet.text(left, top + 0.2, f"plan {plan_distance(shown.plan):.2f} from uniform{left_out}", 8.5)
        block.draw(sheet, left, top + HEADING, shown, scale)
        top += HEADING + block.height + 2 * GAP
    label = f"mass; uniform = 1/({features}·{prompts}) = {1 / (features * prompts):.2g}"
    bar_top = MARGIN + HEADING + (TITLE if explained.grid else 0)
    sheet.scale(bar_left, bar_top, min(sheet.height - bar_top - 2 * MARGIN, 3.6), scale, label)
    return sheet.figure


def map_title(plan: np.ndarray, prompt: int) -> str:
    """Title one prompt's map, with its share of the mass where that is not the 1/N of uniform marginals."""
    share, distance = plan[:, prompt].sum() / plan.sum(), distances(plan)[prompt]
    if np.isnan(distance):
        return f"prompt {prompt + 1}\nno mass"
    even = abs(share * plan.shape[1] - 1) < 0.01
    return f"prompt {prompt + 1}{'' if even else f': {share:.0%} of mass'}\n{distance:.2f} from uniform"


class _Scores:
    """Left: the picture under the grid of local features; below it the best classes, and those that are shown.

    The true class has a colour of its own, where it is known.
    """

    PITCH = 0.46

    def __init__(self, explained: Explained) -> None:
        self.explained = explained
        best = np.argsort(-explained.logits, kind="stable")[:3].tolist()
        self.labels = best + [shown.label for shown in explained.shown if shown.label not in best]
        self.size = fit(explained.picture.shape[:2], 2.3, LEFT / 2.3)
        self.above = self.size[1] + 0.5
        self.height = self.above + 0.3 + self.PITCH * len(self.labels)

    def draw(self, sheet: Sheet, left: float, top: float) -> None:
        """Draw it with its top left corner there."""
        explained = self.explained
        names, truth = explained.classnames, explained.true_label
        title = f"taken for: {short_name(names[self.labels[0]])}"
        if truth is not None:
            title += "\n" + ("correct" if truth == self.labels[0] else f"truly: {short_name(names[truth])}")
        sheet.text(left, top, title, 9.5, fontweight="bold")
        axes = sheet.picture(left, top + 0.45, *self.size, explained.picture)
        grid_lines(axes, explained.grid, explained.picture.shape[:2])
        sheet.text(left, top + self.above, cut(explained.name, 46), 7, alpha=0.7)

        probability = softmax(explained.logits)
        bars = sheet.panel(left, top + self.above + 0.25, LEFT, self.PITCH * len(self.labels))
        colors = [TRUE_COLOR if label == truth else OTHER_COLOR for label in self.labels]
        bars.barh(range(len(self.labels)), probability[self.labels], color=colors, height=0.4)
        for row, label in enumerate(self.labels):
            mark = "  (true class)" if label == truth else ""
            bars.text(0, row - 0.28, f"{short_name(names[label], 32)}{mark}", fontsize=8.5, va="bottom", color=INK)
            inside = probability[label] > 0.8
            where = probability[label] - 0.015 if inside else probability[label] + 0.015
            style = {"ha": "right", "color": "white", "fontweight": "bold"} if inside else {"ha": "left", "color": INK}
            bars.text(where, row, f"{probability[label]:.1%}", fontsize=8, va="center", **style)
        bars.set_ylim(len(self.labels) - 0.7, -0.8)
        bars.set_xlim(0, 1)
        bars.set_axis_off()


class _Maps:
    """A class as N maps over the picture, and one of what is left out; beyond MOST_COLUMNS, in several bands."""

    def __init__(self, explained: Explained, prompts: int, leaves: bool = False) -> None:
        assert explained.grid is not None
        self.picture, self.grid = explained.picture, explained.grid
        maps = prompts + leaves
        self.bands = math.ceil(maps / MOST_COLUMNS)
        self.columns = math.ceil(maps / self.bands)
        self.size = fit(explained.picture.shape[:2], 1.7 if self.columns <= 4 else 1.4)
        self.pitch = max(self.size[0], 1.2) + GAP  # a title needs so much
        self.band = TITLE + 2 * self.size[1] + 2 * GAP
        self.width, self.height = self.columns * self.pitch - GAP, self.bands * self.band

    def draw(self, sheet: Sheet, left: float, top: float, shown: ShownClass, scale: Scale) -> None:
        """Draw every prompt's map: above smooth over the picture, below cell by cell; last, what is left out."""
        left_out = None if shown.left_out is None else shown.left_out.reshape(self.grid)
        for prompt, ratio in enumerate(prompt_maps(relative(shown.plan), self.grid)):
            x, y = self._place(left, top, prompt)
            sheet.text(x, y, map_title(shown.plan, prompt), 8)
            values = scale.place(ratio)
            sheet.picture(x, y + TITLE, *self.size, tinted(self.picture, values, scale, left_out))
            sheet.cells(x, y + TITLE + self.size[1] + GAP, *self.size, values, scale)
        if left_out is not None:
            x, y = self._place(left, top, shown.plan.shape[1])
            sheet.text(x, y, f"left out: {left_out.mean():.0%}\nhatched: over half", 8)
            sheet.picture(x, y + TITLE, *self.size, faded(self.picture, left_out))
            sheet.shares(x, y + TITLE + self.size[1] + GAP, *self.size, left_out)

    def _place(self, left: float, top: float, number: int) -> tuple[float, float]:
        """Find the corner of a map."""
        band, column = divmod(number, self.columns)
        return left + column * self.pitch, top + band * self.band


class _Matrix:
    """A class as the plan itself, M visual prompts by N text prompts."""

    def __init__(self, features: int, prompts: int, leaves: bool = False) -> None:
        self.label_width = 1.3 if leaves else 0.72
        self.cell = MATRIX_CELL if prompts <= 12 else (MATRIX_CELL[0] * 12 / prompts, MATRIX_CELL[1])
        self.size = prompts * self.cell[0], features * self.cell[1]
        self.width, self.height = self.label_width + self.size[0], 0.25 + self.size[1]

    def draw(self, sheet: Sheet, left: float, top: float, shown: ShownClass, scale: Scale) -> None:
        """Draw a rectangle an entry of the plan, with its value where that can be read."""
        ratio = relative(shown.plan)
        values = scale.place(ratio)
        axes = sheet.cells(left + self.label_width, top + 0.25, *self.size, values, scale)
        for n in range(ratio.shape[1]):
            words = f"text {n + 1}" if self.cell[0] > 0.5 else f"{n + 1}"
            sheet.text(left + self.label_width + (n + 0.5) * self.cell[0], top + 0.06, words, 8, ha="center")
        for m in range(ratio.shape[0]):
            words = f"visual {m + 1}"
            if shown.left_out is not None:
                words += f"\n{shown.left_out[m]:.0%} left out"
            sheet.text(left, top + 0.25 + (m + 0.5) * self.cell[1], words, 8, va="center")
            for n, value in enumerate(ratio[m] if self.cell[0] > 0.45 else ()):
                dark = abs(values[m, n]) > 0.75 * scale.limit
                color = "white" if dark else INK
                axes.text(n + 0.5, m + 0.5, f"{value:.2f}×", fontsize=8, ha="center", va="center", color=color)
