"""PLOT++'s parts against plain float64 formulas: prompted images, templates, prompts of unequal length, the scores."""
import copy
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import clip
import datasets  # noqa: F401  (registers the data sets)
from clip.frozen import freeze_image_tower
from clip.model import build_model
from dassl.data.datasets import DATASET_REGISTRY
from tests.support.closeness import assert_close
from tests.support.golden_data import tiny_state_dict
from trainers.plot.transport import Transport
from trainers.plotpp import PLOTPP, PlotPPOptions
from trainers.plotpp.model import PlotPPModel
from trainers.plotpp.prompts import TwoSidedPromptLearner, start_at_random, start_from_templates, templates_of

NAMES = ["yin_yang", "cat", "2012 Ferrari California Convertible", "F/A-18"]
SETTINGS = {  # data set, legacy, N, M, tokens of a visual prompt, fused
    "as published": ("Caltech101", False, 4, 4, 2, False),
    "fused": ("Caltech101", False, 4, 4, 2, True),
    "fewer": ("DescribableTextures", False, 2, 1, 1, True),
    "more of both": ("StanfordCars", False, 6, 5, 3, True),
    "longer templates": ("EuroSAT", False, 4, 3, 2, False),
    "legacy ImageNet": ("ImageNet", True, 4, 2, 2, True),
    "no templates": ("Folder", False, 3, 2, 2, False),
}


def tiny_vit():
    return build_model(tiny_state_dict("tiny_vit")).double().requires_grad_(False).eval()


@pytest.fixture(scope="module")
def clip_model():
    return tiny_vit()


def images(count=3):
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def learner_of(clip_model, dataset, n_prompts, legacy=False, m=2, v=2, names=NAMES):
    generator = torch.Generator().manual_seed(0)
    start = start_from_templates(templates_of(dataset, legacy), n_prompts, names, clip_model, generator)
    return TwoSidedPromptLearner(clip_model, start, m, v, dtype=torch.float64, generator=generator)


# --- the formulas, one image, class and prompt at a time -------------------------------------------------


def seen_under(clip_model, image, prompt):
    """One image (3, H, W) and one visual prompt (V, W) -> (D,), by the layers of the published order."""
    visual = clip_model.visual
    patches = visual.conv1(image[None]).flatten(2)[0].T
    tokens = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
    tokens = visual.ln_pre(torch.cat([tokens, prompt]))[:, None]
    return visual.ln_post(visual.transformer(tokens)[0, 0]) @ visual.proj


def text_feature(clip_model, template, name, context):
    """All 77 positions of one prompt, of which 1 ... n are replaced by the context (n, E)."""
    ids = clip.tokenize(f"{template} {name.replace('_', ' ')}.")[0].long()
    tokens = clip_model.token_embedding(ids).clone()
    tokens[1 : 1 + len(context)] = context
    hidden = clip_model.transformer((tokens + clip_model.positional_embedding)[:, None])[:, 0]
    return clip_model.ln_final(hidden[ids.argmax()]) @ clip_model.text_projection


def plain_logits(clip_model, learner, words, fused):
    image = torch.stack([torch.stack([seen_under(clip_model, i, p) for p in learner.ctx_vision]) for i in images()])
    text = torch.stack([
        torch.stack([text_feature(clip_model, w, name, context) for name in NAMES])
        for w, context in zip(words, learner.ctx, strict=True)
    ])  # (N, C, D)
    similarity = torch.einsum("bmd,ncd->bcmn", F.normalize(image, dim=-1), F.normalize(text, dim=-1))
    kernel = torch.exp((similarity.detach() - 1) / 0.1)
    m, n = kernel.shape[2:]
    r, c = kernel.new_ones(*kernel.shape[:2], m), kernel.new_ones(*kernel.shape[:2], n)
    for _ in range(100):
        before = r
        r = 1 / m / (kernel @ c[..., None])[..., 0]
        c = 1 / n / (kernel.transpose(2, 3) @ r[..., None])[..., 0]
        if (r - before).abs().mean() < 1e-2:
            break
    logits = (r[..., None] * kernel * c[..., None, :] * similarity).sum(dim=(2, 3))
    if fused:
        logits = logits + F.normalize(image.mean(dim=1), dim=-1) @ F.normalize(text.mean(dim=0), dim=-1).T
    return clip_model.logit_scale.exp() * logits


@pytest.mark.parametrize("setting", SETTINGS)
def test_scores_and_gradients_are_the_plain_formulas(clip_model, setting):
    dataset, legacy, n_prompts, m, v, fused = SETTINGS[setting]
    learner = learner_of(clip_model, dataset, n_prompts, legacy, m, v)
    templates = templates_of(dataset, legacy)
    words = [templates[n % len(templates)] for n in range(n_prompts)]
    model = PlotPPModel(learner, clip_model, Transport(), fused)
    labels = torch.tensor([2, 0, 3])
    gradients = []
    ours, plain = model(images()).double(), plain_logits(clip_model, learner, words, fused)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=0)  # the scores are computed in float32
    for logits in (ours, plain):
        loss = F.cross_entropy(logits, labels)
        gradients.append(torch.autograd.grad(loss, [learner.ctx, learner.ctx_vision]))
    for got, want in zip(*gradients, strict=True):
        assert_close(got, want, 1e-5)


