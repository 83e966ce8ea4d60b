"""The prompt learner's table of tokens, and the shared-prefix text path against the plain 77-token path."""
import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip.model import build_model, convert_weights
from clip.prompt_text import PromptTokens, TextEncoder, encode_full
from tests.support.closeness import assert_close, relative_difference
from tests.support.golden_data import tiny_state_dict
from trainers.parts.prompts import PromptLearner

NAMES = ["accordion", "yin_yang", "2012 Ferrari California Convertible", "F/A-18", "cat", "dog"]


@pytest.fixture(scope="module")
def clip_model():
    return build_model(tiny_state_dict("tiny_rn")).double().requires_grad_(False).eval()


def learner_of(clip_model, **arguments):
    generator = torch.Generator().manual_seed(0)
    return PromptLearner(NAMES, clip_model, generator=generator, dtype=torch.float64, **arguments)


layouts = {
    "n_prompts": st.sampled_from([None, 1, 2, 4]),
    "n_context": st.integers(1, 16),
    "class_specific": st.booleans(),
    "position": st.sampled_from(["end", "middle", "front"]),
}


@settings(max_examples=30, deadline=None)
@given(**layouts)
def test_shared_prefix_equals_all_77_positions(clip_model, **layout):
    learner = learner_of(clip_model, **layout)
    text = TextEncoder(clip_model)
    fast = text(learner())
    plain = encode_full(text, learner.full_prompts(), learner.ends()).view_as(fast)
    assert_close(fast, plain, 1e-10)
    weights = torch.randn(fast.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (ours,) = torch.autograd.grad((fast * weights).sum(), learner.ctx)
    (expected,) = torch.autograd.grad((plain * weights).sum(), learner.ctx)
    assert_close(ours, expected, 1e-9)


@settings(max_examples=20, deadline=None)
@given(chunk=st.integers(1, 7), **layouts)
def test_chunks_of_classes_change_nothing(clip_model, chunk, **layout):
    learner = learner_of(clip_model, **layout)
    whole, parts = TextEncoder(clip_model), TextEncoder(clip_model, chunk=chunk)
    weights = torch.randn(whole(learner()).shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for text in (whole, parts):
        features = text(learner())
        found.append((features, torch.autograd.grad((features * weights).sum(), learner.ctx)[0]))
    for ours, expected in zip(*found, strict=True):
        assert_close(ours, expected, 1e-10)
    with torch.no_grad():
        assert_close(parts(learner()), found[0][0])


@pytest.mark.parametrize("name", ["tiny_rn", "tiny_vit"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 1e-2)])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_every_precision_and_activation(name, dtype, tolerance, activation):
    """float32 weights are packed on a CPU, with the activation's factors in them; the others are used as they are."""
    model = build_model(tiny_state_dict(name), activation).float().requires_grad_(False).eval()
    if dtype != torch.float32:
        convert_weights(model)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype) if parameter.dtype == torch.float16 else parameter.data
    learner = PromptLearner(NAMES, model, n_prompts=3, n_context=6, generator=torch.Generator().manual_seed(0))
    text = TextEncoder(model)
    fast = text(learner())
    plain = encode_full(text, learner.full_prompts(), learner.ends()).view_as(fast)
    assert_close(fast, plain, tolerance)


def test_weights_that_change_are_noticed(clip_model):
    learner, text = learner_of(clip_model, n_prompts=2), TextEncoder(copy.deepcopy(clip_model))
    before = text(learner())
    text.transformer.resblocks[1].mlp.c_fc.weight.mul_(1.5)
    plain = encode_full(text, learner.full_prompts(), learner.ends()).view_as(before)
    assert relative_difference(before, plain) > 1e-3
    assert_close(text(learner()), plain)


