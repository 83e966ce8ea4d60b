"""Heat maps of a transport plan: which part of the picture each prompt of a class is matched with.

Plain arrays only.  A plan (M, N) has total mass 1: plan[m, n] is how much of local feature m goes to prompt
n; with M = h * w, feature m lies at row m // w, column m % w of the grid.  If the transport did nothing,
every entry would be 1/(M*N).  Maps are therefore drawn as multiples of that: untinted where the mass is
uniform, orange where there is more, purple where there is less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .plotting import FAINT, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("PuOr_r", 0.1, 0.9)  # without its darkest ends, which would hide the picture
LEAST_RANGE = math.log2(1.25)  # a nearly uniform plan looks nearly uniform, not amplified
MOST_RANGE = 3.0  # log2: the scale ends at 1/8 and 8 times uniform


class ShownClass(NamedTuple):
    """How an image was matched with the prompts of one class."""

    label: int
    plan: np.ndarray  # (M, N)
    similarity: np.ndarray  # (M, N) cosines


class Explained(NamedTuple):
    """One image, how it was scored, and how it was matched with the classes that matter."""

    picture: np.ndarray  # (H, W, 3) in [0, 1], as the network saw it
    grid: tuple[int, int] | None  # (h, w), h * w = M; None where features are no places (PLOT++)
    logits: np.ndarray  # (C,)
    classnames: Sequence[str]
    shown: tuple[ShownClass, ...]  # the class it was taken for, and the true one where that is known and another
    true_label: int | None = None
    name: str = ""  # file name


# --- numbers ---------------------------------------------------------------------------------------------


def prompt_maps(plan: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """plan (M, N) -> mass per cell and prompt (N, h, w).  Raises ValueError where h * w is not M."""
    features, prompts = plan.shape
    if grid[0] * grid[1] != features:
        raise ValueError(f"a grid of {grid[0]} x {grid[1]} cells does not hold {features} local features")
    return np.ascontiguousarray(plan.T).reshape(prompts, *grid)


def relative(plan: np.ndarray) -> np.ndarray:
    """Mass in multiples of the uniform plan's, 1/(M*N)."""
    return plan * plan.size


def distances(plan: np.ndarray) -> np.ndarray:
    """(N,): total variation between each prompt's map, at mass 1, and an even one; NaN without mass."""
    mass = plan.sum(axis=0, keepdims=True)
    shares = np.divide(plan, mass, out=np.full_like(plan, np.nan), where=mass > 0)
    return 0.5 * np.abs(shares - 1 / len(plan)).sum(axis=0)


def plan_distance(plan: np.ndarray) -> float:
    """Total variation between the plan and the uniform plan; 0: the transport does nothing."""
    return float(0.5 * np.abs(plan - 1 / plan.size).sum())


def softmax(logits: np.ndarray) -> np.ndarray:
    """(C,) -> probabilities."""
    exp = np.exp(logits - logits.max())
    return exp / exp.sum()


def upsample(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) -> (H, W), bilinear between the centres of the cells, flat beyond the outermost."""
    for axis, length in enumerate(size):
        cells = values.shape[axis]
        places = (np.arange(length) + 0.5) * cells / length - 0.5
        low = np.clip(np.floor(places).astype(int), 0, cells - 1)
        high = np.minimum(low + 1, cells - 1)
        shape = (-1, 1) if axis == 0 else (1, -1)
        weight = np.clip(places - low, 0, 1).reshape(shape)
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
    return values


def color_range(plan: np.ndarray) -> tuple[float, bool]:
    """(end of the colour scale in log2 of multiples of uniform, whether values lie beyond it)."""
    ratio = relative(plan)
    most = max(float(np.abs(np.log2(ratio[ratio > 0])).max(initial=0.0)), math.inf if (ratio <= 0).any() else 0.0)
    return min(max(most, LEAST_RANGE), MOST_RANGE), most > MOST_RANGE


# --- pictures --------------------------------------------------------------------------------------------


def tint(picture: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """picture (H, W, 3), values (H, W) in log2 of multiples of uniform -> tinted picture (H, W, 3).

    The picture turns grey and a little lighter, so that all colour is mass.  The tint covers in proportion to
    |value| / limit: where the plan is uniform there is none.
    """
    grey = 0.15 + 0.85 * (picture @ np.array([0.2126, 0.7152, 0.0722]))[..., None]
    strength = np.clip(values / limit, -1, 1)
    cover = 0.8 * np.abs(strength[..., None]) ** 0.75
    return (1 - cover) * grey + cover * color_map()(0.5 + 0.5 * strength)[..., :3]


def color_map() -> Any:
    """Purple, white, orange."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    name, low, high = COLORS
    return LinearSegmentedColormap.from_list(name, matplotlib.colormaps[name](np.linspace(low, high, 65)))


