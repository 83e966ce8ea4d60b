"""Entropic optimal transport between many pairs of small sets, by Sinkhorn's fixed point.

For every problem the plan T (M rows, N columns) solves

    min_T  <T, cost> - epsilon * H(T)    with row sums a and column sums b          [1, eq. 2; PLOT eq. 4]

and has the form T = diag(r) K diag(c) with K = exp(-cost / epsilon).  The iteration scales the rows to a, then the
columns to b, until the row scaling r hardly moves [PLOT, algorithm A1].  Where the costs are known to be small against
epsilon this happens on K itself, as in the original; else on logarithms, so that no epsilon overflows: at
epsilon = 0.001 an entry of K can be exp(-2000).

Layout: the columns come first and the rows last, with any axes of problems between: (N, ..., M).  There are few
columns (the N = 4 prompts of a class), so an iteration is a handful of passes over slabs of memory (..., M) that lie
end to end; in the order (..., M, N) it would be one product with a matrix of 4 columns for every problem.  Costs, plans
and the similarities that they come from (transport.py) all keep this layout, and nothing is ever reordered.

This file knows nothing of images, prompts or configs.

References
----------
.. [1] M. Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, NeurIPS 2013.
.. [PLOT] G. Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR 2023.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ..parts.rules import above_zero, at_least, check_all, one_of

STOP_RULES = ("batch", "each", "never")
RULES = {
    "epsilon": above_zero(original=0.1),
    "max_iterations": at_least(1),
    "threshold": at_least(0),
    "stop": one_of(STOP_RULES),
}
SAFE_EXPONENT = 40.0  # with costs up to 40 epsilon, r and c stay below exp(80), inside float32's range
# Asking whether to stop is free on a CPU; on an accelerator the answer waits for everything that was asked before
_ITERATIONS_BETWEEN_LOOKS = {"cpu": 1}
_ITERATIONS_BETWEEN_LOOKS_ELSEWHERE = 8


class TransportPlan(NamedTuple):
    """The answer and the evidence for it.

    Attributes
    ----------
    plan
        (N, ..., M), the cost's layout.  The column sums are b up to rounding, the row sums a up to `marginal_error`.
    a
        (..., M), the row sums that were asked for.
    iterations
        (...) int64, sweeps until each problem stopped.
    converged
        (...) bool, False where the limit of iterations ended it.
    """

    plan: Tensor
    a: Tensor
    iterations: Tensor
    converged: Tensor

    @property
    def marginal_error(self) -> Tensor:
        """(...) largest |row sum - a| of each problem."""
        return (self.plan.sum(dim=0) - self.a).abs().amax(dim=-1)


def uniform_marginal(size: int, like: Tensor) -> Tensor:
    """Make equal masses 1/size, shape (size,), with the dtype and device of `like`."""
    return torch.full((size,), 1.0 / size, dtype=like.dtype, device=like.device)


@torch.no_grad()
def sinkhorn(
    cost: Tensor,
    epsilon: float,
    a: Tensor | None = None,
    b: Tensor | None = None,
    max_iterations: int = 100,
    threshold: float = 1e-2,
    stop: str = "batch",
    max_cost: float | None = None,
    overwrite: bool = False,
) -> TransportPlan:
    """Solve many independent problems of the same size; no gradient flows through the iteration.

    Parameters
    ----------
    cost
        (N, ..., M) of any floating dtype (half precision is computed in float32); entries may be +inf (forbidden
        pairs).  The axes between, at least one, count problems.
    epsilon
        Weight of the entropy, in the units of cost.
    a, b
        Row masses (M,) or (..., M), and column masses (N,) or (N, ...); uniform when left out.
    max_iterations, threshold, stop
        The iteration starts from r = c = 1 and ends when the change of r falls below `threshold`, where

        - "batch": the change is mean |r - r_before| over every row of every problem, and all problems stop together.
          That is the rule of the authors' program, and what published numbers were made with.  A problem's plan then
          depends, in its fifth or sixth digit, on what else is in the batch.
        - "each": the same mean within each problem, which then stops on its own.
        - "never": always `max_iterations`.

        r is in units of 1 / (M K c), not of mass: a small epsilon makes r huge, and the limit of iterations ends it.
    max_cost
        A bound on |cost| where the caller knows one (2 for cosine distances); up to 40 epsilon it makes the iteration
        cheaper and its float32 rounding that of the original.
    overwrite
        Whether the memory of a contiguous cost may become that of the plan, so that no second tensor of that size is
        needed.

    Raises
    ------
    ValueError
        For an epsilon that is not above 0, an unknown rule, or shapes that do not fit.

    Examples
    --------
    One problem of two rows (the last axis) and two columns (the first):

    >>> plan = sinkhorn(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), epsilon=0.01).plan
    >>> plan.round(decimals=3).tolist()
    [[[0.5, 0.0]], [[0.0, 0.5]]]
    """
    check_all(RULES, epsilon=epsilon, max_iterations=max_iterations, threshold=threshold, stop=stop)
    problem = _Problem.of(cost, epsilon, a, b, max_cost, overwrite)
    groups, device = cost.shape[1:-1], cost.device
    active = torch.ones(groups if stop == "each" else (), dtype=torch.bool, device=device)
    iterations = torch.zeros(groups, dtype=torch.int64, device=device)
    look_every = _ITERATIONS_BETWEEN_LOOKS.get(device.type, _ITERATIONS_BETWEEN_LOOKS_ELSEWHERE)

    r = c = torch.empty(0)
    for iteration, (new_r, new_c, change) in enumerate(islice(problem.sweeps(), max_iterations), start=1):
        if iteration == 1 or (stop != "each" and look_every == 1):
            r, c = new_r, new_c
        else:  # problems that have stopped stay as they were
            r, c = (torch.where(active[..., None], new, old) for new, old in ((new_r, r), (new_c, c)))
        iterations += active
        if stop != "never":
            # inf - inf in the change is NaN, and NaN < threshold is False: what left the range never "converges"
            active = active & ~((change.mean(dim=-1) if stop == "each" else change.mean()) < threshold)
        if stop != "never" and iteration % look_every == 0 and not bool(active.any()):
            break
    return TransportPlan(problem.plan(r, c), problem.masses(), iterations, ~active.expand(groups))


@torch.no_grad()
def changes(cost: Tensor, epsilon: float, iterations: int, max_cost: float | None = None) -> Tensor:
    """Mean change of r over all problems in each of the first iterations: what the stop rule "batch" looks at.

    For a batch that is solved in parts: the mean over the parts, weighted by their numbers of problems, says when the
    whole would have stopped.

    Returns
    -------
    Tensor
        (iterations,)
    """
    sweeps = islice(_Problem.of(cost, epsilon, max_cost=max_cost).sweeps(), iterations)
    return torch.stack([change.mean() for _, _, change in sweeps])


class _Problem(NamedTuple):
    """The problems as the iteration reads them: kernel and masses, or the logarithms of both."""

    kernel: Tensor  # (N, ..., M) K, or log K
    a: Tensor  # (..., M) or (M,) row masses, or their logarithms
    b: Tensor  # (N, ..., 1) column masses, likewise
    in_logs: bool

    @classmethod
    def of(
        cls,
        cost: Tensor,
        epsilon: float,
        a: Tensor | None = None,
        b: Tensor | None = None,
        max_cost: float | None = None,
        overwrite: bool = False,
    ) -> _Problem:
        """Read the arguments of `sinkhorn`."""
        if cost.dim() < 3 or 0 in (cost.shape[0], cost.shape[-1]):
            raise ValueError(f"cost must be (N, ..., M) with N, M >= 1, got shape {tuple(cost.shape)}")
        if not cost.is_floating_point():
            raise ValueError(f"cost must be floating point, got {cost.dtype}")
        columns, *groups, rows = cost.shape
        cost = cost if cost.dtype == torch.float64 else cost.float()
        a = _marginal("a", uniform_marginal(rows, cost) if a is None else a, ((*groups, rows), (rows,)))
        b = _marginal("b", uniform_marginal(columns, cost) if b is None else b, ((columns, *groups), (columns,)))
        b = b.reshape(columns, *([1] * len(groups) if b.dim() == 1 else groups), 1)
        kernel = (cost.div_(-epsilon) if overwrite else cost / -epsilon).contiguous()  # log K
        if max_cost is None or max_cost > SAFE_EXPONENT * epsilon:
            return cls(kernel, a.to(cost).log(), b.to(cost).log(), in_logs=True)
        return cls(kernel.exp_(), a.to(cost), b.to(cost), in_logs=False)

    def sweeps(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Sweep without end: yields r (..., M) and c (N, ..., 1), or their logarithms, and |change of r|."""
        sweep = _sweep_logs if self.in_logs else _sweep
        ones = torch.zeros_like(self.b) if self.in_logs else torch.ones_like(self.b)
        r, c = ones[0], ones
        while True:
            before = r
            r, c = sweep(self.kernel, c, self.a, self.b)
            yield r, c, (r.exp() - before.exp() if self.in_logs else r - before).abs_()

    def plan(self, r: Tensor, c: Tensor) -> Tensor:
        """Compute T = diag(r) K diag(c), (N, ..., M); the kernel's memory becomes the plan's."""
        return self.kernel.add_(r).add_(c).exp_() if self.in_logs else self.kernel.mul_(r).mul_(c)

    def masses(self) -> Tensor:
        """Give the row masses of every problem, (..., M)."""
        return (self.a.exp() if self.in_logs else self.a).expand(self.kernel.shape[1:])


