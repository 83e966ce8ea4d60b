"""The solvers that may leave mass behind: against POT, against the conditions of an optimum, and at their limits."""
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.closeness import assert_close
from trainers.plot.sinkhorn import sinkhorn, sinkhorn_partial, sinkhorn_unbalanced

TO_THE_END = {"max_iterations": 50_000, "threshold": 1e-12}
sizes = {"seed": st.integers(0, 2**31), "rows": st.integers(1, 9), "columns": st.integers(1, 5)}


def random_problem(seed, rows, columns, groups=2, dtype=torch.float64):
    """Costs (N, G, M) in [0, 2], and masses (M,) and (N,) of total 1."""
    generator = torch.Generator().manual_seed(seed)
    cost = 2 * torch.rand(columns, groups, rows, generator=generator, dtype=dtype)
    a, b = (0.1 + torch.rand(size, generator=generator, dtype=dtype) for size in (rows, columns))
    return cost, a / a.sum(), b / b.sum()


def whole(solved):
    """Plans (G, M, N) with the mass that they move."""
    return (solved.plan * solved.mass[..., None]).permute(1, 2, 0)


def compare_with_pot(solved, cost, solve):
    for ours, problem in zip(whole(solved), cost.permute(1, 2, 0).numpy(), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # POT asks for looser limits
            assert_close(ours, solve(problem), 1e-7)


@settings(max_examples=8, deadline=None)
@given(**sizes, epsilon=st.floats(0.2, 2.0), rho=st.floats(0.02, 2.0), both=st.booleans())
def test_unbalanced_is_pots(seed, rows, columns, epsilon, rho, both):
    ot = pytest.importorskip("ot")
    cost, a, b = random_problem(seed, rows, columns)
    solved = sinkhorn_unbalanced(cost, epsilon, rho, both, a, b, **TO_THE_END)
    limits = {"reg_type": "kl", "numItermax": 20_000, "stopThr": 1e-11}
    strengths = rho if both else (rho, math.inf)
    solve = ot.unbalanced.sinkhorn_unbalanced
    compare_with_pot(solved, cost, lambda C: solve(a.numpy(), b.numpy(), C, epsilon, strengths, **limits))
    assert solved.converged.all() and (solved.marginal_error == 0).all()  # nothing is demanded of the rows


@settings(max_examples=10, deadline=None)
@given(**sizes, epsilon=st.floats(0.2, 2.0), share=st.floats(0.05, 0.95))
def test_partial_with_both_sides_is_pots(seed, rows, columns, epsilon, share):
    ot = pytest.importorskip("ot")
    cost, a, b = random_problem(seed, rows, columns)
    solved = sinkhorn_partial(cost, epsilon, share, True, a, b, **TO_THE_END)
    reference = epsilon * np.log(np.outer(a, b))  # POT's entropy is that of T alone
    limits = {"numItermax": 50_000, "stopThr": 1e-12}
    solve = ot.partial.entropic_partial_wasserstein
    compare_with_pot(solved, cost, lambda C: solve(a.numpy(), b.numpy(), C - reference, epsilon, share, **limits))
    assert_close(solved.mass, torch.full((2,), share, dtype=torch.float64), 1e-9)


@settings(max_examples=25, deadline=None)
@given(**sizes, epsilon=st.floats(0.1, 2.0), share=st.floats(0.05, 1.0))
def test_partial_with_one_side_meets_the_conditions_of_an_optimum(seed, rows, columns, epsilon, share):
    """T = diag(r) K diag(c); columns share * b; rows at most a, and only where they are a is r below its largest."""
    cost, a, b = random_problem(seed, rows, columns)
    solved = sinkhorn_partial(cost, epsilon, share, False, a, b, **TO_THE_END)
    plans = whole(solved)
    assert_close(plans.sum(dim=1), (share * b).expand(2, columns), 1e-9)
    sent = plans.sum(dim=2)
    assert (sent <= a * (1 + 1e-8)).all() and (solved.marginal_error <= 1e-8).all()
    scalings = plans.log() + cost.permute(1, 2, 0) / epsilon - torch.outer(a, b).log()  # log u + log v
    by_row, by_column = scalings.mean(dim=2, keepdim=True), scalings.mean(dim=1, keepdim=True)
    assert_close(scalings, by_row + by_column - scalings.mean(dim=(1, 2), keepdim=True), 1e-7, floor=1)
    log_u = (by_row - by_row.amax(dim=1, keepdim=True)).squeeze(2)  # (G, M)
    assert (log_u.abs() * (a - sent).clamp(min=0) < 1e-6 * a).all()
    assert_close((solved.left_out * a).sum(dim=1), torch.full((2,), 1 - share), 1e-7, floor=1)


def test_what_a_higher_cost_takes_from_a_row():
    """A row that costs more at every column sends less by the factor exp(more / (rho + epsilon))."""
    more = torch.tensor([0.0, 0.05, 0.4], dtype=torch.float64)
    cost = torch.tensor([0.2, 0.7], dtype=torch.float64)[:, None, None] + more
    for both in (False, True):
        sent = sinkhorn_unbalanced(cost, 0.1, 0.3, both, **TO_THE_END).row_mass[0]
        assert_close(sent / sent[0], torch.exp(-more / 0.4), 1e-9)


def test_too_many_forbidden_pairs_for_the_share_are_seen():
    cost = random_problem(2, 4, 2, groups=1)[0]
    cost[..., 1:] = math.inf
    for both in (False, True):
        solved = sinkhorn_partial(cost, 0.2, 0.5, both)
        assert_close(solved.row_mass[0, 0], 0.5, 1e-6)
        assert_close(solved.marginal_error, 0.25, 1e-6)


@pytest.mark.parametrize("both", [False, True])
def test_the_limits_are_the_balanced_problem(both):
    cost, a, b = random_problem(3, 7, 4)
    expected = sinkhorn(cost, 0.5, a, b, max_iterations=300, stop="never").plan
    for solved in (
        sinkhorn_partial(cost, 0.5, 1.0, both, a, b, 300, 0.0),
        sinkhorn_unbalanced(cost, 0.5, 1e7, both, a, b, 300, 0.0),
    ):
        assert_close(solved.plan, expected, 1e-5)
        assert_close(solved.mass, torch.ones(2), 1e-5)
        assert_close(solved.left_out, torch.zeros(2, 7), 1e-5, floor=1)
    # the more is asked for, the more is moved, and the rows that are left out are the costly ones
    shares = [sinkhorn_partial(cost, 0.5, share, both, a, b, 300, 0.0).left_out.mean() for share in (0.3, 0.6, 1)]
    rhos = [sinkhorn_unbalanced(cost, 0.5, rho, both, a, b, 300, 0.0).left_out.mean() for rho in (0.05, 0.5, 50)]
    assert sorted(shares, reverse=True) == shares and sorted(rhos, reverse=True) == rhos


def solvers():
    """Each of the four, by name: cost, epsilon, settings -> solution."""
    return {
        f"{name}, {'both sides' if both else 'rows'}": lambda cost, epsilon, solve=solve, strength=strength, both=both,
        **kwargs: solve(cost, epsilon, strength, both, **kwargs)
        for name, solve, strength in (
            ("unbalanced", sinkhorn_unbalanced, 0.3), ("partial", sinkhorn_partial, 0.4),
        )
        for both in (False, True)
    }  # fmt: skip


@pytest.mark.parametrize("solve", solvers().values(), ids=solvers().keys())
def test_permuted_rows_and_columns_permute_the_plan(solve):
    cost, a, b = random_problem(5, 8, 4)
    rows, columns = (torch.randperm(n, generator=torch.Generator().manual_seed(n)) for n in (8, 4))
    plain = solve(cost, 0.2, a=a, b=b, **TO_THE_END)
    permuted = solve(cost[columns][..., rows], 0.2, a=a[rows], b=b[columns], **TO_THE_END)
    assert_close(permuted.plan, plain.plan[columns][..., rows], 1e-8)
    assert_close(permuted.left_out, plain.left_out[:, rows], 1e-8, floor=1)


@pytest.mark.parametrize("solve", solvers().values(), ids=solvers().keys())
def test_every_problem_stops_alone(solve):
    cost = torch.cat([random_problem(7, 9, 4, groups=1)[0], 0.05 * random_problem(8, 9, 4, groups=3)[0]], dim=1)
    together = solve(cost, 0.2)
    assert len(set(together.iterations.tolist())) > 1 and together.converged.all()
    for g in range(4):
        alone = solve(cost[:, g : g + 1], 0.2)
        assert_close(together.plan[:, g], alone.plan[:, 0], 1e-12)
        assert together.iterations[g] == alone.iterations[0]
    shaped = solve(cost.unflatten(1, (2, 2)), 0.2)
    assert torch.equal(shaped.plan.flatten(1, 2), together.plan) and shaped.mass.shape == (2, 2)
    hurried = solve(cost, 0.2, max_iterations=2)
    assert hurried.iterations.tolist() == [2] * 4 and not hurried.converged[0]


@settings(max_examples=40, deadline=None)
@given(
    **sizes, epsilon=st.sampled_from([1e-3, 0.01, 0.1, 1.0, 100.0]), strength=st.sampled_from([1e-3, 0.1, 0.999, 1.0]),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]), both=st.booleans(),
    forbidden=st.floats(0, 1), solve=st.sampled_from([sinkhorn_unbalanced, sinkhorn_partial]),
)  # fmt: skip
def test_never_leaves_the_numbers(seed, rows, columns, epsilon, strength, dtype, both, forbidden, solve):
    """Nor where a row, a column or all pairs are forbidden."""
    cost = random_problem(seed, rows, columns)[0].to(dtype)
    cost[torch.rand(cost.shape, generator=torch.Generator().manual_seed(seed)) < forbidden] = math.inf
    solved = solve(cost, epsilon, strength, both)
    assert solved.plan.dtype == solved.mass.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for tensor in (solved.plan, solved.mass, solved.left_out, solved.marginal_error):
        assert torch.isfinite(tensor).all() and (tensor >= 0).all()
    assert (solved.plan[cost.isinf()] == 0).all() and (solved.left_out <= 1).all()
    total = solved.plan.sum(dim=(0, 2))
    allowed = ~cost.isinf().all(dim=2).all(dim=0)  # (G,) some pair is
    assert_close(total, allowed.to(total), 1e-4, floor=1)