def draw(explained: Explained) -> Figure:
    """The picture with its scores, and each prompt's map: smooth over the picture, and below it cell by cell.

    Call it within `drawing()`.
    """
    picture, plan, grid = explained.picture, explained.shown[0].plan, explained.grid
    assert grid is not None
    with np.errstate(divide="ignore"):
        maps = np.log2(prompt_maps(relative(plan), grid))
    prompts, (height, width) = len(maps), picture.shape[:2]
    limit, beyond = color_range(plan)
    maps = np.clip(maps, -limit, limit)

    columns = min(prompts, 8)
    bands = math.ceil(prompts / columns)  # many prompts fill several bands
    unit = 1.75
    figure = new_figure(unit * (columns + 2.35), unit * 2.12 * bands * max(1.0, height / width) + 0.55)
    layout = figure.add_gridspec(2 * bands, 2 + columns + 1, width_ratios=[1.05, 1.05, *[1] * columns, 0.09])
    _draw_scores(figure, layout, explained)
    for prompt, values in enumerate(maps):
        band, column = divmod(prompt, columns)
        smooth = figure.add_subplot(layout[2 * band, 2 + column])
        smooth.imshow(tint(picture, upsample(values, (height, width)), limit))
        smooth.set_title(map_title(plan, prompt), fontsize=8.5, fontweight="normal", loc="center")
        cells = figure.add_subplot(layout[2 * band + 1, 2 + column])
        cells.imshow(
            values,
            cmap=color_map(),
            vmin=-limit,
            vmax=limit,
            extent=(0, width, height, 0),
            interpolation="nearest",
        )
        for axes in (smooth, cells):
            _bare(axes)
        _grid_lines(cells, grid, (height, width))
    _draw_scale(figure, figure.add_subplot(layout[:, -1]), limit, beyond, plan)
    return figure


def map_title(plan: np.ndarray, prompt: int) -> str:
    """The share of the mass is told only where it is not the prompt's due of 1/N."""
    share, distance = plan[:, prompt].sum() / plan.sum(), distances(plan)[prompt]
    if np.isnan(distance):
        return f"prompt {prompt + 1}\nno mass"
    due = abs(share * plan.shape[1] - 1) < 0.01
    return f"prompt {prompt + 1}{'' if due else f': {share:.0%} of mass'}\n{distance:.2f} from uniform"


def _draw_scores(figure: Figure, layout: Any, explained: Explained) -> None:
    """Left: the picture under the grid of local features; below it the best classes, and the true one."""
    bands = layout.nrows // 2
    image = figure.add_subplot(layout[:bands, :2])
    image.imshow(explained.picture)
    _bare(image)
    _grid_lines(image, explained.grid or (1, 1), explained.picture.shape[:2], alpha=0.35)
    names, logits = explained.classnames, explained.logits
    probability = softmax(logits.astype(np.float64))
    shown = np.argsort(-logits, kind="stable")[:3].tolist()
    truth = explained.true_label
    if truth is not None and truth not in shown:
        shown.append(truth)
    title = f"taken for: {_short(names[shown[0]])}"
    if truth is not None:
        title += "\n" + ("correct" if truth == shown[0] else f"truly: {_short(names[truth])}")
    image.set_title(title, fontsize=9.5, loc="left")

    bars = figure.add_subplot(layout[bands:, :2])
    colors = ["#009e73" if label == truth else "#8b949e" for label in shown]
    bars.barh(range(len(shown)), probability[shown], color=colors, height=0.36)
    for row, label in enumerate(shown):
        mark = "  (true class)" if label == truth else ""
        bars.text(0, row - 0.27, f"{_short(names[label])}{mark}", fontsize=8.5, va="bottom", color=INK)
        bars.text(
            min(probability[label], 0.72) + 0.02,
            row,
            f"{probability[label]:.1%}",
            fontsize=8,
            va="center",
            color="white" if probability[label] > 0.9 else INK,
        )
    bars.set_ylim(max(3, len(shown)) - 0.5, -0.85)
    bars.set_xlim(0, 1)
    bars.set_axis_off()


def _draw_scale(figure: Figure, axes: Any, limit: float, beyond: bool, plan: np.ndarray) -> None:
    import matplotlib
    from matplotlib.colors import Normalize

    mappable = matplotlib.cm.ScalarMappable(Normalize(-limit, limit), color_map())
    bar = figure.colorbar(mappable, cax=axes, extend="both" if beyond else "neither")
    ticks = sorted({-limit, -limit / 2, 0.0, limit / 2, limit})
    bar.set_ticks(ticks, labels=["uniform" if tick == 0 else f"{2**tick:.2f}×" for tick in ticks])
    bar.ax.tick_params(labelsize=8, length=2)
    bar.ax.axhline(0, color=INK, linewidth=1)
    features, prompts = plan.shape
    bar.set_label(f"mass; uniform = 1/({features}·{prompts}) = {1 / plan.size:.2g}", fontsize=8.5)
    bar.outline.set_visible(False)


def _grid_lines(axes: Any, grid: tuple[int, int], size: tuple[int, int], alpha: float = 1.0) -> None:
    """Borders of the cells, so that nobody takes the smooth map for a finer one."""
    if max(grid) > 32:
        return
    for row in range(1, grid[0]):
        axes.axhline(row * size[0] / grid[0] - 0.5 * (alpha < 1), color="white", linewidth=0.5, alpha=alpha)
    for column in range(1, grid[1]):
        axes.axvline(column * size[1] / grid[1] - 0.5 * (alpha < 1), color="white", linewidth=0.5, alpha=alpha)


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)


def _short(name: str, most: int = 26) -> str:
    name = str(name).replace("_", " ").replace("$", r"\$")
    return name if len(name) <= most else name[: most - 1] + "…"
