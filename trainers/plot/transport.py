"""From two sets of features to class scores: similarity, matching plan, transported similarity.

The score of image b for class c is sum_{m,n} T[b,c,m,n] * S[b,c,m,n], where S is the cosine of local feature m and
prompt n, and T says how much of m is matched with n.  T is held fixed in the backward pass.  At convergence that is the
exact gradient of the entropic transport value (envelope theorem), not of the bare cost <T, cost> [PLOT, section 3.3].
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .sinkhorn import STOP_RULES, TransportPlan, sinkhorn


class Match(NamedTuple):
    """How a batch of images was matched with every class."""

    score: Tensor  # (B, C) transported similarity, in [-1, 1]; differentiable
    similarity: Tensor  # (B, C, M, N) cosine of local feature m and prompt n; differentiable
    plan: Tensor  # (B, C, M, N) mass moved from m to n, total 1; constant
    marginal_error: Tensor  # (B, C) largest |row sum - 1/M|
    iterations: Tensor  # (B, C) int64
    converged: Tensor  # (B, C) bool


@dataclass(frozen=True)
class Transport:
    """Matches local features with prompts; call it with two sets of *unit-length* features.

    matching: "ot" (Sinkhorn), or a plan that needs no solving, to see what the transport contributes: "uniform" (every
    pair equally: the mean similarity), "max" (each local feature wholly to its nearest prompt).
    epsilon is in units of cosine distance 1 - S, which lies in [0, 2].
    """

    epsilon: float = 0.1
    max_iterations: int = 100
    threshold: float = 1e-2
    stop: str = "batch"
    matching: str = "ot"

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {self.epsilon}; the original uses 0.1")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {self.max_iterations}")
        if self.threshold < 0:
            raise ValueError(f"threshold must not be negative, got {self.threshold}")
        if self.stop not in STOP_RULES:
            raise ValueError(f"stop must be one of {', '.join(STOP_RULES)}, got {self.stop!r}")
        if self.matching not in MATCHINGS:
            raise ValueError(f"matching must be one of {', '.join(MATCHINGS)}, got {self.matching!r}")

    def __call__(self, local: Tensor, text: Tensor) -> Match:
        """local (B, M, D), text (N, C, D), both of unit length, any precision -> Match, in float32 at least.

        Runs outside autocast: in half precision exp(2 / 0.1) would overflow.
        """
        with torch.autocast(local.device.type, enabled=False):
            local, text = _at_least_float32(local), _at_least_float32(text)
            similarity = torch.einsum("bmd,ncd->bcmn", local, text)
            solved = MATCHINGS[self.matching](similarity.detach().flatten(0, 1), self)
            images_classes = similarity.shape[:2]
            plan = solved.plan.view(similarity.shape)
            score = (plan * similarity).sum(dim=(2, 3))
        return Match(score, similarity, plan, *(evidence.view(images_classes) for evidence in solved[1:]))


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _optimal(similarity: Tensor, transport: Transport) -> TransportPlan:
    return sinkhorn(
        1.0 - similarity,
        transport.epsilon,
        max_iterations=transport.max_iterations,
        threshold=transport.threshold,
        stop=transport.stop,
        max_cost=2.0,  # cosine distance of unit vectors
    )


def _uniform(similarity: Tensor, transport: Transport) -> TransportPlan:
    groups, rows, columns = similarity.shape
    return _given(torch.full_like(similarity, 1.0 / (rows * columns)))


def _nearest(similarity: Tensor, transport: Transport) -> TransportPlan:
    groups, rows, columns = similarity.shape
    return _given(F.one_hot(similarity.argmax(dim=2), columns).to(similarity) / rows)


def _given(plan: Tensor) -> TransportPlan:
    """A plan that was written down rather than solved for."""
    row_sums = plan.sum(dim=2)
    groups = plan.shape[0]
    return TransportPlan(
        plan,
        (row_sums - 1.0 / plan.shape[1]).abs().amax(dim=1),
        torch.zeros(groups, dtype=torch.int64, device=plan.device),
        torch.ones(groups, dtype=torch.bool, device=plan.device),
    )


MATCHINGS: dict[str, Callable[[Tensor, Transport], TransportPlan]] = {
    "ot": _optimal,
    "uniform": _uniform,
    "max": _nearest,
}


def distance_from_uniform(plan: Tensor) -> Tensor:
    """Total variation of plans (..., M, N) from the uniform plan: 0 = the transport does nothing, below 1 always."""
    return 0.5 * (plan - 1.0 / (plan.shape[-2] * plan.shape[-1])).abs().sum(dim=(-2, -1))
