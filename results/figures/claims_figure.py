"""The contact sheet of claims: a row a prompt, the images that it claims most, each under that prompt's map."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..looking.heatmaps import Scale
from .heatmap_parts import Sheet, fit, tinted
from .plotting import short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN, GAP = 0.12, 0.1  # inches
LABEL = 1.15  # width of the column that names the prompts
TITLE = 0.34
UNIT = 1.25
HELD = 0.98  # of the masses lie within the colour scale: one outlier does not pale the other maps


def draw_claims(
    record: dict[str, Any],
    masses: Sequence[Sequence[np.ndarray]],
    grid: tuple[int, int] | None,
    pictures: Sequence[Sequence[np.ndarray]],
) -> Figure:
    """record as in claims.json; by prompt and image the masses (M,) in multiples of uniform, and the pictures.

    Without a grid (PLOT++) there are no maps to lay over.  Call it within `plotting.drawing()`.
    """
    scale = Scale.over(*(mass for row in masses for mass in row), share=HELD)
    asks_predicted = record["of"] == "predicted"
    above = TITLE + 0.16 * asks_predicted
    size = fit(pictures[0][0].shape[:2], UNIT)
    pitch, row_height = max(size[0], 1.2) + GAP, above + size[1] + GAP
    columns = max(map(len, pictures))
    bar_left = MARGIN + LABEL + columns * pitch + GAP
    width = bar_left + (1.25 if grid else 0.1)
    caption = textwrap.wrap(_caption(record), int(15 * (width - 2 * MARGIN)))
    top = MARGIN + 0.3
    sheet = Sheet(width, top + len(pictures) * row_height + 0.1 + 0.17 * len(caption) + MARGIN)
    sheet.text(MARGIN, MARGIN, _title(record, width), 9.5, fontweight="bold")
    for one, row_masses, row_pictures in zip(record["prompts"], masses, pictures, strict=True):
        about = f"largest claim\non {one['foremost']} image{'s' * (one['foremost'] != 1)}"
        sheet.text(MARGIN, top + above, f"prompt {one['prompt']}", 9.5, fontweight="bold")
        sheet.text(MARGIN, top + above + 0.22, about, 8)
        for column, (claimed, mass, picture) in enumerate(zip(one["claimed"], row_masses, row_pictures, strict=True)):
            left = MARGIN + LABEL + column * pitch
            words = [claimed["true"], *([f"as {claimed['predicted']}"] if asks_predicted else [])]
            lines = [*(short_name(line, 19) for line in words), f"{claimed['value']:+.3f}"]
            sheet.text(left, top, "\n".join(lines), 8)
            shown = tinted(picture, scale.place(mass.reshape(grid)), scale) if grid else picture
            sheet.picture(left, top + above, *size, shown)
        top += row_height
    sheet.text(MARGIN, top + 0.05, "\n".join(caption), 8)
    if grid:
        first = MARGIN + 0.3 + above
        sheet.scale(bar_left, first, min(max(top - first - GAP, 1.0), 3.6), scale, "mass of this prompt")
    return sheet.figure


def _title(record: dict[str, Any], width: float) -> str:
    title = "What each prompt claims most"
    if record["classes"]:
        title += f" of what is {'' if record['of'] == 'true' else 'taken for '}{', '.join(record['classes'])}"
    return short_name(title, int(10 * width))


def _caption(record: dict[str, Any]) -> str:
    number = record["images"]
    return f"{record['definition']}. Ranked within each prompt, over {number} test image{'s' * (number != 1)}."
