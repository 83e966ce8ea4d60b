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

Two relatives may leave mass behind (`sinkhorn_unbalanced`, `sinkhorn_partial`).  Both solve, with H(T) written as the
divergence from the product of the marginals, which is the same up to a constant,

    min_T  <T, cost> + epsilon * KL(T | a b^T) + G(row sums) + G'(column sums)

and iterate in the same way: with T = diag(a u) K diag(b v), let x_m = log (K diag(b) v)_m be what row m would have for
u_m = 1, in units of a_m.  Scaling a row to its mass is log u = -x.  A divergence of strength rho in place of the
constraint makes it -x * rho / (rho + epsilon), and an upper bound makes it -max(x, 0) [2, table 1; 3, sec. 3.2].

This file knows nothing of images, prompts or configs.

References
----------
.. [1] M. Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, NeurIPS 2013.
.. [2] L. Chizat et al., Scaling Algorithms for Unbalanced Optimal Transport Problems, Math. Comp. 2018.
.. [3] J.-D. Benamou et al., Iterative Bregman Projections for Regularized Transportation Problems, SISC 2015.
.. [PLOT] G. Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR 2023.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ..parts.rules import Rule, above_zero, at_least, check_all, one_of

STOP_RULES = ("batch", "each", "never")
RULES = {
    "epsilon": above_zero(original=0.1),
    "rho": Rule(lambda rho: 0 < rho < math.inf, "above 0 and finite", "; the larger, the less mass is left behind"),
    "share": Rule(lambda share: 0 < share <= 1, "above 0 and at most 1", "; 1 moves all of the mass"),
    "max_iterations": at_least(1),
    "threshold": at_least(0),
    "stop": one_of(STOP_RULES),
}
SAFE_EXPONENT = 40.0  # with costs up to 40 epsilon, r and c stay below exp(80), inside float32's range
FORBIDDEN = 1e30  # minus the logarithm of the scaling of a row that may send nothing; finite, as inf - inf is NaN
# Asking whether to stop is free on a CPU; on an accelerator the answer waits for everything that was asked before
_ITERATIONS_BETWEEN_LOOKS = {"cpu": 1}
_ITERATIONS_BETWEEN_LOOKS_ELSEWHERE = 8


class TransportPlan(NamedTuple):
    """The answer and the evidence for it.

    Attributes
    ----------
    plan
        (N, ..., M), the cost's layout: how the mass that is moved is spread, total 1.  Where all of it is moved, the
        column sums are b up to rounding, the row sums a up to `marginal_error`.
    a
        (..., M), the masses of the rows.
    iterations
        (...) int64, sweeps until each problem stopped.
    converged
        (...) bool, False where the limit of iterations ended it.
    mass
        (...) how much is moved: mass * plan is the solution.  None where that is all of it.  The two are apart
        because costs that are large against epsilon and rho leave a mass that no float holds, but a plan all the same.
    bounded
        Where mass is left behind: whether a bounds the row sums, or only draws them.
    """

    plan: Tensor
    a: Tensor
    iterations: Tensor
    converged: Tensor
    mass: Tensor | None = None
    bounded: bool = False

    @property
    def row_mass(self) -> Tensor:
        """(..., M) what each row sends."""
        sent = self.plan.sum(dim=0)
        return sent if self.mass is None else sent * self.mass[..., None]

    @property
    def left_out(self) -> Tensor:
        """(..., M) share of each row's mass that stays behind, in [0, 1]; 0 where a row sends more than a."""
        return ((self.a - self.row_mass) / self.a.clamp(min=torch.finfo(self.a.dtype).tiny)).clamp_(min=0)

    @property
    def marginal_error(self) -> Tensor:
        """(...) by how much the row sums miss what they must be: |row sum - a|, or what exceeds a, or nothing."""
        excess = self.row_mass - self.a
        if self.mass is None:
            return excess.abs().amax(dim=-1)
        return excess.amax(dim=-1).clamp(min=0) if self.bounded else torch.zeros_like(self.mass)


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
    mean: Callable[[Tensor], Tensor] = torch.mean,
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
    mean
        How the changes (..., M) of r are averaged under "batch"; other than here where these problems are a part of
        those that stop together.

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
    r, c, iterations, converged = _iterate(problem, max_iterations, threshold, stop, mean)
    return TransportPlan(problem.plan(r, c), problem.masses(), iterations, converged)


