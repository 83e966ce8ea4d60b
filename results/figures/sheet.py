"""What pictures of maps are made of: the tint, panels at fixed places, the colour scale.

A map is the mass that one prompt receives, in multiples of uniform, over the places of an image.  It is laid over the
picture as a tint, orange for more and purple for less, so strong as the mass is far from uniform; where the transport
makes no difference the picture stays grey.  Places that are left out altogether are faded, whoever does not get them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..numbers.plans import Scale, upsample
from .style import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("PuOr_r", 0.1, 0.9)  # without its darkest ends, which would hide the picture
MOST_FADED = 0.85  # where all is left out: what is there can still be guessed
MOST_LINES = 32  # of a grid: beyond, they would hide the map


class Sheet:
    """A figure whose panels are placed in inches from its top left corner: the same look for any number of them.

    matplotlib's own layouts stretch panels to fill the figure; here a map has the same size whether two or twenty of
    them are shown, and the figure grows instead.
    """

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(width, height))
        self.width, self.height = width, height

    def panel(self, left: float, top: float, width: float, height: float) -> Any:
        """Add axes without ticks, in a thin frame."""
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place)
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set(visible=True, color=FAINT)
        return axes

    def text(self, left: float, top: float, text: str, size: float = 8.5, **style: Any) -> None:
        """Write text, of which the first line begins at `top`."""
        settings: dict[str, Any] = {"va": "top", "ha": "left", "linespacing": 1.25} | style
        self.figure.text(left / self.width, 1 - top / self.height, text, fontsize=size, **settings)

    def picture(self, left: float, top: float, width: float, height: float, picture: np.ndarray) -> Any:
        """Show a picture (H, W, 3) in [0, 1], stretched to the panel."""
        axes = self.panel(left, top, width, height)
        axes.imshow(picture, aspect="auto")
        return axes

    def cells(self, left: float, top: float, width: float, height: float, values: np.ndarray, scale: Scale) -> Any:
        """Show values (h, w) on the scale, a rectangle each, the first row on top."""
        axes = self.panel(left, top, width, height)
        lines: dict[str, Any] = {"edgecolors": "white", "linewidth": 0.5} if max(values.shape) <= MOST_LINES else {}
        axes.pcolormesh(values, cmap=color_map(), vmin=-scale.limit, vmax=scale.limit, **lines)
        axes.set_ylim(len(values), 0)
        return axes

    def shares(self, left: float, top: float, width: float, height: float, values: np.ndarray) -> Any:
        """Show shares (h, w) from 0, white, to 1, dark grey, a rectangle each; from one half on they are hatched."""
        axes = self.panel(left, top, width, height)
        lines: dict[str, Any] = {"edgecolors": "white", "linewidth": 0.5} if max(values.shape) <= MOST_LINES else {}
        shades: dict[str, Any] = {"cmap": "Greys", "vmin": 0, "vmax": 1.6}  # not to black, on which no hatch shows
        axes.pcolormesh(values, **shades, **lines)
        axes.pcolor(np.ma.masked_less(values, 0.5), hatch="////", edgecolors="white", linewidth=0.5, **shades)
        axes.set_ylim(len(values), 0)
        return axes

    def scale(self, left: float, top: float, height: float, scale: Scale, label: str) -> None:
        """Draw the colour bar, 0.16 wide; its words need another 1.0.

        Its ticks say multiples of uniform; the ends are pointed where there are masses beyond them.
        """
        import matplotlib
        from matplotlib.colors import Normalize

        mappable = matplotlib.cm.ScalarMappable(Normalize(-scale.limit, scale.limit), color_map())
        axes = self.panel(left, top, 0.16, height)
        bar = self.figure.colorbar(mappable, cax=axes, extend="both" if scale.beyond else "neither")
        ticks = [-scale.limit, -scale.limit / 2, 0.0, scale.limit / 2, scale.limit]
        bar.set_ticks(ticks, labels=["uniform" if tick == 0 else f"{2**tick:.3g}×" for tick in ticks])
        bar.ax.tick_params(labelsize=8, length=2)
        bar.ax.axhline(0, color=INK, linewidth=1)
        bar.set_label(label, fontsize=8.5)
        bar.outline.set_visible(False)


def tint(picture: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """Tint a picture (H, W, 3) by values (H, W), in log2 of multiples of uniform.

    The picture turns grey and a little lighter, so that all colour is mass.  The tint covers in proportion to
    |value| / limit: where the plan is uniform there is none.  Its colour begins in the middle of each half of the
    scale, since the white around uniform would cover the picture too.
    """
    # luminance of sRGB primaries (ITU-R BT.709), lifted so that black keeps room for a tint
    grey = 0.15 + 0.85 * (picture @ np.array([0.2126, 0.7152, 0.0722]))[..., None]
    strength = np.clip(values / limit, -1, 1)
    cover = 0.8 * np.abs(strength)[..., None]
    return (1 - cover) * grey + cover * color_map()(0.5 + 0.25 * np.sign(strength) + 0.25 * strength)[..., :3]


def tinted(picture: np.ndarray, values: np.ndarray, scale: Scale, left_out: np.ndarray | None = None) -> np.ndarray:
    """Lay a map (h, w) over a picture (H, W, 3), smoothed between the cells, and fade it where mass is left out."""
    laid = tint(picture, upsample(values, (picture.shape[0], picture.shape[1])), scale.limit)
    return laid if left_out is None else faded(laid, left_out)


def faded(picture: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Fade a picture (H, W, 3) towards white by the shares (h, w) that are left out, smoothed between the cells."""
    cover = MOST_FADED * upsample(left_out, (picture.shape[0], picture.shape[1]))[..., None]
    return np.minimum((1 - cover) * picture + cover, 1.0)


def color_map() -> Any:
    """Build the diverging map purple, white, orange."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    name, low, high = COLORS
    return LinearSegmentedColormap.from_list(name, matplotlib.colormaps[name](np.linspace(low, high, 65)))


def grid_lines(axes: Any, grid: tuple[int, int] | None, size: tuple[int, int]) -> None:
    """Draw the borders of the cells over a picture of size (H, W); not where there are too many to see it."""
    if grid is None or max(grid) > MOST_LINES:
        return
    for draw, cells, length in zip((axes.axhline, axes.axvline), grid, size, strict=True):
        for border in range(1, cells):
            draw(border * length / cells - 0.5, color="white", linewidth=0.5, alpha=0.35)


def fit(size: tuple[int, int], unit: float, most: float = 1.6) -> tuple[float, float]:
    """Choose (width, height) in inches of a panel for a picture of (H, W).

    It has the picture's shape and an area of unit * unit, unless a side would be longer than most * unit.
    """
    ratio = (size[1] / size[0]) ** 0.5
    shrink = min(1.0, most / ratio, most * ratio)
    return unit * ratio * shrink, unit / ratio * shrink
