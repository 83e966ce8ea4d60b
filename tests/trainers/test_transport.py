"""Scores from sets of features: the worked example of the method, limits, and what the gradient is."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import original
from tests.support.closeness import assert_close
from trainers.plot.evidence import TransportStatistics
from trainers.plot.matchings import MATCHINGS
from trainers.plot.model import PlotOutput
from trainers.plot.sinkhorn import sinkhorn
from trainers.plot.transport import Transport


def unit(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=dtype), dim=-1)


def distance_from_uniform(plan):
    """Total variation of plans (B, C, M, N) from the uniform one."""
    return 0.5 * (plan - 1 / plan[0, 0].numel()).abs().sum(dim=(2, 3))


def worked_example():
    """M = 3, b = 2, N = 2, C = 3, D = 4, all indices from 1; recorded with the original's formulas in float64."""
    F_raw = torch.tensor([[[math.sin(0.7 * m + 1.3 * b + 0.5 * k * m) for k in range(1, 5)] for m in range(1, 4)]
                          for b in range(1, 3)], dtype=torch.float64)
    G_raw = torch.tensor([[[math.cos(0.9 * n - 0.4 * c + 0.3 * k * n) for k in range(1, 5)] for c in range(1, 4)]
                          for n in range(1, 3)], dtype=torch.float64)
    return F.normalize(F_raw, dim=-1), F.normalize(G_raw, dim=-1)


def test_worked_example():
    local, text = worked_example()
    match = Transport()(local, text)
    similarity = [[0.583369, 0.351180], [-0.853529, 0.621517], [-0.385308, -0.316505]]
    assert_close(match.similarity[0, 0], similarity, 1e-6, floor=1)
    plan = [[0.319913, 0.013420], [0.0, 0.333333], [0.180086, 0.153247]]
    assert_close(match.plan[0, 0], plan, 1e-6, floor=1)
    logits = torch.tensor([[28.062009, 21.437214, 16.411315], [32.936810, 28.268621, 30.237020]], dtype=torch.float64)
    assert_close(100 * match.score, logits, 5e-8)
    assert match.iterations.unique().tolist() == [30]
    alone = Transport()(local[:1], text)
    assert_close(100 * alone.score, torch.tensor([[28.062009, 21.437234, 16.411308]], dtype=torch.float64), 5e-8)
    assert alone.iterations.unique().tolist() == [32]
    converged = Transport(threshold=1e-12, max_iterations=100_000)(local, text)
    limit = torch.tensor([[28.062009, 21.437250, 16.411306], [32.936859, 28.268620, 30.237050]], dtype=torch.float64)
    assert_close(100 * converged.score, limit, 5e-8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 4), classes=st.integers(1, 5), locals_=st.integers(1, 9))
def test_one_prompt_is_the_mean_similarity(seed, images, classes, locals_):
    local, text = unit(images, locals_, 8, seed=seed), unit(1, classes, 8, seed=seed + 1)
    expected = torch.einsum("bmd,ncd->bcm", local, text).mean(dim=2)
    assert_close(Transport()(local, text).score, expected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), classes=st.integers(1, 7), chunk=st.integers(1, 7), epsilon=st.floats(0.02, 1.0),
    limit=st.sampled_from([1, 3, 10, 100]), stop=st.sampled_from(["batch", "each", "never"]),
    matching=st.sampled_from(sorted(MATCHINGS)),
)
def test_chunks_of_classes_change_nothing(seed, classes, chunk, epsilon, limit, stop, matching):
    local, text = unit(3, 9, 8, seed=seed), unit(4, classes, 8, seed=seed + 1).requires_grad_()
    settings_ = {"epsilon": epsilon, "max_iterations": limit, "stop": stop, "matching": matching}
    whole, parts = Transport(**settings_), Transport(**settings_, chunk=chunk)
    for ours, expected in zip(parts(local, text), whole(local, text), strict=True):
        assert (ours is None) == (expected is None)
        if ours is not None:
            assert_close(ours, expected, 1e-9, floor=1e-3)
    gradients = [torch.autograd.grad(one.score(local, text).square().sum(), text)[0] for one in (parts, whole)]
    assert_close(*gradients, 1e-9)


