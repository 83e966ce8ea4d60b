"""From two sets of features to class scores: similarity, matching plan, transported similarity.

The score of image b for class c is sum_{m,n} T[m,n] * S[m,n], where S is the cosine of local feature m and prompt n of
that class, and T says how much of m is matched with n.  T is held fixed in the backward pass.  At convergence that is
the exact gradient of the entropic transport value (envelope theorem), not of the bare cost <T, cost> [PLOT, sec. 3.3].

Similarities and plans have the solver's layout throughout (sinkhorn.py): (N, C, B, M), prompts first and local features
last, one problem for every class and image.
"""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available
from torch.utils.checkpoint import checkpoint

from clip import ranks
from clip.features import at_least_float32
from clip.packed import pairwise

from ..parts.rules import at_least, check_all, one_of
from .matchings import LEAVE_OUT, MATCHINGS, written_down
from .selection import SELECTIONS, TOP_K, Places, select_places
from .sinkhorn import RULES as SOLVER_RULES
from .sinkhorn import TransportPlan, changes

MAX_COST = 2.0  # cosine distance of unit vectors
RULES = SOLVER_RULES | {
    "matching": one_of(MATCHINGS),
    "leave_out": one_of(LEAVE_OUT),
    "chunk": at_least(0),
    "top_k": TOP_K,
    "select_by": one_of(SELECTIONS),
}


class Match(NamedTuple):
    """How a batch of images was matched with every class.

    Attributes
    ----------
    score
        (B, C) transported similarity, in [-1, 1]: the mean over what is moved; differentiable.
    distance_from_uniform
        (B, C) total variation of the plan from the uniform one: 0 where the transport does nothing, below 1 always.
    marginal_error
        (B, C) largest |row sum - 1/M|; of plans that leave mass behind, see `sinkhorn.TransportPlan`.
    iterations, converged
        (B, C) int64 and bool, see `sinkhorn.TransportPlan`.
    similarity
        (B, C, M, N) cosine of local feature m and prompt n, as a view; None unless it was asked for.
    plan
        (B, C, M, N) how what is moved is spread over m and n, total 1, constant; likewise.
    mass
        (B, C) how much is moved, in all; None of matchings that move all of it.
    left_out
        (B, C) share of the image's mass that stays behind, of the places that take part; likewise.
    left_out_by_place
        (B, C, M) the same of each m, and 1 where a place takes no part; None where nothing can be left out.
    """

    score: Tensor
    distance_from_uniform: Tensor
    marginal_error: Tensor
    iterations: Tensor
    converged: Tensor
    similarity: Tensor | None = None
    plan: Tensor | None = None
    mass: Tensor | None = None
    left_out: Tensor | None = None
    left_out_by_place: Tensor | None = None


