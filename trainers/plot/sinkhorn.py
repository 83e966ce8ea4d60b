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
from typing import NamedTuple

import torch
from torch import Tensor

STOP_RULES = ("batch", "each", "never")
SAFE_EXPONENT = 40.0  # with costs up to 40 epsilon, r and c stay below exp(80), inside float32's range
_ITERATIONS_BETWEEN_LOOKS = 8  # on an accelerator: asking whether to stop waits for everything before the question


class TransportPlan(NamedTuple):
    """The answer and the evidence for it."""

    plan: Tensor  # (G, M, N); the columns sum to b up to rounding, the rows to a up to `marginal_error`
    marginal_error: Tensor  # (G,) largest |row sum - a|
    iterations: Tensor  # (G,) int64, sweeps until this problem stopped
    converged: Tensor  # (G,) bool, False where the limit of iterations ended it


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
    Raises ValueError for an epsilon <= 0, an unknown rule, or shapes that do not fit.

    >>> plan = sinkhorn(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), epsilon=0.01).plan
    >>> plan.round(decimals=3).tolist()
    [[[0.5, 0.0], [0.0, 0.5]]]
    """
    _check(cost, epsilon, max_iterations, stop)
    groups, rows, columns = cost.shape
    cost = cost if cost.dtype == torch.float64 else cost.float()
    log_a = _log_marginal("a", uniform_marginal(rows, cost) if a is None else a, (groups, rows), cost)
    log_b = _log_marginal("b", uniform_marginal(columns, cost) if b is None else b, (groups, columns), cost)
    log_kernel = cost / -epsilon  # log K

    in_logs = max_cost is None or max_cost > SAFE_EXPONENT * epsilon
    kernel = log_kernel if in_logs else log_kernel.exp()
    sweep = _sweep_logs if in_logs else _sweep
    a, b = (log_a, log_b) if in_logs else (log_a.exp(), log_b.exp())
    r = cost.new_full((groups, rows), 0.0 if in_logs else 1.0)
    c = cost.new_full((groups, columns), 0.0 if in_logs else 1.0)
    active = torch.ones(groups, 1, dtype=torch.bool, device=cost.device)
    iterations = torch.zeros(groups, dtype=torch.int64, device=cost.device)
    look_every = 1 if cost.device.type == "cpu" else _ITERATIONS_BETWEEN_LOOKS

    for iteration in range(1, max_iterations + 1):
        new_r, new_c = sweep(kernel, c, a, b)
        # inf - inf in the change is NaN, and NaN < threshold is False: a scaling beyond the range never "converges"
        change = ((new_r.exp() - r.exp()) if in_logs else (new_r - r)).abs()
        change = change.mean(dim=1, keepdim=True) if stop == "each" else change.mean()

        r = torch.where(active, new_r, r)  # problems that have stopped stay as they are
        c = torch.where(active, new_c, c)
        iterations += active[:, 0]
        if stop != "never":
            active = active & ~(change < threshold)
        if iteration % look_every == 0 and not bool(active.any()):
            break

    plan = (r[:, :, None] + kernel + c[:, None, :]).exp() if in_logs else r[:, :, None] * kernel * c[:, None, :]
    marginal_error = (plan.sum(dim=2) - log_a.exp()).abs().amax(dim=1)
    return TransportPlan(plan, marginal_error, iterations, ~active[:, 0])


def _sweep(kernel: Tensor, c: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """One iteration on K: r = a / (K c), then c = b / (K^T r)."""
    r = a / (kernel @ c[:, :, None]).squeeze(2)
    return r, b / (r[:, None, :] @ kernel).squeeze(1)


def _sweep_logs(log_kernel: Tensor, log_c: Tensor, log_a: Tensor, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """The same iteration on logarithms."""
    log_r = log_a - _logsumexp(log_kernel + log_c[:, None, :], dim=2)
    return log_r, log_b - _logsumexp(log_kernel + log_r[:, :, None], dim=1)


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


def _log_marginal(name: str, masses: Tensor, shape: tuple[int, int], cost: Tensor) -> Tensor:
    masses = masses.to(cost)
    if masses.shape not in (shape, shape[1:]):
        raise ValueError(f"marginal {name} must have shape {shape[1:]} or {shape}, got {tuple(masses.shape)}")
    return masses.log().expand(shape)
