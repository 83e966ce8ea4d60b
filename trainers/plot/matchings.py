"""Which plan: the ways to match the local features of an image with the prompts of a class, as a table.

A matching is a function from similarities to plans, and what it declares of itself here: every command, table, figure
and key that has to do with matchings reads this table, so that another one needs an entry and nothing else.

Plans have total mass 1 throughout.  Of a matching that leaves mass behind, that is the part that was moved, so that a
score stays a mean similarity, of what was moved: the temperature means the same for every strength, and in the limit
where nothing is left the score is that of `ot`.

Layout as in transport.py: (N, C, B, M), prompts first and local features last.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from clip import ranks

from .sinkhorn import TransportPlan, sinkhorn, sinkhorn_partial, sinkhorn_unbalanced

if TYPE_CHECKING:
    from .transport import Transport

LEAVE_OUT = ("places", "both")
PERCENT = 0.01  # of ot's unit of the threshold, for the rules that look at relative changes


def _optimal(similarity: Tensor, transport: Transport) -> TransportPlan:
    """Solve for the entropic optimum, in the memory of the costs."""
    return sinkhorn(
        1.0 - similarity,
        transport.epsilon,
        max_iterations=transport.max_iterations,
        threshold=transport.threshold,
        stop=transport.stop,
        max_cost=transport.max_cost,
        overwrite=True,
        mean=mean_over_ranks,
    )


def mean_over_ranks(change: Tensor) -> Tensor:
    """Average changes over the problems of all processes that share a step: they stop together, as those of one do."""
    return ranks.mean(change.mean(), change.numel())


def _unbalanced(similarity: Tensor, transport: Transport) -> TransportPlan:
    """Solve for the optimum whose places, or both sides, are drawn to equal masses, and not held."""
    return _leaving(sinkhorn_unbalanced, similarity, transport.rho, transport)


def _partial(similarity: Tensor, transport: Transport) -> TransportPlan:
    """Solve for the optimum that moves a share of the mass."""
    return _leaving(sinkhorn_partial, similarity, transport.share, transport)


def _leaving(
    solve: Callable[..., TransportPlan], similarity: Tensor, strength: float, transport: Transport
) -> TransportPlan:
    """Call a solver that may leave mass behind; every problem stops on its own, or at the limit of iterations."""
    return solve(
        1.0 - similarity,
        transport.epsilon,
        strength,
        both_sides=transport.leave_out == "both",
        max_iterations=transport.max_iterations,
        threshold=0.0 if transport.stop == "never" else transport.threshold * PERCENT,
        overwrite=True,
    )


def _uniform(similarity: Tensor, transport: Transport) -> TransportPlan:
    """Give every pair the same mass."""
    return written_down(torch.full_like(similarity, 1.0 / (similarity.shape[0] * similarity.shape[-1])))


def _nearest(similarity: Tensor, transport: Transport) -> TransportPlan:
    """Send all of a local feature's mass to the prompt that is most like it; of equals, to the first."""
    nearest = similarity.argmax(dim=0, keepdim=True)  # (1, C, B, M)
    return written_down(torch.zeros_like(similarity).scatter_(0, nearest, 1.0 / similarity.shape[-1]))


def written_down(plan: Tensor) -> TransportPlan:
    """Wrap a plan that nobody had to solve for."""
    problems = plan.shape[1:-1]
    return TransportPlan(
        plan,
        plan.new_full(plan.shape[1:], 1.0 / plan.shape[-1]),
        torch.zeros(problems, dtype=torch.int64, device=plan.device),
        torch.ones(problems, dtype=torch.bool, device=plan.device),
    )


class Matching(NamedTuple):
    """Which plan, and between which sets.

    Attributes
    ----------
    plan
        (similarities (N, C, B, M), settings) -> plans of that shape.
    settings
        The fields of `Transport` that say which plan is the solution, as against how it is found: recorded with a run.
        The first is the strength, which `ablate` varies.
    tried
        Values of that strength which are worth a look.
    leaves_mass
        Whether some of the mass may stay behind.
    pooled
        Whether the image is its pooled feature alone, M = 1.
    """

    plan: Callable[[Tensor, Transport], TransportPlan]
    settings: tuple[str, ...] = ()
    tried: tuple[float, ...] = ()
    leaves_mass: bool = False
    pooled: bool = False

    @property
    def strength(self) -> str | None:
        """The setting that is varied, if there is any."""
        return self.settings[0] if self.settings else None


MATCHINGS = {
    "ot": Matching(_optimal, ("epsilon",), tried=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)),
    "unbalanced": Matching(
        _unbalanced, ("rho", "epsilon", "leave_out"), tried=(0.01, 0.03, 0.1, 0.3, 1.0), leaves_mass=True
    ),
    "partial": Matching(
        _partial, ("share", "epsilon", "leave_out"), tried=(0.1, 0.25, 0.5, 0.75, 0.9), leaves_mass=True
    ),
    "uniform": Matching(_uniform),
    "max": Matching(_nearest),
    "global": Matching(_uniform, pooled=True),
}