def _sweep(kernel: Tensor, c: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Iterate once on K: r = a / (K c), then c = b / (K^T r)."""
    row_sums = kernel[0] * c[0]  # (..., M): (K c)_m = sum over n of K_mn c_n, one slab after another
    for slab, scale in zip(kernel[1:], c[1:], strict=True):
        row_sums.addcmul_(slab, scale)
    r = torch.div(a, row_sums, out=row_sums)
    return r, b / torch.stack([(slab * r).sum(dim=-1, keepdim=True) for slab in kernel])


def _sweep_logs(log_kernel: Tensor, log_c: Tensor, log_a: Tensor, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """Iterate once on logarithms: log r = log a - log sum_n exp(log K + log c), and likewise for c."""
    log_r = log_a - _logsumexp(log_kernel + log_c, dim=0)
    return log_r, log_b - _logsumexp(log_kernel + log_r, dim=-1)[..., None]


def _logsumexp(values: Tensor, dim: int) -> Tensor:
    """Sum exponentials and take the logarithm; a row that is -inf throughout gives -inf rather than NaN."""
    top = values.amax(dim=dim, keepdim=True)
    top = torch.where(top == -math.inf, torch.zeros_like(top), top)
    return (values - top).exp_().sum(dim=dim).log_() + top.squeeze(dim)


def _marginal(name: str, masses: Tensor, shapes: tuple[tuple[int, ...], ...]) -> Tensor:
    """Check the shape of masses; ValueError, naming which, for another one."""
    if masses.shape not in shapes:
        allowed = " or ".join(map(str, reversed(shapes)))
        raise ValueError(f"marginal {name} must have shape {allowed}, got {tuple(masses.shape)}")
    return masses