def test_score_is_the_matchs_and_both_sides_have_gradients():
    local, text = unit(3, 9, 8).requires_grad_(), unit(4, 5, 8, seed=1).requires_grad_()
    match = Transport()(local, text)
    assert_close(Transport().score(local, text), match.score)
    expected = torch.autograd.grad((match.plan * match.similarity).sum(), (local, text), retain_graph=True)
    for ours, plain in zip(torch.autograd.grad(match.score.sum(), (local, text)), expected, strict=True):
        assert_close(ours, plain)
    bare = Transport()(local, text, keep_plan=False)
    assert bare.plan is None and bare.similarity is None
    assert_close(bare.distance_from_uniform, distance_from_uniform(match.plan))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 4), classes=st.integers(1, 5), locals_=st.integers(1, 9))
def test_equals_the_original(seed, images, classes, locals_):
    local, text = unit(images, locals_, 8, seed=seed), unit(4, classes, 8, seed=seed + 1)
    assert_close(Transport().score(local, text), original.scores(local, text), 1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), matching=st.sampled_from(sorted(MATCHINGS)))
def test_scores_are_between_the_extremes_and_the_mass_is_one(seed, matching):
    local, text = unit(3, 9, 8, seed=seed), unit(4, 5, 8, seed=seed + 1)
    match = Transport(matching=matching)(local, text)
    assert_close(match.plan.sum(dim=(2, 3)), torch.ones(3, 5, dtype=torch.float64))
    assert (match.score <= match.similarity.amax(dim=(2, 3)) + 1e-12).all()
    assert (match.score >= match.similarity.amin(dim=(2, 3)) - 1e-12).all()
    assert_close(match.distance_from_uniform, distance_from_uniform(match.plan), floor=1)
    assert (match.distance_from_uniform < 1).all()


def test_matchings_without_solving():
    local, text = unit(2, 6, 8), unit(3, 4, 8, seed=1)
    similarity = torch.einsum("bmd,ncd->bcmn", local, text)
    uniform = Transport(matching="uniform")(local, text)
    assert_close(uniform.score, similarity.mean(dim=(2, 3)))
    assert (uniform.distance_from_uniform == 0).all()
    nearest = Transport(matching="max")(local, text)
    assert_close(nearest.score, similarity.amax(dim=3).mean(dim=2))


def test_permuting_local_features_permutes_the_plan_and_keeps_the_scores():
    local, text = unit(2, 9, 8), unit(4, 3, 8, seed=1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    plain, permuted = Transport()(local, text), Transport()(local[:, order], text)
    assert_close(permuted.score, plain.score)
    assert_close(permuted.plan, plain.plan[:, :, order])


def test_the_gradient_is_that_of_the_entropic_value_not_of_the_cost():
    """Envelope theorem: with the plan held fixed, d<T, S> is the derivative of max_T <T, S> + epsilon H(T)."""
    epsilon = 0.2
    local, text = unit(1, 5, 6), unit(3, 1, 6, seed=1)
    direction = torch.randn(text.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    transport = Transport(epsilon=epsilon, threshold=0.0, max_iterations=5000)

    def values(t):
        moved = text + t * direction
        similarity = torch.einsum("bmd,ncd->bcmn", local, moved)
        cost = 1 - similarity.permute(3, 0, 1, 2)  # (N, B, C, M)
        plan = sinkhorn(cost, epsilon, threshold=0.0, max_iterations=5000).plan.permute(1, 2, 3, 0)
        entropic = (plan * similarity).sum() - epsilon * (plan * plan.log()).sum()
        return entropic.item(), (plan * similarity).sum().item()

    moving = text.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(transport(local, moving).score.sum(), moving)
    ours = (gradient * direction).sum().item()
    step = 1e-5
    (value_up, cost_up), (value_down, cost_down) = values(step), values(-step)
    assert ours == pytest.approx((value_up - value_down) / (2 * step), rel=1e-6)
    assert abs(ours - (cost_up - cost_down) / (2 * step)) > 1e-3 * abs(ours)


def test_half_precision_features_are_matched_in_float32():
    local, text = unit(2, 9, 8).half(), unit(4, 3, 8, seed=1).half()
    with torch.autocast("cpu", torch.bfloat16):
        match = Transport(epsilon=0.005)(local, -text)
    assert match.score.dtype == torch.float32 and torch.isfinite(match.plan).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epsilon": 0}, "epsilon must be above 0, got 0"),
        ({"matching": "best"}, "one of ot, unbalanced, partial, uniform, max"),
        ({"rho": 0.0}, "rho must be above 0 and finite, got 0.0"),
        ({"share": 1.5}, "share must be above 0 and at most 1, got 1.5"),
        ({"leave_out": "prompts"}, "leave_out must be one of places, both"),
        ({"stop": "now"}, "batch, each, never"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"threshold": -1.0}, "threshold"),
        ({"chunk": -1}, "chunk must be at least 0"),
    ],
)
def test_bad_settings_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        Transport(**arguments)