@torch.no_grad()
def sinkhorn_unbalanced(
    cost: Tensor,
    epsilon: float,
    rho: float,
    both_sides: bool = False,
    a: Tensor | None = None,
    b: Tensor | None = None,
    max_iterations: int = 100,
    threshold: float = 1e-4,
    overwrite: bool = False,
) -> TransportPlan:
    """Solve problems whose row sums may leave a, at the price of rho * KL(row sums | a).

    Parameters
    ----------
    cost, epsilon, a, b, overwrite
        As of `sinkhorn`; always on logarithms.
    rho
        Price of leaving the marginals, in the units of cost: a row that costs rho + epsilon more than another at every
        column sends e times less.  The larger, the closer to `sinkhorn`.
    both_sides
        Whether the column sums may leave b, too, at the same price; else they are b, and the mass that one row does not
        send is sent by others.
    max_iterations, threshold
        Each problem stops when a sweep changes its plan by less than this, relative to the size of the entries and in
        the mean over rows and columns; at threshold 0 never before the limit.

    Raises
    ------
    ValueError
        For an epsilon or rho that is not above 0, or shapes that do not fit.

    Notes
    -----
    A sweep shrinks the error of log u by rho / (rho + epsilon) at least, with both sides by its square.  For a large
    rho that is slow, but what is slow is a factor that u gains and v loses, of which the plan feels little: it
    converges as fast as that of `sinkhorn`.

    Examples
    --------
    The second row is far from the only column, and sends nothing:

    >>> solved = sinkhorn_unbalanced(torch.tensor([[[0.0, 1.0]]]), epsilon=0.01, rho=0.05)
    >>> solved.left_out.round(decimals=3).tolist()
    [[0.0, 1.0]]
    """
    check_all(RULES, epsilon=epsilon, rho=rho, max_iterations=max_iterations, threshold=threshold)
    pull = 1 / (1 + epsilon / rho)
    relaxed = _Relaxed.of(
        _Problem.of(cost, epsilon, a, b, overwrite=overwrite),
        rows=lambda given: given * -pull,
        columns=lambda received, log_v: received * -(pull if both_sides else 1.0),
    )
    return relaxed.solved(max_iterations, threshold, bounded=False)


@torch.no_grad()
def sinkhorn_partial(
    cost: Tensor,
    epsilon: float,
    share: float,
    both_sides: bool = False,
    a: Tensor | None = None,
    b: Tensor | None = None,
    max_iterations: int = 100,
    threshold: float = 1e-4,
    overwrite: bool = False,
) -> TransportPlan:
    """Solve problems of which a share of the mass is moved, from the rows that are best served: row sums at most a.

    Parameters
    ----------
    cost, epsilon, a, b, overwrite
        As of `sinkhorn`; always on logarithms.  a and b have total 1.
    share
        Total of the plan, above 0 and at most 1.  Where the allowed pairs cannot carry so much, the total is kept, and
        `marginal_error` says by how much rows exceed a.
    both_sides
        Whether the column sums are at most b; else they are share * b.
    max_iterations, threshold
        As of `sinkhorn_unbalanced`.

    Raises
    ------
    ValueError
        For an epsilon or share that is out of range, or shapes that do not fit.

    Examples
    --------
    Of four rows, the two that are near the only column:

    >>> solved = sinkhorn_partial(torch.tensor([[[0.0, 0.1, 0.9, 1.0]]]), epsilon=0.01, share=0.5)
    >>> solved.left_out.round(decimals=3).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    check_all(RULES, epsilon=epsilon, share=share, max_iterations=max_iterations, threshold=threshold)
    log_share, problem = math.log(share), _Problem.of(cost, epsilon, a, b, overwrite=overwrite)

    def bound_both(received: Tensor, log_v: Tensor) -> Tensor:
        # v is at most 1 up to a factor of the whole plan, which makes its total the share, before and after
        at_total = log_v + log_share - _logsumexp(problem.b + log_v + received, dim=0)
        log_v = _at_most_one(-(received + at_total.amax(dim=0)), dim=0)
        return log_v + log_share - _logsumexp(problem.b + log_v + received, dim=0)

    relaxed = _Relaxed.of(
        problem,
        rows=lambda given: _at_most_one(-given, dim=-1),
        columns=bound_both if both_sides else lambda received, log_v: log_share - received,
    )
    return relaxed.solved(max_iterations, threshold, bounded=True)


def _iterate(
    problem: _Problem | _Relaxed,
    max_iterations: int,
    threshold: float,
    stop: str,
    mean: Callable[[Tensor], Tensor] = torch.mean,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sweep until the stop rule is met, for every solver: r, c, and of each problem the iterations and convergence."""
    groups, device = problem.kernel.shape[1:-1], problem.kernel.device
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
            active = active & ~((change.mean(dim=-1) if stop == "each" else mean(change)) < threshold)
        if stop != "never" and iteration % look_every == 0 and not bool(active.any()):
            break
    return r, c, iterations, ~active.expand(groups)


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


