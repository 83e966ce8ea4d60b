"""The solver against truths found another way: closed forms, POT, the Hungarian method, recorded runs (conformance)."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.original import sinkhorn as plain_sinkhorn
from tests.support.closeness import assert_close
from trainers.plot import sinkhorn as sinkhorn_module
from trainers.plot.sinkhorn import sinkhorn, uniform_marginal


def random_cost(seed, groups=3, rows=9, columns=4, dtype=torch.float64):
    """(N, G, M): the solver's layout has the columns first."""
    generator = torch.Generator().manual_seed(seed)
    return 1 - (2 * torch.rand(columns, groups, rows, generator=generator, dtype=dtype) - 1)


def rows_first(tensor):
    """(N, G, M) -> (G, M, N), the layout of formulas and of other solvers."""
    return tensor.permute(1, 2, 0)


problems = {
    "seed": st.integers(0, 2**31),
    "rows": st.integers(1, 12),
    "columns": st.integers(1, 6),
    "epsilon": st.floats(0.1, 2.0),
}


@settings(max_examples=40, deadline=None)
@given(**problems)
def test_equals_the_plain_iteration(seed, rows, columns, epsilon):
    cost = random_cost(seed, rows=rows, columns=columns)
    expected, iterations = plain_sinkhorn(rows_first(cost), epsilon)
    for max_cost in (None, 2.0):  # on logarithms, and on K itself
        solved = sinkhorn(cost, epsilon, max_cost=max_cost)
        assert_close(rows_first(solved.plan), expected, 1e-9)
        assert solved.iterations.tolist() == [iterations] * 3


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), rows=st.integers(1, 12), columns=st.integers(1, 6), epsilon=st.floats(1e-3, 1.0),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    stop=st.sampled_from(["batch", "each", "never"]), max_cost=st.sampled_from([None, 2.0]),
)
def test_never_leaves_the_numbers(seed, rows, columns, epsilon, dtype, stop, max_cost):
    cost = random_cost(seed, rows=rows, columns=columns).to(dtype)
    solved = sinkhorn(cost, epsilon, stop=stop, max_cost=max_cost)
    assert solved.plan.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(solved.plan).all() and (solved.plan >= 0).all()
    # the columns were scaled last
    columns_sum = solved.plan.sum(dim=2)
    torch.testing.assert_close(columns_sum, torch.full_like(columns_sum, 1 / columns), rtol=2e-3, atol=0)
    error = (solved.plan.sum(dim=0) - 1 / rows).abs().amax(dim=1)
    assert_close(solved.marginal_error, error, 1e-3, floor=1e-3)


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.5, 100), (0.1, 500), (0.02, 1_000), (1e-3, 6_000)])
def test_converges_to_pots_log_domain_solution(epsilon, iterations):
    ot = pytest.importorskip("ot")
    cost = random_cost(5, groups=2, rows=8, columns=3)
    plans = rows_first(sinkhorn(cost, epsilon, max_iterations=iterations, threshold=0.0, stop="each").plan)
    for g, problem in enumerate(rows_first(cost)):
        a, b = np.full(8, 1 / 8), np.full(3, 1 / 3)
        # POT's own stop rule warns at 1e-3, where it converges no faster than we do
        limits = {"numItermax": iterations, "stopThr": 0, "warn": False}
        expected = ot.sinkhorn(a, b, problem.numpy(), epsilon, method="sinkhorn_log", **limits)
        assert_close(plans[g].numpy(), expected, 1e-5)


def test_small_epsilon_finds_the_assignment():
    optimize = pytest.importorskip("scipy.optimize")
    cost = random_cost(3, groups=4, rows=6, columns=6)
    plan = rows_first(sinkhorn(cost, 2e-3, max_iterations=5000, stop="never").plan)
    for g, problem in enumerate(rows_first(cost)):
        rows, columns = optimize.linear_sum_assignment(problem.numpy())
        assert plan[g].argmax(dim=1).tolist() == columns.tolist()


def test_large_epsilon_gives_the_product_of_the_marginals():
    a = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    b = torch.tensor([0.9, 0.1], dtype=torch.float64)
    solved = sinkhorn(random_cost(1, rows=3, columns=2), 1e6, a, b)
    torch.testing.assert_close(rows_first(solved.plan), (a[:, None] * b).expand(3, 3, 2), rtol=1e-5, atol=0)


def test_one_column_is_uniform_at_once():
    solved = sinkhorn(random_cost(2, columns=1), 0.1)
    assert_close(solved.plan, torch.full_like(solved.plan, 1 / 9))
    assert solved.iterations.tolist() == [2, 2, 2]  # the first comparison is with the all-ones start