@dataclass(frozen=True)
class Transport:
    """Matches local features with prompts; call it with two sets of *unit-length* features.

    Attributes
    ----------
    epsilon, max_iterations, threshold, stop
        The solver's, see `sinkhorn.sinkhorn`; epsilon is in units of cosine distance 1 - S, which lies in [0, 2].
    matching
        "ot" (Sinkhorn); or one that may leave mass behind, "unbalanced" or "partial"; or a plan that needs no solving,
        to see what the transport contributes: "uniform" (every pair equally: the mean similarity), "max" (each local
        feature wholly to its nearest prompt), "global" (uniform, and the image is a set of one, its pooled feature: the
        mean of its cosines with the prompts; with one prompt, CoOp).
    chunk
        How many classes are matched at a time, 0 for all.  It bounds the memory, 2 B * chunk * M * N numbers, and
        changes no result: the rule that stops a whole batch together is first evaluated over all chunks.
    max_cost
        A bound on |1 - S|; 2 for cosines.
    top_k, select_by
        How many places take part, and for whom they are selected, see `selection.select_places`; empty for all.
    rho
        Of "unbalanced": the price of leaving the equal masses, in units of cosine distance, see
        `sinkhorn.sinkhorn_unbalanced`.
    share
        Of "partial": how much of the mass is moved, see `sinkhorn.sinkhorn_partial`.
    leave_out
        What either may leave out: "places" of the image alone, while every prompt receives 1/N of what is moved; or
        "both", so that a prompt that fits nothing may go without, too.

    Raises
    ------
    ValueError
        On construction, for a value that RULES does not allow.
    """

    epsilon: float = 0.1
    max_iterations: int = 100
    threshold: float = 1e-2
    stop: str = "batch"
    matching: str = "ot"
    chunk: int = 0
    max_cost: float = MAX_COST
    top_k: tuple[int, ...] = ()
    select_by: str = "class"
    rho: float = 0.1
    share: float = 0.5
    leave_out: str = "places"

    def __post_init__(self) -> None:
        check_all(RULES, **{name: getattr(self, name) for name in RULES})
        if self.matching not in self.possible_matchings():
            raise ValueError(
                f"places selected by prompt are no common set that a {self.matching!r} plan could match; matching must "
                "be uniform, or select_by class"
            )
        if len(self.top_k) > 1 and self.select_by == "class":
            raise ValueError(
                f"places selected by class are the same for all prompts, so top_k must be one number, got {self.top_k}"
            )

    def possible_matchings(self) -> list[str]:
        """List the matchings that go together with how places are selected: by prompt, they are no common set."""
        return ["uniform"] if self.top_k and self.select_by == "prompt" else list(MATCHINGS)

    def score(self, local: Tensor, text: Tensor, each: bool = False) -> Tensor:
        """Transported similarity of images and classes, differentiable.

        Parameters
        ----------
        local, text
            (B, M, D) and (N, C, D), of unit length and any precision.  The matching is computed outside autocast in
            float32 at least: in half precision exp(2 / 0.1) would overflow.
        each
            Whether the score of every prompt is wanted: the mean similarity of what is transported to it.

        Returns
        -------
        Tensor
            (B, C); for `each` (B, C, N), whose mean over N that is.
        """
        with outside_autocast(local.device):
            local, text = at_least_float32(local), at_least_float32(text)
            parts = self._parts(text)
            matcher, _ = self._for_parts(local, parts)

            def score(local: Tensor, part: Tensor) -> Tensor:
                places = matcher.select(similarities(local, part))  # (N, C, B, K)
                plan = matcher.plan(places).plan
                return by_prompt(places.similarity, plan) if each else transported(places.similarity, plan)

            if len(parts) > 1 and torch.is_grad_enabled():
                again = partial(checkpoint, score, use_reentrant=False, preserve_rng_state=False)
                return torch.cat([again(local, part) for part in parts], dim=1)
            return torch.cat([score(local, part) for part in parts], dim=1)

    def __call__(self, local: Tensor, text: Tensor, keep_plan: bool = True) -> Match:
        """Compute the score with the evidence for it, and keep plan and similarities if they are asked for."""
        with outside_autocast(local.device):
            local, text = at_least_float32(local), at_least_float32(text)
            parts = self._parts(text)
            matcher, converged = self._for_parts(local, parts)
            matches = [
                matcher.match(similarities(local, part), keep_plan, converged, select=True) for part in parts
            ]
        if len(matches) == 1:
            return matches[0]
        joined: list[Any] = [
            None if field[0] is None else torch.cat(field, dim=1) for field in zip(*matches, strict=True)
        ]
        return Match(*joined)

    def match(
        self, similarity: Tensor, keep_plan: bool = False, converged: bool | None = None, select: bool = False
    ) -> Match:
        """Match by similarities (N, C, B, M) that are there already, float32 at least, all classes at once.

        `converged` replaces what the solver says of that; `select` says whether only the best places take part.  Places
        that do not have no mass in the plan.
        """
        places = self.select(similarity) if select else Places(similarity)
        solved = self.plan(places)
        if converged is not None:
            solved = solved._replace(converged=torch.full_like(solved.converged, converged))
        uniform = 1.0 / (solved.plan.shape[0] * solved.plan.shape[-1]) if places.share is None else (
            places.share / len(places.share))  # mass of every pair
        distance = 0.5 * (solved.plan - uniform).abs().sum(dim=(0, -1))  # (C, B)
        evidence = (distance, solved.marginal_error, solved.iterations, solved.converged)
        match = Match(transported(places.similarity, solved.plan), *(tensor.t() for tensor in evidence))
        every = similarity.shape[-1]
        if solved.mass is not None:
            left_out = solved.left_out  # (C, B, K)
            by_place = 1 - places.spread(1 - left_out[None], every)[0].transpose(0, 1)
            match = match._replace(mass=solved.mass.t(), left_out=left_out.mean(dim=2).t(), left_out_by_place=by_place)
        if keep_plan:
            whole = similarity, places.spread(solved.plan, every)
            similarity, plan = (tensor.permute(2, 1, 3, 0) for tensor in whole)
            match = match._replace(similarity=similarity, plan=plan)
        if keep_plan and solved.mass is None and places.chosen is not None:
            match = match._replace(left_out_by_place=(plan.sum(dim=3) == 0).to(plan))
        return match

    @property
    def strengths(self) -> dict[str, Any]:
        """The settings that say which plan is the solution, of those that the matching has."""
        return {name: getattr(self, name) for name in MATCHINGS[self.matching].settings}

    @property
    def pooled(self) -> bool:
        """Whether an image is to be the set of its one pooled feature, instead of its local ones."""
        return MATCHINGS[self.matching].pooled

    def select(self, similarity: Tensor) -> Places:
        """Find the places that take part, by similarities (N, C, B, M)."""
        return select_places(similarity, self.top_k, self.select_by)

    def plan(self, places: Places) -> TransportPlan:
        """Solve for the plans (N, C, B, K) of the places that take part."""
        if places.share is None:
            return self.solve(places.similarity)
        return written_down((places.share / len(places.share)).expand_as(places.similarity))

    def solve(self, similarity: Tensor) -> TransportPlan:
        """Solve the C * B problems that similarities (N, C, B, M) pose; the plans have the same shape."""
        return MATCHINGS[self.matching].plan(similarity.detach(), self)

    def _parts(self, text: Tensor) -> tuple[Tensor, ...]:
        return text.split(self.chunk or text.shape[1], dim=1)

    def _for_parts(self, local: Tensor, parts: Sequence[Tensor]) -> tuple[Transport, bool | None]:
        """Find a transport that does with every part alone what this one does with the whole.

        Also whether it converges there, where the parts themselves cannot tell.  Only the stop rule "batch" looks
        beyond a part: its iterations are counted here, on the mean change over all parts.
        """
        if not self.chunk or self.matching != "ot" or self.stop != "batch" or not ranks.any_of(len(parts) > 1):
            return self, None
        classes = sum(part.shape[1] for part in parts)
        looked_at = min(8, self.max_iterations)
        while True:
            change = local.new_zeros(looked_at)
            for part in parts:
                cost = 1.0 - self.select(similarities(local.detach(), part.detach())).similarity
                change += part.shape[1] / classes * changes(cost, self.epsilon, looked_at, max_cost=self.max_cost)
            small = (ranks.mean(change, classes) < self.threshold).tolist()
            if any(small) or looked_at == self.max_iterations:
                iterations = small.index(True) + 1 if any(small) else self.max_iterations
                return replace(self, stop="never", max_iterations=iterations, chunk=0), any(small)
            looked_at = min(2 * looked_at, self.max_iterations)


def similarities(local: Tensor, text: Tensor) -> Tensor:
    """Compute the cosines (N, C, B, M) of local (B, M, D) and text (N, C, D), both of unit length."""
    return pairwise(text.flatten(0, 1), local.flatten(0, 1)).view(*text.shape[:2], *local.shape[:2])


def transported(similarity: Tensor, plan: Tensor) -> Tensor:
    """Sum T * S over m and n.

    Parameters
    ----------
    similarity, plan
        (N, C, B, M).  The sum is differentiable in the similarity; the plan is constant.

    Returns
    -------
    Tensor
        (B, C)
    """
    return _Transported.apply(similarity, plan)


def by_prompt(similarity: Tensor, plan: Tensor) -> Tensor:
    """Average the similarity of what is transported to each prompt: N sum_m T S, (B, C, N); as `transported` else."""
    return len(plan) * (plan * similarity).sum(dim=-1).permute(2, 1, 0)


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
        return plan * gradient.t()[..., None], None  # d<T, S> / dS = T


def outside_autocast(device: torch.device) -> Any:
    """Open a context without autocast; some devices have none (mps in torch 2.4), and refuse to be asked."""
    return torch.autocast(device.type, enabled=False) if is_autocast_available(device.type) else nullcontext()
