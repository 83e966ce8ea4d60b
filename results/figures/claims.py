"""The contact sheet of claims: a row a prompt, the images that it claims most, each under that prompt's map.

`inspection.claims` says what a claim is.  All maps share one colour scale, so that rows can be compared.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..numbers.plans import Scale
from .sheet import Sheet, fit, tinted
from .style import short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN, GAP = 0.12, 0.1  # inches
LABEL = 1.15  # width of the column that names the prompts
TITLE = 0.34
UNIT = 1.25
COVERED = 0.98  # of the masses lie within the colour scale: one outlier does not pale the other maps


def draw_claims(
    record: dict[str, Any],
    masses: Sequence[Sequence[np.ndarray]],
    grid: tuple[int, int] | None,
    pictures: Sequence[Sequence[np.ndarray]],
    left_out: Sequence[Sequence[np.ndarray | None]] | None = None,
) -> Figure:
    """Draw the contact sheet.

    Parameters
    ----------
    record
        As in claims.json.
    masses
        By prompt and image the masses (M,) in multiples of uniform.
    grid
        (h, w) with h * w = M, or None where features are no places: then there are no maps to lay over.
    pictures
        By prompt and image (H, W, 3) in [0, 1].
    left_out
        By prompt and image the shares (M,) that no prompt gets, which are faded; None where nothing can be left out.
    """
    scale = Scale.over(*(mass for row in masses for mass in row), share=COVERED)
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
    left_out = left_out or [[None] * len(row) for row in masses]
    for prompt, row_masses, row_left, row_pictures in zip(record["prompts"], masses, left_out, pictures, strict=True):
        about = f"largest claim\non {prompt['foremost']} image{'s' * (prompt['foremost'] != 1)}"
        sheet.text(MARGIN, top + above, f"prompt {prompt['prompt']}", 9.5, fontweight="bold")
        sheet.text(MARGIN, top + above + 0.22, about, 8)
        images = zip(prompt["claimed"], row_masses, row_left, row_pictures, strict=True)
        for column, (claimed, mass, left_behind, picture) in enumerate(images):
            left = MARGIN + LABEL + column * pitch
            words = [claimed["true"], *([f"as {claimed['predicted']}"] if asks_predicted else [])]
            lines = [*(short_name(line, 19) for line in words), _numbers(claimed)]
            sheet.text(left, top, "\n".join(lines), 8)
            shown = picture
            if grid:
                share = None if left_behind is None else left_behind.reshape(grid)
                shown = tinted(picture, scale.place(mass.reshape(grid)), scale, share)
            sheet.picture(left, top + above, *size, shown)
        top += row_height
    sheet.text(MARGIN, top + 0.05, "\n".join(caption), 8)
    if grid:
        first = MARGIN + 0.3 + above
        sheet.scale(bar_left, first, min(max(top - first - GAP, 1.0), 3.6), scale, "mass of this prompt")
    return sheet.figure


def _numbers(claimed: dict[str, Any]) -> str:
    """Give the claim on an image, and what of the image is left out."""
    left_out = claimed.get("left_out")
    return f"{claimed['value']:+.3f}" + ("" if left_out is None else f", {left_out:.0%} left out")


def _title(record: dict[str, Any], width: float) -> str:
    title = "What each prompt claims most"
    if record["classes"]:
        title += f" of what is {'' if record['of'] == 'true' else 'taken for '}{', '.join(record['classes'])}"
    return short_name(title, int(10 * width))


def _caption(record: dict[str, Any]) -> str:
    number = record["images"]
    leaves = any(claimed.get("left_out") is not None for prompt in record["prompts"] for claimed in prompt["claimed"])
    faded = " Faded: left out." * leaves
    return f"{record['definition']}. Ranked within each prompt, over {number} test image{'s' * (number != 1)}.{faded}"