def test_a_constant_added_to_the_cost_changes_nothing():
    cost = random_cost(4)
    longer = {"max_iterations": 5000, "threshold": 0.0}
    assert_close(sinkhorn(cost + 0.7, 0.1, **longer).plan, sinkhorn(cost, 0.1, **longer).plan)


def test_permuted_rows_permute_the_plan():
    cost, order = random_cost(6), torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert_close(sinkhorn(cost[..., order], 0.1).plan, sinkhorn(cost, 0.1).plan[..., order])


def test_problems_that_stop_alone_do_not_see_each_other():
    cost = torch.cat([random_cost(7, groups=1), 0.01 * random_cost(8, groups=3)], dim=1)
    together = sinkhorn(cost, 0.1, stop="each")
    assert len(set(together.iterations.tolist())) > 1
    for g in range(cost.shape[1]):
        alone = sinkhorn(cost[:, g : g + 1], 0.1)
        assert_close(together.plan[:, g], alone.plan[:, 0])
        assert together.iterations[g] == alone.iterations[0]


@pytest.mark.parametrize("stop", ["batch", "each", "never"])
@pytest.mark.parametrize("max_cost", [None, 2.0])
def test_looking_seldom_changes_nothing(monkeypatch, stop, max_cost):
    """What accelerators do: run some iterations more than needed, and keep the state at which the rule was met."""
    cost = random_cost(14, groups=6)
    expected = sinkhorn(cost, 0.1, stop=stop, max_cost=max_cost)
    monkeypatch.delitem(sinkhorn_module._ITERATIONS_BETWEEN_LOOKS, "cpu")
    for found, wanted in zip(sinkhorn(cost, 0.1, stop=stop, max_cost=max_cost), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    assert stop == "never" or (expected.iterations % 8 != 0).all()  # no look falls on the end


@pytest.mark.parametrize("max_cost", [None, 2.0])
def test_memory_of_the_cost_becomes_that_of_the_plan(max_cost):
    cost = random_cost(11)
    expected = sinkhorn(cost, 0.1, max_cost=max_cost).plan
    kept = cost.clone()
    plan = sinkhorn(cost, 0.1, max_cost=max_cost, overwrite=True).plan
    assert torch.equal(plan, expected) and plan.data_ptr() == cost.data_ptr()
    assert torch.equal(kept, random_cost(11))  # and without being asked it is not touched
    for layout in (kept.transpose(1, 2).contiguous().transpose(1, 2), kept.half()):
        assert sinkhorn(layout, 0.1, overwrite=True).plan.shape == cost.shape


def test_forbidden_pairs_carry_no_mass():
    cost = torch.tensor([[0.0, math.inf], [0.5, 0.5], [math.inf, 0.0]])
    plan = sinkhorn(cost.T[:, None], 0.1, max_iterations=1000, threshold=0.0).plan[:, 0].T
    assert plan[0, 1] == 0 and plan[2, 0] == 0
    assert_close(plan.sum(dim=1), torch.full((3,), 1 / 3))


def test_problems_may_have_several_axes():
    """Classes and images, say: the same as one axis of as many problems."""
    cost = random_cost(13, groups=6)
    for stop in ("batch", "each", "never"):
        flat, shaped = sinkhorn(cost, 0.1, stop=stop), sinkhorn(cost.unflatten(1, (2, 3)), 0.1, stop=stop)
        assert torch.equal(shaped.plan.flatten(1, 2), flat.plan)
        assert shaped.iterations.shape == shaped.marginal_error.shape == (2, 3)
        assert torch.equal(shaped.iterations.flatten(), flat.iterations)


def test_limit_of_iterations_is_reported():
    solved = sinkhorn(random_cost(9), 0.01, max_iterations=3)
    assert solved.iterations.tolist() == [3, 3, 3] and not solved.converged.any()
    assert (solved.marginal_error > 1e-6).all()


def test_no_gradient_flows_through_the_iteration():
    cost = random_cost(10).requires_grad_()
    assert not sinkhorn(cost, 0.1).plan.requires_grad


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epsilon": 0.0}, "epsilon must be above 0, got 0.0; the original uses 0.1"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"epsilon": 0.1, "stop": "soon"}, "batch, each, never"),
        ({"epsilon": 0.1, "max_iterations": 0}, "at least 1"),
        ({"epsilon": 0.1, "a": torch.ones(3)}, "marginal a must have shape"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        sinkhorn(random_cost(0), **arguments)


def test_uniform_marginal():
    assert uniform_marginal(4, torch.ones(1, dtype=torch.float64)).tolist() == [0.25] * 4