class _Relaxed(NamedTuple):
    """Problems that may leave mass behind, on logarithms: T = diag(a u) K diag(b v)."""

    kernel: Tensor  # (N, ..., M) log K
    log_a: Tensor  # (..., M) or (M,)
    log_b: Tensor  # (N, ..., 1)
    rows: Callable[[Tensor], Tensor]  # x (..., M) -> log u
    columns: Callable[[Tensor, Tensor], Tensor]  # the same of columns, given log v before: (N, ..., 1) each

    @classmethod
    def of(cls, balanced: _Problem, rows: Callable, columns: Callable) -> _Relaxed:
        """Put other rules in the place of the constraints of a problem on logarithms."""
        return cls(balanced.kernel, balanced.a, balanced.b, rows, columns)

    def sweeps(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Sweep without end: yields log r, log c, and by how much log T changed, in the mean over rows and columns."""
        log_kernel, log_a, log_b = self.kernel, self.log_a, self.log_b
        a, b = log_a.exp(), log_b.exp()
        log_v = torch.zeros_like(log_b)
        log_u = log_v[0]
        while True:
            before = log_u, log_v
            log_u = self.rows(_or_forbidden(_logsumexp(log_kernel + (log_b + log_v), dim=0)))  # (..., M)
            log_r = log_a + log_u
            received = _or_forbidden(_logsumexp(log_kernel + log_r, dim=-1))[..., None]  # (N, ..., 1)
            log_v = self.columns(received, log_v)
            # what all of u gains while all of v loses it, or the reverse, is no change of T
            rows, columns = a * (log_u - before[0]), b * (log_v - before[1])
            of_rows, of_columns = rows.sum(dim=-1, keepdim=True), columns.sum(dim=0)
            change = (rows - a * of_rows).abs().sum(dim=-1, keepdim=True) + (columns - b * of_columns).abs().sum(dim=0)
            yield log_r, log_b + log_v, change + (of_rows + of_columns).abs()

    def solved(self, max_iterations: int, threshold: float, bounded: bool) -> TransportPlan:
        """Solve each problem until its own scalings are at rest; the kernel's memory becomes the plan's."""
        log_r, log_c, iterations, converged = _iterate(self, max_iterations, threshold, "each")
        log_plan = self.kernel.add_(log_r).add_(log_c)
        top = log_plan.amax(dim=(0, -1), keepdim=True).clamp(min=-FORBIDDEN)
        plan = log_plan.sub_(top).exp_()
        total = plan.sum(dim=(0, -1), keepdim=True)
        plan.div_(total.clamp(min=torch.finfo(total.dtype).tiny))  # of no mass at all there are no shares
        mass = (top.exp() * total)[0, ..., 0]
        return TransportPlan(plan, self.log_a.exp().expand(plan.shape[1:]), iterations, converged, mass, bounded)


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


def _or_forbidden(log_sums: Tensor) -> Tensor:
    """Replace the logarithm of 0, of a row or column without an allowed pair, so that its scaling becomes 0."""
    return torch.where(log_sums == -math.inf, FORBIDDEN, log_sums)


def _at_most_one(log_scaling: Tensor, dim: int) -> Tensor:
    """Cut scalings of an upper bound at 1, and raise them until one is 1.

    Where mass stays behind, some row is not held back.  To raise all together, while the other side is lowered, is the
    step along which the iteration would creep, by a factor of the share a sweep.
    """
    cut = log_scaling.clamp(max=0)
    return cut - cut.amax(dim=dim, keepdim=True)


def _marginal(name: str, masses: Tensor, shapes: tuple[tuple[int, ...], ...]) -> Tensor:
    """Check the shape of masses; ValueError, naming which, for another one."""
    if masses.shape not in shapes:
        allowed = " or ".join(map(str, reversed(shapes)))
        raise ValueError(f"marginal {name} must have shape {allowed}, got {tuple(masses.shape)}")
    return masses