@settings(max_examples=30, deadline=None)
@given(**layouts)
def test_every_prompt_reads_as_its_placement_says(clip_model, n_prompts, n_context, class_specific, position):
    """Each row of the full prompts, token by token: the embeddings of the words, and the context where it belongs."""
    learner = learner_of(clip_model, n_prompts=n_prompts, n_context=n_context, class_specific=class_specific,
                         position=position)
    prompts = learner.full_prompts()
    table = clip_model.token_embedding.weight
    before = {"end": n_context, "middle": n_context // 2, "front": 0}[position]
    for row, prompt in enumerate(prompts):
        n, c = divmod(row, len(NAMES))
        ids, name_length = learner.tokenized_prompts[row], learner.name_lens[c]
        context = learner.contexts()[n, c if class_specific else 0]
        name = table[ids[1 + n_context : 1 + n_context + name_length]]
        rest = table[ids[1 + n_context + name_length :]]
        expected = torch.cat([table[ids[:1]], context[:before], name, context[before:], rest])
        assert_close(prompt, expected, 1e-6)


def test_one_token_of_one_class_does_not_leak_into_another(clip_model):
    learner = learner_of(clip_model, n_prompts=2, n_context=4)
    text = TextEncoder(clip_model)
    tokens = learner()
    start = sum(tokens.lengths[:2])
    changed = tokens.suffix.clone()
    changed[:, start, 0] += 1.0  # the first token of class 2 (one channel: normalisation takes out a common shift)
    before, after = text(tokens), text(PromptTokens(tokens.prefix, changed, tokens.lengths))
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-9 * before.abs().max()
    assert moved.tolist() == [False, False, True, False, False, False]


def test_state_dict_has_the_originals_entries_and_ignores_its_buffers(clip_model):
    learner = learner_of(clip_model, n_prompts=4, n_context=16)
    state = learner.state_dict()
    assert list(state) == ["ctx", "token_prefix", "token_suffix"]
    assert [tuple(v.shape) for v in state.values()] == [(4, 16, 64), (24, 1, 64), (24, 60, 64)]
    other = PromptLearner(["one", "two"], clip_model, n_prompts=4, dtype=torch.float64)
    other.load_state_dict(state)  # strict: the class list may be another
    assert_close(other.ctx, learner.ctx)
    assert other.n_classes == 2


def test_layouts_of_the_parameter(clip_model):
    assert learner_of(clip_model, n_context=5).ctx.shape == (5, 64)
    assert learner_of(clip_model, n_context=5, class_specific=True).ctx.shape == (6, 5, 64)
    assert learner_of(clip_model, n_context=5, n_prompts=3).ctx.shape == (3, 5, 64)
    specific = learner_of(clip_model, n_context=5, n_prompts=3, class_specific=True)
    assert specific.ctx.shape == (6, 3, 5, 64)
    # row n*C + c uses ctx[c, n]
    assert_close(specific.full_prompts()[2 * 6 + 4, 1:6], specific.ctx[4, 2])


def test_phrases_start_the_context(clip_model):
    one = learner_of(clip_model, n_prompts=3, init="a_photo_of_a")
    assert one.n_context == 4
    table = clip_model.token_embedding.weight[[320, 1125, 539, 320]]
    spread = (one.ctx - table).abs().amax(dim=(1, 2))
    assert (spread > 0).all() and (spread < 0.06).all()  # near the phrase, and no two alike
    several = learner_of(clip_model, n_prompts=2, init="a photo of a|this is a dog")
    assert_close(several.ctx[1].detach(), clip_model.token_embedding.weight[[589, 533, 320, 1929]])
    assert several.initial_words == "a photo of a|this is a dog" and one.initial_words == "a photo of a"
    alone = learner_of(clip_model, init="a photo of a")
    assert_close(alone.ctx.detach(), table, 1e-6)


def test_the_seed_decides_the_start(clip_model):
    first, second = learner_of(clip_model, n_prompts=2), learner_of(clip_model, n_prompts=2)
    assert torch.equal(first.ctx, second.ctx)
    assert first.ctx.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"position": "back"}, "end, middle, front"),
        ({"n_context": 75}, "tokens with start and end; the context takes 75 of them: shorten the name"),
        ({"init": "a photo|a photo of a", "n_prompts": 2}, "equally many tokens"),
        ({"init": "a|b|c", "n_prompts": 2}, "3 phrases"),
    ],
)
def test_bad_arguments_are_named(clip_model, arguments, words):
    with pytest.raises(ValueError, match=words):
        learner_of(clip_model, **arguments)
