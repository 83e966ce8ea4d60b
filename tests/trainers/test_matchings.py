"""The matchings besides each other: each against plain loops, and the one that needs no places against CoOp."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import train
from clip.features import ImageFeatures
from clip.model import build_model
from results.__main__ import main as results
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close, relative_difference
from tests.support.golden_data import tiny_state_dict
from tests.support.programs import arguments, make_world
from trainers.coop import CoOpModel
from trainers.parts.prompts import PromptLearner
from trainers.plot.matchings import MATCHINGS
from trainers.plot.model import PlotModel
from trainers.plot.transport import Transport
from trainers.plotpp.model import PlotPPModel
from trainers.plotpp.prompts import TwoSidedPromptLearner, start_at_random

NAMES = ["yin_yang", "cat", "2012 Ferrari California Convertible"]


# --- against loops over single numbers -------------------------------------------------------------------

WRITTEN_OUT = [name for name, matching in MATCHINGS.items() if not matching.leaves_mass]  # the others: test_transport


def loop_plans(similarity, matching, epsilon, most=100, threshold=0.01):
    """Plans of all problems (G, M, N) given as nested lists; the whole batch stops together."""
    rows, columns = len(similarity[0]), len(similarity[0][0])
    if matching in ("uniform", "global"):
        return [[[1 / (rows * columns)] * columns for _ in range(rows)] for _ in similarity]
    if matching == "max":
        return [[[(n == row.index(max(row))) / rows for n in range(columns)] for row in one] for one in similarity]
    kernel = [[[math.exp((s - 1) / epsilon) for s in row] for row in one] for one in similarity]
    r, c = [[1.0] * rows for _ in kernel], [[1.0] * columns for _ in kernel]
    for _ in range(most):
        changes = []
        for g, k in enumerate(kernel):
            new = [1 / rows / sum(k[m][n] * c[g][n] for n in range(columns)) for m in range(rows)]
            changes += [abs(a - b) for a, b in zip(new, r[g], strict=True)]
            r[g] = new
            c[g] = [1 / columns / sum(k[m][n] * new[m] for m in range(rows)) for n in range(columns)]
        if sum(changes) / len(changes) < threshold:
            break
    return [[[r[g][m] * k[m][n] * c[g][n] for n in range(columns)] for m in range(rows)] for g, k in enumerate(kernel)]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), st.sampled_from(WRITTEN_OUT), st.floats(0.05, 1.0),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 4)),
)
def test_every_matching_is_its_loop(seed, matching, epsilon, sizes):
    images, classes, places, prompts = sizes
    generator = torch.Generator().manual_seed(seed)
    local = F.normalize(torch.randn(images, places, 6, generator=generator, dtype=torch.float64), dim=-1)
    text = F.normalize(torch.randn(prompts, classes, 6, generator=generator, dtype=torch.float64), dim=-1)
    similarity = [
        [[float(local[b, m] @ text[n, c]) for n in range(prompts)] for m in range(places)]
        for b in range(images) for c in range(classes)
    ]
    plans = loop_plans(similarity, matching, epsilon)
    scores = [
        sum(t * s for of_t, of_s in zip(plan, one, strict=True) for t, s in zip(of_t, of_s, strict=True))
        for plan, one in zip(plans, similarity, strict=True)
    ]
    match = Transport(epsilon, matching=matching)(local, text)
    expected = torch.tensor(plans, dtype=torch.float64).view(images, classes, places, prompts)
    assert_close(match.plan, expected, 1e-8)
    assert_close(match.score.flatten(), torch.tensor(scores, dtype=torch.float64), 1e-8)


# --- the pooled feature alone ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_model():
    return build_model(tiny_state_dict("tiny_rn")).float().requires_grad_(False).eval()


def learner(clip_model, n_prompts):
    return PromptLearner(NAMES, clip_model, 4, n_prompts, generator=torch.Generator().manual_seed(0))


def images(count=3, side=96):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_global_with_one_prompt_is_coop(clip_model):
    coop = CoOpModel(learner(clip_model, None), clip_model)
    ours = PlotModel(learner(clip_model, 1), clip_model, Transport(matching="global"))
    assert ours.kind == coop.kind == "pooled"
    logits, gradients = [], []
    for model in (coop, ours):
        logits.append(model(images()))
        F.cross_entropy(logits[-1], torch.tensor([0, 1, 2])).backward()
        gradients.append(model.prompt_learner.ctx.grad.view(4, -1))
    assert_close(logits[1], logits[0], 1e-6)
    largest = gradients[0].abs().max()
    assert largest > 0 and (gradients[1] - gradients[0]).abs().max() < 1e-5 * largest


@pytest.mark.parametrize("fused", [False, True])
def test_global_is_the_mean_of_the_cosines_with_the_pooled_feature(clip_model, fused):
    model = PlotModel(learner(clip_model, 3), clip_model, Transport(matching="global"), fuse_global=fused)
    with torch.no_grad():
        pooled = F.normalize(clip_model.encode_image(images()), dim=-1)
        text = model.encode_prompts()  # (N, C, D)
        expected = torch.stack([pooled @ F.normalize(one, dim=-1).t() for one in text]).mean(dim=0)
        if fused:
            expected = expected + pooled @ F.normalize(text.mean(dim=0), dim=-1).t()
        assert_close(model(images()), clip_model.logit_scale.exp() * expected, 1e-5)
        output = model.explain(images())
    assert_close(output.logits, model(images()))
    assert output.match.plan.shape == (3, 3, 1, 3) and (output.match.distance_from_uniform == 0).all()


def test_global_looks_at_no_place(clip_model):
    """Features that have places give the same scores as features that have none."""
    model = PlotModel(learner(clip_model, 3), clip_model, Transport(matching="global"))
    features = clip_model.visual.forward_dense(images())
    with torch.no_grad():
        assert_close(model(features), model(ImageFeatures.without_places(features.pooled)))


def test_global_of_plotpp_is_the_mean_of_what_is_seen():
    """Its pooled feature is that mean; under one visual prompt every matching is the same."""
    vit = build_model(tiny_state_dict("tiny_vit")).float().requires_grad_(False).eval()
    for m in (3, 1):
        generator = torch.Generator().manual_seed(0)
        prompts = TwoSidedPromptLearner(vit, start_at_random(4, 2, NAMES, vit, generator), m, 2, generator=generator)
        model = PlotPPModel(prompts, vit, Transport(matching="global"))
        with torch.no_grad():
            mean = F.normalize(vit.visual.forward_prompted(images(side=64), prompts.ctx_vision).mean(dim=0), dim=-1)
            text = F.normalize(model.encode_prompts(), dim=-1)
            expected = torch.einsum("bd,ncd->bc", mean, text) / 2 * vit.logit_scale.exp()
            assert_close(model(images(side=64)), expected, 1e-4)
            model.transport = Transport()
            same = relative_difference(model(images(side=64)), expected) < 1e-4
        assert same == (m == 1)


# --- through the trainer ---------------------------------------------------------------------------------


def test_a_global_run_has_no_places_to_draw(tmp_path, capsys):
    world = make_world(tmp_path)
    options = ["TRAINER.PLOT.MATCHING", "global", "TRAINER.PLOT.N", "2", "OPTIM.MAX_EPOCH", "1"]
    result = train.run(arguments(world, tmp_path / "run", *options))
    assert result["transport"]["matching"] == "global" and result["transport"]["distance_from_uniform"] == 0
    trainer = load_trainer(tmp_path / "run")
    explained = trainer.explain(next(iter(trainer.test_loader))["img"][:5])
    assert explained.grid is None and explained.plan.shape == (5, 8, 1, 2)
    assert trainer.test() == result["accuracy"]
    assert results(["transport", str(tmp_path / "run")]) == 2
    assert "one pooled feature" in capsys.readouterr().err