def test_a_mass_that_no_float_holds_still_has_a_plan():
    """At rho and epsilon of 0.001 a cost of 1 leaves exp(-333) of the mass, and the nearer row has it."""
    cost = torch.tensor([[[1.0, 1.001]], [[1.0, 1.001]]])
    solved = sinkhorn_unbalanced(cost, 1e-3, 1e-3, both_sides=True)
    assert solved.mass.item() == 0 and solved.converged.all() and (solved.left_out == 1).all()
    near, far = solved.plan.sum(dim=0)[0].tolist()
    assert near == pytest.approx(1 - far, rel=1e-5) and 0.6 < near < 0.9


def test_rows_that_are_wholly_left_out_send_nothing():
    cost = torch.tensor([[0.0, 0.1, 1.9, 2.0], [0.1, 0.0, 2.0, 1.9]], dtype=torch.float64)[:, None]
    for both in (False, True):
        for epsilon in (1e-3, 0.02):
            solved = sinkhorn_partial(cost, epsilon, 0.5, both, max_iterations=2000)
            assert_close(solved.left_out[0], torch.tensor([0.0, 0.0, 1.0, 1.0]), 1e-3)
            assert_close(solved.mass, torch.tensor([0.5]), 1e-6)


def test_a_row_or_a_prompt_that_may_not_be_used_gets_nothing():
    cost, a, b = random_problem(9, 5, 3)
    cost[..., 2] = math.inf
    for solve in solvers().values():
        solved = solve(cost, 0.2, a=a, b=b, **TO_THE_END)
        assert (solved.left_out[:, 2] == 1).all() and solved.converged.all()


@pytest.mark.parametrize(
    ("solve", "strength", "words"),
    [
        (sinkhorn_unbalanced, 0.0, "rho must be above 0 and finite, got 0.0"),
        (sinkhorn_unbalanced, math.nan, "rho must be above 0"),
        (sinkhorn_unbalanced, math.inf, "rho must be above 0 and finite"),
        (sinkhorn_partial, 0.0, "share must be above 0 and at most 1, got 0.0; 1 moves all"),
        (sinkhorn_partial, 1.1, "share must be above 0 and at most 1, got 1.1"),
    ],
)
def test_bad_strengths_are_named(solve, strength, words):
    with pytest.raises(ValueError, match=words):
        solve(random_problem(0, 3, 2)[0], 0.1, strength)
