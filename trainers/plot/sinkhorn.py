"""Entropic optimal transport between many pairs of small sets, by Sinkhorn's fixed point.

For every problem g the plan solves

    min_T  <T, cost> - epsilon * H(T)    with row sums a and column sums b          [1, eq. 2; PLOT eq. 4]

and has the form T = diag(r) K diag(c) with K = exp(-cost / epsilon).  The iteration scales the rows to a, then the
columns to b, until the row scaling r hardly moves [PLOT, algorithm A1].  Where the costs are known to be small against
epsilon this happens on K itself, as in the original; else on logarithms, so that no epsilon overflows: at
epsilon = 0.001 an entry of K can be exp(-2000).

This file knows nothing of images, prompts or configs.

[1] M. Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, NeurIPS 2013.
[PLOT] G. Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR 2023.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

STOP_RULES = ("batch", "each", "never")
SAFE_EXPONENT = 40.0  # with costs up to 40 epsilon, r and c stay below exp(80), inside float32's range
# Asking whether to stop is free on a CPU; on an accelerator the answer waits for everything that was asked before
_ITERATIONS_BETWEEN_LOOKS = {"cpu": 1}
_ITERATIONS_BETWEEN_LOOKS_ELSEWHERE = 8


class TransportPlan(NamedTuple):
    """The answer and the evidence for it."""

    plan: Tensor  # (G, M, N); the columns sum to b up to rounding, the rows to a up to `marginal_error`
    a: Tensor  # (G, M) the row sums that were asked for
    iterations: Tensor  # (G,) int64, sweeps until this problem stopped
    converged: Tensor  # (G,) bool, False where the limit of iterations ended it

    @property
    def marginal_error(self) -> Tensor:
        """(G,) largest |row sum - a|"""
        return (self.plan.sum(dim=2) - self.a).abs().amax(dim=1)


def uniform_marginal(size: int, like: Tensor) -> Tensor:
    """Equal masses 1/size, shape (size,), with the dtype and device of `like`."""
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
    """Transport plans of G independent problems; no gradient flows through the iteration.

    cost (G, M, N), any floating dtype (half precision is computed in float32); entries may be +inf (forbidden pairs).
    epsilon: weight of the entropy, in the units of cost.  a (M,) or (G, M) and b (N,) or (G, N): masses, uniform when
    left out.  The iteration starts from r = c = 1 and ends when the change of r falls below `threshold`, where

    - stop="batch": the change is mean |r - r_before| over every row of every problem, and all problems stop together.
      That is the rule of the authors' program, and what published numbers were made with.  A problem's plan then
      depends, in its fifth or sixth digit, on what else is in the batch.
    - stop="each": the same mean within each problem, which then stops on its own.
    - stop="never": always `max_iterations`.

    r is in units of 1 / (M K c), not of mass: a small epsilon makes r huge, and the limit of iterations ends the loop.
    max_cost: a bound on |cost| where the caller knows one (2 for cosine distances); up to 40 epsilon it makes the
    iteration cheaper and its float32 rounding that of the original.
    overwrite: the memory of cost may become that of the plan, so that no second tensor of that size is needed.
    A cost whose memory is laid out (N, G, M), with `permute(1, 2, 0)` before the call, is read without a copy in
    another order; the plan comes back in that layout.
    Raises ValueError for an epsilon <= 0, an unknown rule, or shapes that do not fit.

    >>> plan = sinkhorn(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), epsilon=0.01).plan
    >>> plan.round(decimals=3).tolist()
    [[[0.5, 0.0], [0.0, 0.5]]]
    """
    _check(cost, epsilon, max_iterations, stop)
    groups, rows, columns = cost.shape
    problem = _Problem.of(cost, epsilon, a, b, max_cost, overwrite)
    active = torch.ones(groups if stop == "each" else (), dtype=torch.bool, device=cost.device)
    iterations = torch.zeros(groups, dtype=torch.int64, device=cost.device)
    look_every = _ITERATIONS_BETWEEN_LOOKS.get(cost.device.type, _ITERATIONS_BETWEEN_LOOKS_ELSEWHERE)

    r = c = torch.empty(0)
    for iteration, (new_r, new_c, change) in enumerate(islice(problem.sweeps(), max_iterations), start=1):
        if iteration == 1 or (stop != "each" and look_every == 1):
            r, c = new_r, new_c
        else:  # problems that have stopped stay as they were
            r, c = (torch.where(active[..., None], new, old) for new, old in ((new_r, r), (new_c, c)))
        iterations += active
        if stop != "never":
            # inf - inf in the change is NaN, and NaN < threshold is False: what left the range never "converges"
            active = active & ~(change.mean(dim=1 if stop == "each" else (0, 1)) < threshold)
        if iteration % look_every == 0 and not bool(active.any()):
            break
    return TransportPlan(problem.plan(r, c), problem.masses(), iterations, ~active.expand(groups))


@torch.no_grad()
def changes(cost: Tensor, epsilon: float, iterations: int, max_cost: float | None = None) -> Tensor:
    """Mean change of r over all problems in each of the first iterations, (iterations,): what stop="batch" looks at.

    For a batch that is solved in parts: the weighted mean over the parts says when the whole would have stopped.
    """
    _check(cost, epsilon, iterations, "batch")
    sweeps = islice(_Problem.of(cost, epsilon, max_cost=max_cost).sweeps(), iterations)
    return torch.stack([change.mean() for _, _, change in sweeps])


class _Problem(NamedTuple):
    """G problems in the layout of the iteration: one slab of memory (G, M) for each of the few columns.

    A sweep is then a handful of passes over slabs that lie end to end; in the layout (G, M, N) it would be G products
    with a matrix of N = 4 columns.
    """

    kernel: Tensor  # (N, G, M) K, or log K
    a: Tensor  # (G, M) or (M,) row masses, or their logarithms
    b: Tensor  # (N, G, 1) or (N, 1, 1) column masses, likewise
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
        groups, rows, columns = cost.shape
        cost = cost if cost.dtype == torch.float64 else cost.float()
        a = _marginal("a", uniform_marginal(rows, cost) if a is None else a, (groups, rows), cost)
        b = _marginal("b", uniform_marginal(columns, cost) if b is None else b, (groups, columns), cost)
        b = b.t()[..., None] if b.dim() == 2 else b[:, None, None]
        slabs = cost.permute(2, 0, 1)
        kernel = (slabs.div_(-epsilon) if overwrite else slabs / -epsilon).contiguous()
        if max_cost is None or max_cost > SAFE_EXPONENT * epsilon:
            return cls(kernel, a.log(), b.log(), in_logs=True)
        return cls(kernel.exp_(), a, b, in_logs=False)

    def sweeps(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """After each sweep: r (G, M) and c (N, G, 1), or their logarithms, and the change |r - r_before| (G, M)."""
        sweep = _sweep_logs if self.in_logs else _sweep
        start = 0.0 if self.in_logs else 1.0
        r, c = self.kernel.new_full((1, 1), start), self.kernel.new_full((len(self.kernel), 1, 1), start)
        while True:
            before = r
            r, c = sweep(self.kernel, c, self.a, self.b)
            yield r, c, (r.exp() - before.exp() if self.in_logs else r - before).abs_()

    def plan(self, r: Tensor, c: Tensor) -> Tensor:
        """diag(r) K diag(c), (G, M, N); the kernel's memory becomes the plan's."""
        scaled = self.kernel.add_(r).add_(c).exp_() if self.in_logs else self.kernel.mul_(r).mul_(c)
        return scaled.permute(1, 2, 0)

    def masses(self) -> Tensor:
        return (self.a.exp() if self.in_logs else self.a).expand(self.kernel.shape[1:])


def _sweep(kernel: Tensor, c: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """One iteration on K: r = a / (K c), then c = b / (K^T r)."""
    row_sums = kernel[0] * c[0]
    for slab, scale in zip(kernel[1:], c[1:], strict=True):
        row_sums.addcmul_(slab, scale)
    r = torch.div(a, row_sums, out=row_sums)
    return r, b / torch.stack([(slab * r).sum(dim=1, keepdim=True) for slab in kernel])


def _sweep_logs(log_kernel: Tensor, log_c: Tensor, log_a: Tensor, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """The same iteration on logarithms."""
    log_r = log_a - _logsumexp(log_kernel + log_c, dim=0)
    return log_r, log_b - _logsumexp(log_kernel + log_r, dim=2)[..., None]


def _logsumexp(values: Tensor, dim: int) -> Tensor:
    """log sum exp; a row that is -inf throughout gives -inf rather than NaN."""
    top = values.amax(dim=dim, keepdim=True)
    top = torch.where(top == -math.inf, torch.zeros_like(top), top)
    return (values - top).exp_().sum(dim=dim).log_() + top.squeeze(dim)


def _check(cost: Tensor, epsilon: float, max_iterations: int, stop: str) -> None:
    if cost.dim() != 3 or 0 in cost.shape[1:]:
        raise ValueError(f"cost must be (G, M, N) with M, N >= 1, got shape {tuple(cost.shape)}")
    if not cost.is_floating_point():
        raise ValueError(f"cost must be floating point, got {cost.dtype}")
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(f"epsilon must be a positive number, got {epsilon}; the original uses 0.1")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    if stop not in STOP_RULES:
        raise ValueError(f"stop must be one of {', '.join(STOP_RULES)}, got {stop!r}")


def _marginal(name: str, masses: Tensor, shape: tuple[int, int], cost: Tensor) -> Tensor:
    masses = masses.to(cost)
    if masses.shape not in (shape, shape[1:]):
        raise ValueError(f"marginal {name} must have shape {shape[1:]} or {shape}, got {tuple(masses.shape)}")
    return masses