# --- matchings that leave mass behind ---------------------------------------------------------------------

LEAVING = [name for name, matching in MATCHINGS.items() if matching.leaves_mass]
EXACTLY = {"max_iterations": 5000, "threshold": 1e-8}


def pots_plan(S, settings_):
    """Solve one problem (M, N) with uniform marginals, as the settings of a Transport say."""
    ot = pytest.importorskip("ot")
    a, b = (np.full(size, 1 / size) for size in S.shape)
    limits = {"numItermax": 5000, "stopThr": 1e-12}
    if settings_["matching"] == "partial":
        return ot.partial.entropic_partial_wasserstein(a, b, 1 - S, 0.2, settings_["share"], **limits)
    rho = settings_["rho"] if settings_["leave_out"] == "both" else (settings_["rho"], math.inf)
    return ot.unbalanced.sinkhorn_unbalanced(a, b, 1 - S, 0.2, rho, reg_type="kl", **limits)


@pytest.mark.parametrize(
    "settings_",
    [
        {"matching": "unbalanced", "leave_out": "places", "rho": 0.15},
        {"matching": "unbalanced", "leave_out": "both", "rho": 0.15},
        {"matching": "partial", "leave_out": "both", "share": 0.6},  # places alone: test_sinkhorn_relaxed
    ],
)
def test_the_score_is_the_mean_similarity_of_what_is_moved(settings_):
    local, text = unit(2, 6, 8), unit(3, 2, 8, seed=1)
    match = Transport(0.2, **settings_, **EXACTLY)(local, text)
    for image, label in ((0, 0), (0, 1), (1, 0), (1, 1)):
        S = match.similarity[image, label].numpy()
        plan = pots_plan(S, settings_)
        assert match.score[image, label].item() == pytest.approx((plan * S).sum() / plan.sum(), rel=1e-6)
        assert match.mass[image, label].item() == pytest.approx(plan.sum(), rel=1e-6)
        left_out = np.clip(1 - 6 * plan.sum(axis=1), 0, 1)
        assert_close(match.left_out_by_place[image, label], left_out, 1e-6, floor=1)
        assert_close(match.left_out[image, label], left_out.mean(), 1e-6, floor=1)


@pytest.mark.parametrize("leave_out", ["places", "both"])
@pytest.mark.parametrize("matching", LEAVING)
def test_with_nothing_left_behind_it_is_ot(matching, leave_out):
    local, text = unit(2, 9, 8).requires_grad_(), unit(4, 3, 8, seed=1).requires_grad_()
    ot = Transport(0.2, **EXACTLY)
    limit = Transport(0.2, matching=matching, leave_out=leave_out, rho=1e6, share=1.0, **EXACTLY)
    assert_close(limit.score(local, text), ot.score(local, text))
    match = limit(local, text)
    assert_close(match.mass, torch.ones(2, 3))
    assert_close(match.left_out, torch.zeros(2, 3), floor=1)
    expected = torch.autograd.grad(ot.score(local, text).sum(), (local, text))
    for ours, plain in zip(torch.autograd.grad(match.score.sum(), (local, text)), expected, strict=True):
        assert_close(ours, plain)


