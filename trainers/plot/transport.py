"""From two sets of features to class scores: similarity, matching plan, transported similarity.

The score of image b for class c is sum_{m,n} T[b,c,m,n] * S[b,c,m,n], where S is the cosine of local feature m and
prompt n, and T says how much of m is matched with n.  T is held fixed in the backward pass.  At convergence that is the
exact gradient of the entropic transport value (envelope theorem), not of the bare cost <T, cost> [PLOT, section 3.3].
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clip.packed import pairwise

from .sinkhorn import STOP_RULES, TransportPlan, changes, sinkhorn

MAX_COST = 2.0  # cosine distance of unit vectors


class Match(NamedTuple):
    """How a batch of images was matched with every class."""

    score: Tensor  # (B, C) transported similarity, in [-1, 1]; differentiable
    distance_from_uniform: Tensor  # (B, C) of the plan, in [0, 1)
    marginal_error: Tensor  # (B, C) largest |row sum - 1/M|
    iterations: Tensor  # (B, C) int64
    converged: Tensor  # (B, C) bool
    similarity: Tensor | None = None  # (B, C, M, N) cosine of local feature m and prompt n, where it was asked for
    plan: Tensor | None = None  # (B, C, M, N) mass moved from m to n, total 1; constant; likewise


@dataclass(frozen=True)
class Transport:
    """Matches local features with prompts; call it with two sets of *unit-length* features.

    matching: "ot" (Sinkhorn), or a plan that needs no solving, to see what the transport contributes: "uniform" (every
    pair equally: the mean similarity), "max" (each local feature wholly to its nearest prompt), "global" (uniform, and
    the image is a set of one, its pooled feature: the mean of its cosines with the prompts; with one prompt, CoOp).
    epsilon is in units of cosine distance 1 - S, which lies in [0, 2].
    chunk: how many classes are matched at a time, 0 for all.  It bounds the memory, 2 B * chunk * M * N numbers, and
    changes no result: the rule that stops a whole batch together is first evaluated over all chunks.
    max_cost: a bound on |1 - S|; 2 for cosines.
    """

    epsilon: float = 0.1
    max_iterations: int = 100
    threshold: float = 1e-2
    stop: str = "batch"
    matching: str = "ot"
    chunk: int = 0
    max_cost: float = MAX_COST

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {self.epsilon}; the original uses 0.1")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {self.max_iterations}")
        if self.threshold < 0:
            raise ValueError(f"threshold must not be negative, got {self.threshold}")
        if self.stop not in STOP_RULES:
            raise ValueError(f"stop must be one of {', '.join(STOP_RULES)}, got {self.stop!r}")
        if self.chunk < 0:
            raise ValueError(f"chunk must be 0 (all classes at once) or more, got {self.chunk}")
        if self.matching not in MATCHINGS:
            raise ValueError(f"matching must be one of {', '.join(MATCHINGS)}, got {self.matching!r}")

    def score(self, local: Tensor, text: Tensor) -> Tensor:
        """Transported similarity (B, C), differentiable, of local (B, M, D) and text (N, C, D), both of unit length and
        of any precision; computed outside autocast in float32 at least: in half precision exp(2 / 0.1) would overflow.
        """
        with torch.autocast(local.device.type, enabled=False):
            local, text = _at_least_float32(local), _at_least_float32(text)
            parts = self._parts(text)
            solver, _ = self._for_parts(local, parts)

            def score(local: Tensor, part: Tensor) -> Tensor:
                similarity = similarities(local, part)
                return transported(similarity, solver.solve(similarity).plan)

            if len(parts) > 1 and torch.is_grad_enabled():
                again = partial(checkpoint, score, use_reentrant=False, preserve_rng_state=False)
                return torch.cat([again(local, part) for part in parts], dim=1)
            return torch.cat([score(local, part) for part in parts], dim=1)

    def __call__(self, local: Tensor, text: Tensor, keep_plan: bool = True) -> Match:
        """The score with the evidence for it, and with the plan and the similarities if they are to be kept."""
        with torch.autocast(local.device.type, enabled=False):
            local, text = _at_least_float32(local), _at_least_float32(text)
            parts = self._parts(text)
            solver, converged = self._for_parts(local, parts)
            matches = [solver.match(similarities(local, part), keep_plan, converged) for part in parts]
        if len(matches) == 1:
            return matches[0]
        return Match(*(torch.cat(field, dim=1) for field in zip(*matches, strict=True) if field[0] is not None))

    def match(self, similarity: Tensor, keep_plan: bool = False, converged: bool | None = None) -> Match:
        """How to match by given similarities (N, C, B, M), float32 at least, with the evidence; all classes at once.

        `converged` replaces what the solver says of that.
        """
        solved = self.solve(similarity)
        if converged is not None:
            solved = solved._replace(converged=torch.full_like(solved.converged, converged))
        by_class = similarity.shape[1:3]
        evidence = (distance_from_uniform(solved.plan), solved.marginal_error, solved.iterations, solved.converged)
        whole = (similarity, solved.plan.permute(2, 0, 1).reshape(similarity.shape)) if keep_plan else ()
        return Match(
            transported(similarity, solved.plan),
            *(of_problems.view(by_class).t() for of_problems in evidence),
            *(tensor.permute(2, 1, 3, 0) for tensor in whole),
        )

    @property
    def pooled(self) -> bool:
        """Whether an image is to be the set of its one pooled feature, instead of its local ones."""
        return MATCHINGS[self.matching].pooled

    def solve(self, similarity: Tensor) -> TransportPlan:
        """Similarities (N, C, B, M) -> plans of the C * B problems."""
        return MATCHINGS[self.matching].plan(as_problems(similarity.detach()), self)

    def _parts(self, text: Tensor) -> tuple[Tensor, ...]:
        return text.split(self.chunk or text.shape[1], dim=1)

    def _for_parts(self, local: Tensor, parts: Sequence[Tensor]) -> tuple[Transport, bool | None]:
        """A transport that does with every part alone what this one does with the whole; and whether it converges
        there, where the parts themselves cannot tell."""
        if len(parts) == 1 or self.matching != "ot" or self.stop != "batch":
            return self, None
        classes = sum(part.shape[1] for part in parts)
        looked_at = min(8, self.max_iterations)
        while True:
            change = local.new_zeros(looked_at)
            for part in parts:
                cost = 1.0 - as_problems(similarities(local.detach(), part.detach()))
                change += part.shape[1] / classes * changes(cost, self.epsilon, looked_at, max_cost=self.max_cost)
            small = (change < self.threshold).nonzero()
            if len(small) or looked_at == self.max_iterations:
                iterations = int(small[0]) + 1 if len(small) else self.max_iterations
                return replace(self, stop="never", max_iterations=iterations, chunk=0), len(small) > 0
            looked_at = min(2 * looked_at, self.max_iterations)


def similarities(local: Tensor, text: Tensor) -> Tensor:
    """Cosines (N, C, B, M) of local (B, M, D) and text (N, C, D), of unit length: the layout that the solver reads."""
    return pairwise(text.flatten(0, 1), local.flatten(0, 1)).view(*text.shape[:2], *local.shape[:2])


def as_problems(similarity: Tensor) -> Tensor:
    """(N, C, B, M) -> (C * B, M, N), a view"""
    return similarity.flatten(1, 2).permute(1, 2, 0)


def transported(similarity: Tensor, plan: Tensor) -> Tensor:
    """sum_{m,n} T * S (B, C) of similarity (N, C, B, M), differentiable in that, and plan (C * B, M, N), constant."""
    return _Transported.apply(similarity, plan.permute(2, 0, 1).reshape(similarity.shape))


class _Transported(torch.autograd.Function):
    """The sum slab by slab, without a tensor of all the products."""

    @staticmethod
    def forward(ctx: Any, similarity: Tensor, plan: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(plan)
        total = plan[0] * similarity[0]  # (C, B, M)
        for mass, of in zip(plan[1:], similarity[1:], strict=True):
            total.addcmul_(mass, of)
        return total.sum(dim=2).t()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (plan,) = ctx.saved_tensors
        return plan * gradient.t()[..., None], None


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _optimal(similarity: Tensor, transport: Transport) -> TransportPlan:
    return sinkhorn(
        1.0 - similarity,
        transport.epsilon,
        max_iterations=transport.max_iterations,
        threshold=transport.threshold,
        stop=transport.stop,
        max_cost=transport.max_cost,
        overwrite=True,
    )


def _uniform(similarity: Tensor, transport: Transport) -> TransportPlan:
    groups, rows, columns = similarity.shape
    return _given(torch.full_like(similarity, 1.0 / (rows * columns)))


def _nearest(similarity: Tensor, transport: Transport) -> TransportPlan:
    groups, rows, columns = similarity.shape
    return _given(F.one_hot(similarity.argmax(dim=2), columns).to(similarity) / rows)


def _given(plan: Tensor) -> TransportPlan:
    """A plan that was written down rather than solved for."""
    groups, rows, columns = plan.shape
    return TransportPlan(
        plan,
        plan.new_full((groups, rows), 1.0 / rows),
        torch.zeros(groups, dtype=torch.int64, device=plan.device),
        torch.ones(groups, dtype=torch.bool, device=plan.device),
    )


class Matching(NamedTuple):
    """Which plan, and between which sets."""

    plan: Callable[[Tensor, Transport], TransportPlan]  # of similarities (G, M, N)
    pooled: bool = False  # the image is its pooled feature alone, M = 1


MATCHINGS = {
    "ot": Matching(_optimal),
    "uniform": Matching(_uniform),
    "max": Matching(_nearest),
    "global": Matching(_uniform, pooled=True),
}


def distance_from_uniform(plan: Tensor) -> Tensor:
    """Total variation of plans (..., M, N) from the uniform plan: 0 = the transport does nothing, below 1 always."""
    return 0.5 * (plan - 1.0 / (plan.shape[-2] * plan.shape[-1])).abs().sum(dim=(-2, -1))