def test_a_model_may_be_converted():
    clip_model = tiny_vit().float()
    model = PlotPPModel(learner_of(clip_model, "EuroSAT", 4).float(), clip_model, Transport())
    before = model(images().float())
    assert_close(model.double()(images()), before, 1e-4)


def test_frozen_text_prompts_are_encoded_once(clip_model):
    model = PlotPPModel(learner_of(clip_model, "EuroSAT", 4), clip_model, Transport())
    ctx = model.prompt_learner.ctx.requires_grad_(False)
    first = model.text_features()
    assert first.shape == (4, len(NAMES), 48) and model.text_features() is first
    with torch.no_grad():
        ctx.mul_(2)  # as by loading a checkpoint
    again = model.text_features()
    assert (again - first).abs().amax() > 1e-3 and torch.equal(again, model.encode_prompts())
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.prompt_learner.ctx.mul_(2)
    assert torch.equal(other.text_features(), other.encode_prompts()) and model.text_features() is again
    with torch.no_grad():
        other.text_encoder.text_projection.mul_(2)
    assert torch.equal(other.text_features(), other.encode_prompts())
    ctx.requires_grad_(True)
    assert model.text_features() is not model.text_features() and model.text_features().requires_grad


# --- images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
@settings(max_examples=10, deadline=None)
@given(sets=st.integers(1, 4), tokens=st.integers(0, 3), count=st.integers(1, 3))
def test_prompted_images_are_separate_passes(frozen, sets, tokens, count):
    model = tiny_vit()
    prompts = torch.randn(sets, tokens, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = torch.stack([torch.stack([seen_under(model, i, p) for i in images(count)]) for p in prompts])
    if frozen:
        freeze_image_tower(model.visual)
    together = model.visual.forward_prompted(images(count), prompts)
    assert_close(together, plain, 1e-9)
    if not tokens:
        assert_close(together[0], model.encode_image(images(count)))


# --- words -----------------------------------------------------------------------------------------------

CONTEXT_TOKENS = {
    "Caltech101": 4, "DescribableTextures": 5, "EuroSAT": 5, "FGVCAircraft": 5, "Food101": 5, "ImageNet": 4,
    "OxfordFlowers": 5, "OxfordPets": 5, "StanfordCars": 4, "SUN397": 4, "UCF101": 6, "Demo": 4, "Groceries": 4,
}  # fmt: skip


@pytest.mark.parametrize("dataset", CONTEXT_TOKENS)
def test_every_prompt_reads_template_and_whole_class_name(clip_model, dataset):
    """With the start values in place the prompts are the sentences themselves, token by token."""
    learner = learner_of(clip_model, dataset, 4)
    assert learner.n_context == CONTEXT_TOKENS[dataset] == learner.ctx.shape[1]
    sentences = [f"{t} {name.replace('_', ' ')}." for t in templates_of(dataset) for name in NAMES]
    expected = clip_model.token_embedding(clip.tokenize(sentences).long())
    assert_close(learner.full_prompts(), expected, 1e-6)
    assert learner.tokenized_prompts.tolist() == clip.tokenize(sentences).tolist()


def test_no_start_is_forgotten():
    kinds = map(DATASET_REGISTRY.get, DATASET_REGISTRY.registered_names())
    assert set(CONTEXT_TOKENS) == {kind.__name__ for kind in kinds if kind.prompt_starts and not kind.eval_only}


def test_legacy_imagenet_loses_the_first_token_of_every_name(clip_model):
    """The published third prompt: "this is a", whose fourth context token starts from end-of-text."""
    new, legacy = learner_of(clip_model, "ImageNet", 4), learner_of(clip_model, "ImageNet", 4, legacy=True)
    assert (len(new.groups), len(legacy.groups)) == (1, 2)
    end = clip_model.token_embedding.weight[49407]
    assert_close(legacy.ctx[2, 3].detach(), end)
    rows = legacy.token_suffix.unflatten(0, (4, -1))
    assert_close(rows[2, :, 0], rows[0, :, 1])  # its suffixes start with the second token
    assert_close(rows[3], rows[0])
    assert torch.equal(new.token_suffix.unflatten(0, (4, -1))[2], rows[0])
    for n in (0, 1, 3):
        assert torch.equal(new.ctx[n], legacy.ctx[n])
    assert templates_of("ImageNetV2", legacy=True) == templates_of("ImageNet", legacy=True)


def test_prompts_of_equal_wording_are_encoded_together(clip_model):
    learner = learner_of(clip_model, "EuroSAT", 6)
    assert [len(tokens.prefix) for tokens in learner()] == [4, 1, 1]  # the first two, again as the fifth and sixth
    assert learner.groups[0] == [0, 1, 4, 5]
    assert len(learner_of(clip_model, "Caltech101", 4)()) == 1


def test_more_prompts_than_templates_start_apart(clip_model):
    learner = learner_of(clip_model, "Caltech101", 6)
    apart = (learner.ctx[4] - learner.ctx[0]).abs().max()
    assert 0 < apart < 0.06
    assert learner.tokenized_prompts.shape == (6 * len(NAMES), 77)
    alone = learner_of(clip_model, "ImageNetNoSuch", 2)
    assert templates_of("ImageNetNoSuch") == ("a photo of a",)
    assert alone.n_context == 4 and (alone.ctx[1] != alone.ctx[0]).any()


@pytest.mark.parametrize(
    ("dataset", "settings", "said"),
    [
        ("OxfordFlowers", {}, '"one picture of a flower" (as prompt 2: they stay identical)'),
        ("Caltech101", {"n_prompts": 5}, '"a photo of a" (as prompt 1, with noise)'),
        ("Caltech101", {"init": False, "n_context": 3}, '"X X X"\n  "X X X"'),
        ("ImageNet", {"legacy": True}, '"this is a"'),
    ],
)
def test_the_log_says_what_prompts_start_from(clip_model, capsys, dataset, settings, said):
    trainer = PLOTPP.__new__(PLOTPP)  # its learner alone, without a data set on disk
    trainer.options = PlotPPOptions(**settings)
    trainer.cfg = SimpleNamespace(SEED=1, DATASET=SimpleNamespace(NAME=dataset))
    trainer.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=NAMES))
    learner = trainer.build_two_sided(clip_model)
    assert said in capsys.readouterr().out
    if dataset == "OxfordFlowers":
        assert torch.equal(learner.ctx[1], learner.ctx[3])  # as published


