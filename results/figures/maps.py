"""The picture of a feature map: dots are image features, numbered marks are prompts, colours are classes.

`numbers.feature_map` says how the features came into the plane, and what may be read from it.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ..numbers.feature_map import FeatureMap
from .style import FAINT, new_figure, set_title, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALL, LARGE = 5.0, 60.0  # areas of dots, in square points
LEAST_RANGE = 0.25  # a mass that is nearly even looks nearly even


def draw_map(feature_map: FeatureMap) -> Figure:
    """Draw the map: dots are image features, numbered marks prompts, a colour a class.

    With several prompts a class, a dot is larger the more of the mass that its feature sends to its true class goes to
    one prompt; the scale reaches at least LEAST_RANGE, so that a mass that is nearly even looks nearly even.
    """
    import matplotlib

    features = feature_map.features
    palette = matplotlib.colormaps["tab10"]
    colors = {label: palette(index) for index, label in enumerate(dict.fromkeys(features.prompt_label.tolist()))}
    figure = new_figure(8.0, 6.4)
    axes = figure.subplots()
    uneven = features.decided.max() > 1 + 1e-6
    most = max(float(features.decided.max()) - 1, LEAST_RANGE)
    areas = area((features.decided - 1) / most) if uneven else np.full(len(features.decided), area(0.3))
    for label, color in colors.items():
        own = features.image_label == label
        x, y = feature_map.image_points[own].T
        axes.scatter(x, y, s=areas[own], color=color, alpha=0.45, linewidth=0, zorder=2)
    for label, color in colors.items():
        own = features.prompt_label == label
        x, y = feature_map.prompt_points[own].T
        name = short_name(feature_map.classnames[label])
        axes.scatter(x, y, s=120, color=color, edgecolor="white", linewidth=1.3, zorder=3, label=name)
        for x, y, number in zip(*feature_map.prompt_points[own].T, features.prompt_number[own], strict=True):
            text = axes.text(x, y, str(number), color="white", fontsize=8, fontweight="bold", zorder=4)
            text.set(horizontalalignment="center", verticalalignment="center")
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(False)
    axes.spines[:].set(visible=True, color=FAINT)
    set_title(axes, feature_map.title)
    heading = "class (numbers:\nits prompts)" if features.prompt_number.max() > 1 else "class (1: its\nprompt)"
    figure.legend(loc="outside right upper", title=heading, alignment="left")
    if uneven:
        steps = (0.0, 0.5, 1.0)
        dots = [axes.scatter([], [], s=area(step), color="#808890", linewidth=0) for step in steps]
        sizes = [f"{1 + step * most:.2f}×" for step in steps]
        figure.legend(dots, sizes, loc="outside right lower", title="most mass to\none prompt", alignment="left")
    figure.supxlabel("\n".join(textwrap.wrap(feature_map.caption, 112)), fontsize=8, x=0.01, ha="left")
    return figure


def area(strength: Any) -> Any:
    """Area of a dot for strengths from 0 to 1, linear."""
    return SMALL + (LARGE - SMALL) * strength
