"""The numbers behind heat maps: which part of a picture each prompt of a class is matched with.

Plain arrays only.  A plan (M, N) has total mass 1: plan[m, n] is how much of local feature m goes to prompt n; with
M = h * w, feature m lies at row m // w, column m % w of the grid.  If the transport did nothing, every entry would be
1/(M*N).  Maps are therefore shown as multiples of that: untinted where the mass is uniform, orange where there is more,
purple where there is less (`figures.heatmaps`), on a logarithmic scale, so that twice and half lie equally far out.
Where a matching may leave mass behind, or only some places take part, a plan is of what was moved, and the share of
each local feature that is left out stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .cells import ABSENT, spread

LEAST_RANGE = math.log2(1.25)  # a nearly uniform plan looks nearly uniform, not amplified
MOST_RANGE = 3.0  # log2: the scale ends at 1/8 and 8 times uniform


class Diagnostic(NamedTuple):
    """A number that a run's record keeps about the transport of its test, under `transport`."""

    key: str
    heading: str
    pattern: str  # for str.format
    worst: bool = False  # over several runs the largest counts, instead of the mean
    of_solving: bool = False  # says nothing where a plan is written down

    def over(self, values: Sequence[float]) -> float | None:
        """Sum up several runs; None where none has the number."""
        if not values:
            return None
        return max(values) if self.worst else spread(values).mean

    def show(self, value: float | None) -> str:
        """Show the number as tables do."""
        return ABSENT if value is None else self.pattern.format(value)


DIAGNOSTICS = (
    Diagnostic("distance_from_uniform", "from uniform, all classes", "{:.3f}"),
    Diagnostic("distance_from_uniform_predicted", "of predicted class", "{:.3f}"),
    Diagnostic("left_out", "left out, all classes", "{:.1%}"),
    Diagnostic("left_out_predicted", "of predicted class", "{:.1%}"),
    Diagnostic("iterations_mean", "iterations, mean", "{:.1f}", of_solving=True),
    Diagnostic("iterations_max", "iterations, most", "{:.0f}", worst=True, of_solving=True),
    Diagnostic("marginal_error_max", "largest marginal error", "{:.1e}", worst=True, of_solving=True),
    Diagnostic("converged_share", "converged", "{:.1%}", of_solving=True),
)


class ShownClass(NamedTuple):
    """How an image was matched with the N prompts of one class."""

    label: int
    plan: np.ndarray  # (M, N)
    similarity: np.ndarray  # (M, N) cosines
    left_out: np.ndarray | None = None  # (M,) share of each local feature's mass that is not in the plan

    @property
    def left_out_share(self) -> float | None:
        """What of the mass is left out, in all; None where nothing can be."""
        return None if self.left_out is None else float(self.left_out.mean())


class Explained(NamedTuple):
    """One image, how it was scored, and how it was matched with the classes that matter.

    `picture` is what the network saw, so that a map lies on it exactly; `shown` has the class that the image was taken
    for first.
    """

    picture: np.ndarray  # (H, W, 3) in [0, 1], as the network saw it
    grid: tuple[int, int] | None  # (h, w), h * w = M; None where features are no places (PLOT++)
    logits: np.ndarray  # (C,)
    classnames: Sequence[str]
    shown: tuple[ShownClass, ...]  # the class it was taken for, and the true one where that is known and another
    true_label: int | None = None
    name: str = ""  # file name


class Scale(NamedTuple):
    """The ends of a colour scale, -limit and limit, in log2 of multiples of uniform."""

    limit: float
    beyond: bool  # whether there are values outside

    @classmethod
    def over(cls, *ratios: np.ndarray, share: float = 1.0) -> Scale:
        """Choose the smallest scale that holds this share of the masses, between LEAST_RANGE and MOST_RANGE.

        `ratios` are arrays of any shape, in multiples of uniform; zero mass (log2: -inf) lies beyond any scale.
        """
        with np.errstate(divide="ignore"):
            far = np.sort(np.abs(np.log2(np.concatenate([ratio.ravel() for ratio in ratios]))))
        enough, most = far[math.ceil(share * len(far)) - 1], far[-1]
        limit = min(max(float(enough), LEAST_RANGE), MOST_RANGE)
        return cls(limit, bool(most > limit * (1 + 1e-6)))

    def place(self, ratio: np.ndarray) -> np.ndarray:
        """Turn masses in multiples of uniform into log2, cut off at the ends of the scale."""
        with np.errstate(divide="ignore"):
            return np.clip(np.log2(ratio), -self.limit, self.limit)


def prompt_maps(plan: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Lay out a plan (M, N) as mass per prompt and cell, (N, h, w).

    Raises
    ------
    ValueError
        Where h * w is not M.
    """
    features, prompts = plan.shape
    if grid[0] * grid[1] != features:
        raise ValueError(f"a grid of {grid[0]} x {grid[1]} cells does not hold {features} local features")
    return np.ascontiguousarray(plan.T).reshape(prompts, *grid)


def relative(plan: np.ndarray) -> np.ndarray:
    """Give the mass of a plan (M, N) in multiples of the uniform plan's, 1/(M*N)."""
    return plan * plan.size


def distances(plan: np.ndarray) -> np.ndarray:
    """Total variation between each prompt's map, at mass 1, and an even one: (N,), in [0, 1]; NaN without mass."""
    mass = plan.sum(axis=0, keepdims=True)
    shares = np.divide(plan, mass, out=np.full_like(plan, np.nan), where=mass > 0)
    return 0.5 * np.abs(shares - 1 / len(plan)).sum(axis=0)


def plan_distance(plan: np.ndarray) -> float:
    """Total variation between the plan and the uniform plan, in [0, 1]; at 0 the transport does nothing."""
    return float(0.5 * np.abs(plan - 1 / plan.size).sum())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits (C,) into probabilities (C,), in float64."""
    logits = logits.astype(np.float64)
    exp = np.exp(logits - logits.max())
    return exp / exp.sum()


def upsample(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge (h, w) to (H, W): bilinear between the centres of the cells, flat beyond the outermost."""
    import torch

    pixels = torch.from_numpy(values)[None, None]  # (1, 1, h, w), as images of a batch
    return torch.nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False)[0, 0].numpy()