def test_random_start(clip_model):
    start = start_at_random(7, 3, NAMES, clip_model, torch.Generator().manual_seed(0))
    learner = TwoSidedPromptLearner(clip_model, start)
    assert learner.ctx.shape == (3, 7, 64) and learner.ctx.std().item() == pytest.approx(0.02, rel=0.1)
    assert len(learner()) == 1


def test_widths_come_from_the_model(clip_model):
    """The image encoder's width (128) is neither the text's (64) nor the published 768."""
    learner = learner_of(clip_model, "Caltech101", 4, m=3, v=5)
    assert learner.ctx_vision.shape == (3, 5, 128) and learner.ctx.shape == (4, 4, 64)
    assert learner.ctx_vision.std().item() == pytest.approx(0.02, rel=0.1)


def test_state_dict_has_the_originals_entries(clip_model):
    learner = learner_of(clip_model, "Caltech101", 4)
    state = learner.state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        "ctx": (4, 4, 64), "ctx_vision": (2, 2, 128), "token_prefix": (16, 1, 64), "token_suffix": (16, 72, 64),
    }  # fmt: skip
    other = learner_of(clip_model, "Caltech101", 4, names=["one", "two"])
    other.load_state_dict(state)  # strict: the class list may be another
    assert torch.equal(other.ctx_vision, learner.ctx_vision)


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"update": "visual"}, "must be vision .*comment of the original.* got 'visual'$"),
        ({"update": "text"}, "vision .* joint or empty .* got 'text'$"),
        ({"n_vision_prompts": 0}, "TRAINER.PLOTPP.M must be at least 1, got 0"),
        ({"n_vision_context": 0}, "TRAINER.PLOTPP.N_CTX_V must be at least 1"),
        ({"n_prompts": 0}, "TRAINER.PLOTPP.N must be at least 1"),
        ({"precision": "fp8"}, "TRAINER.PLOTPP.PREC"),
        ({"epsilon": 0.0}, "TRAINER.PLOTPP.EPS must be above 0"),
        ({"class_specific": True}, "TRAINER.PLOTPP.CSC must be False"),
        ({"position": "front"}, "TRAINER.PLOTPP.CLASS_TOKEN_POSITION must be one of end"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        PlotPPOptions(**settings)


def test_what_is_trained():
    names = ("ctx", "ctx_vision")
    for update, trained in (("vision", ["ctx_vision"]), ("joint", ["ctx", "ctx_vision"]), ("", ["ctx", "ctx_vision"])):
        assert [name for name in names if PlotPPOptions(update=update).learns(name)] == trained


def test_schedule():
    epochs = [PLOTPP.recipe("Caltech101", shots)["OPTIM.MAX_EPOCH"] for shots in (1, 2, 4, 8, 16)]
    assert epochs == [50, 100, 100, 200, 200] and PLOTPP.recipe("ImageNet", 16) == {"OPTIM.MAX_EPOCH": 50}
    assert not re.search("BATCH", str(PLOTPP.recipe("OxfordFlowers", 16)))  # 32 for every data set, in the preset