@pytest.mark.parametrize("leave_out", ["places", "both"])
@pytest.mark.parametrize("matching", LEAVING)
def test_a_place_that_is_left_out_is_no_marginal_error_and_pulls_at_no_prompt(matching, leave_out):
    """One place looks away from the prompts: it moves nothing, and no gradient comes from it."""
    text = unit(3, 1, 8)
    local = torch.cat([text[:, 0], text[:1, 0], -text[:1].mean(dim=0)])[None]
    local = F.normalize(local, dim=-1).requires_grad_()
    transport = Transport(0.01, matching=matching, leave_out=leave_out, rho=0.02, share=0.4, **EXACTLY)
    match = transport(local, text)
    assert match.left_out_by_place[0, 0, -1] > 0.999 and match.converged.all()
    assert (match.marginal_error < 1e-4).all()
    (gradient,) = torch.autograd.grad(match.score.sum(), local)
    assert gradient[0, -1].norm() < 1e-4 * gradient.norm()
    assert_close(gradient, torch.einsum("bcmn,ncd->bmd", match.plan, text))
    assert_close(match.plan.sum(), 1.0)
    ot = Transport()(local, text)  # leaves nothing out, however far from converged
    assert ot.mass is ot.left_out is ot.left_out_by_place is None


@pytest.mark.parametrize("matching", LEAVING)
def test_places_that_were_not_selected_are_left_out(matching):
    local, text = unit(2, 9, 8), unit(3, 4, 8, seed=1)
    match = Transport(matching=matching, top_k=(4,), share=0.5, rho=0.05)(local, text)
    by_place = match.left_out_by_place
    assert ((by_place == 1).sum(dim=2) >= 5).all() and ((match.plan.sum(dim=3) == 0) <= (by_place == 1)).all()
    assert_close((1 - by_place).sum(dim=2) / 4, 1 - match.left_out)
    if matching == "partial":
        assert_close(match.left_out, torch.full((2, 4), 0.5), 1e-3)
        assert_close(match.mass, torch.full((2, 4), 0.5))
    ot = Transport(top_k=(4,))(local, text)
    assert torch.equal(ot.left_out_by_place.sum(dim=2), torch.full((2, 4), 5.0).double()) and ot.left_out is None


@pytest.mark.parametrize("matching", LEAVING)
def test_statistics_are_means_over_the_problems_of_all_batches(matching):
    text = unit(3, 4, 8, seed=1)
    transport, statistics = Transport(matching=matching, rho=0.05, share=0.7), TransportStatistics()
    matches = [transport(unit(images, 6, 8, seed=images), text, keep_plan=False) for images in (5, 2)]
    for match in matches:
        statistics.update(PlotOutput(match.score, match))
    summary = statistics.summary()
    mass, left_out = (torch.cat([getattr(match, name) for match in matches]) for name in ("mass", "left_out"))
    predicted = torch.cat([match.score for match in matches]).argmax(dim=1)
    of_predicted = torch.cat([match.left_out_by_place for match in matches])[torch.arange(7), predicted]  # (7, 6)
    assert summary["mass_moved"] == pytest.approx(mass.mean().item())
    assert summary["left_out"] == pytest.approx(left_out.mean().item())
    assert summary["left_out_predicted"] == pytest.approx(of_predicted.mean().item())
    assert_close(summary["left_out_by_place"], of_predicted.mean(dim=0), 1e-4, floor=1)
    statistics = TransportStatistics()
    statistics.update(PlotOutput(match.score, Transport()(unit(5, 6, 8), text)))
    assert not {"mass_moved", "left_out", "left_out_by_place"} & statistics.summary().keys()
