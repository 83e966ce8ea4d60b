"""clip/model.py against recorded features, against open_clip's own implementation, and against itself."""
from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip import clip as clip_module
from clip.features import ImageFeatures
from clip.loading.layout import SIZE_KEYS, sizes_of
from clip.model import CLIP, LayerNorm, build_model, check_keys, convert_weights
from tests.support.closeness import relative_difference
from tests.support.golden_data import GOLDEN, read_npz, tiny_state_dict

TINY = ("tiny_rn", "tiny_vit")
TOLERANCE = 1e-5  # relative to the largest entry


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These models are so small that threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def tiny(name: str) -> CLIP:
    return build_model(tiny_state_dict(name), convert=False)


def images_of(name: str) -> Tensor:
    return torch.from_numpy(read_npz(GOLDEN / "inputs" / f"images_{name}_b4.npz")[0]["images"]).float()


def cases(folder: str) -> list:
    return sorted((GOLDEN / folder).glob("*.npz"), key=lambda path: path.name)


def model_of(path, meta) -> str:
    """Which tiny model a golden case was recorded with: the one whose inputs it names."""
    return next(name for name in TINY if name in meta["images"])


# --- recorded truths ------------------------------------------------------------------------------------

@torch.no_grad()
@pytest.mark.parametrize("path", cases("plot"), ids=lambda path: path.stem)
def test_dense_features_are_those_recorded_from_plot(path):
    arrays, meta = read_npz(path)
    name = model_of(path, meta)
    pooled, local = tiny(name).encode_image_dense(images_of(name))
    got = torch.cat([pooled[None], local.transpose(0, 1)])
    assert relative_difference(got, arrays["image_features_raw"]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("path", cases("coop"), ids=lambda path: path.stem)
def test_pooled_features_are_those_recorded_from_coop(path):
    arrays, meta = read_npz(path)
    name = model_of(path, meta)
    assert relative_difference(tiny(name).encode_image(images_of(name)), arrays["image_features_raw"]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("path", [p for p in cases("plot") + cases("coop") if "prompts" in np.load(p)],
                         ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_text_layers_are_those_recorded_with_prompts(path):
    arrays, meta = read_npz(path)
    model = tiny(model_of(path, meta))
    x = torch.from_numpy(arrays["prompts"]).float() + model.positional_embedding
    x = model.ln_final(model.transformer(x.transpose(0, 1)).transpose(0, 1))
    end = torch.from_numpy(arrays["tokenized_prompts"]).argmax(dim=-1)
    got = x[torch.arange(len(x)), end] @ model.text_projection
    assert relative_difference(got, arrays["text_features_raw"]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("path", cases("zeroshot"), ids=lambda path: path.stem)
def test_zero_shot_features_and_logits_are_those_recorded(path):
    arrays, meta = read_npz(path)
    name = model_of(path, meta)
    model = tiny(name)
    image = F.normalize(model.encode_image(images_of(name)), dim=-1)
    for dataset in meta["templates"]:
        rows = [F.normalize(model.encode_text(torch.from_numpy(tokens).long()), dim=-1)
                for tokens in arrays[f"tokens.{dataset}"]]
        text = F.normalize(torch.stack(rows).mean(dim=0), dim=-1)
        assert relative_difference(text, arrays[f"text_features.{dataset}"]) < TOLERANCE
        assert relative_difference(model.logit_scale.exp() * image @ text.T, arrays[f"logits.{dataset}"]) < TOLERANCE


# --- another implementation -----------------------------------------------------------------------------

def open_clip_model(kind: str, quick_gelu: bool):
    open_clip = pytest.importorskip("open_clip.model")
    vision = {"vit": {"layers": 2, "width": 128, "patch_size": 16, "image_size": 64},
              "rn": {"layers": (1, 2, 1, 1), "width": 16, "image_size": 96, "patch_size": None}}[kind]
    text = open_clip.CLIPTextCfg(context_length=20, vocab_size=99, width=128, heads=2, layers=2)
    torch.manual_seed(3)
    model = open_clip.CLIP(32, open_clip.CLIPVisionCfg(**vision), text, quick_gelu=quick_gelu)
    for parameter in model.parameters():  # some start as zeros and ones; every entry shall matter
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    for buffer in (b for n, b in model.named_buffers() if n.endswith("running_var")):
        buffer.uniform_(0.5, 2.0)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "rn"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_open_clip_computes_the_same_from_the_same_weights(kind, activation):
    theirs = open_clip_model(kind, activation == "quick_gelu")
    ours = build_model(theirs.state_dict(), activation=activation, convert=False)
    images = torch.randn(3, 3, ours.visual.input_resolution, ours.visual.input_resolution)
    tokens = torch.randint(1, 97, (5, 20))
    tokens[torch.arange(5), torch.tensor([3, 7, 19, 1, 7])] = 98
    assert relative_difference(ours.encode_image(images), theirs.encode_image(images)) < TOLERANCE
    assert relative_difference(ours.encode_text(tokens), theirs.encode_text(tokens)) < TOLERANCE
    wrong = {"gelu": "quick_gelu", "quick_gelu": "gelu"}[activation]
    other = build_model(theirs.state_dict(), activation=wrong, convert=False)
    assert relative_difference(other.encode_text(tokens), theirs.encode_text(tokens)) > 100 * TOLERANCE
    if kind == "vit":
        theirs.visual.output_tokens = True
        tokens = theirs.visual(images)[1] @ theirs.visual.proj
        assert relative_difference(ours.encode_image_dense(images).local, tokens) < TOLERANCE


SIZES = {
    "RN50": (1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12),
    "RN101": (512, 224, (3, 4, 23, 3), 64, None, 77, 49408, 512, 8, 12),
    "RN50x4": (640, 288, (4, 6, 10, 6), 80, None, 77, 49408, 640, 10, 12),
    "RN50x16": (768, 384, (6, 8, 18, 8), 96, None, 77, 49408, 768, 12, 12),
    "RN50x64": (1024, 448, (3, 15, 36, 10), 128, None, 77, 49408, 1024, 16, 12),
    "ViT-B/32": (512, 224, 12, 768, 32, 77, 49408, 512, 8, 12),
    "ViT-B/16": (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12),
    "ViT-L/14": (768, 224, 24, 1024, 14, 77, 49408, 768, 12, 12),
    "ViT-L/14@336px": (768, 336, 24, 1024, 14, 77, 49408, 768, 12, 12),
}


@pytest.mark.parametrize("name", SIZES)
def test_every_published_architecture_is_recognised_and_has_open_clips_shapes(name):
    open_clip = pytest.importorskip("open_clip")
    with torch.device("meta"):
        ours = CLIP(*SIZES[name])
        config = open_clip.get_model_config(name.replace("/", "-").removesuffix("px").replace("@", "-"))
        theirs = open_clip.model.CLIP(**config)
    shapes = {key: tuple(value.shape) for key, value in ours.state_dict().items()}
    assert shapes == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert tuple(sizes_of(ours.state_dict()).values()) == SIZES[name]
    assert name in clip_module._MODELS


def test_known_counts():
    counts = {"RN50": (102_007_137, 489), "ViT-B/16": (149_620_737, 302)}
    for name, (parameters, keys) in counts.items():
        with torch.device("meta"):
            model = CLIP(*SIZES[name])
        assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == (parameters, keys)


# --- dense features -------------------------------------------------------------------------------------

@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("kind", ["tokens", "value"])
def test_the_pooled_feature_does_not_depend_on_the_local_ones(name, kind):
    model, images = tiny(name), images_of(name)
    features = model.encode_image_dense(images, kind)
    assert isinstance(features, ImageFeatures) and features.local.shape == (4, features.local.shape[1], 48)
    assert relative_difference(features.pooled, model.encode_image(images)) < TOLERANCE
    lengths = features.normalized().local.norm(dim=-1)
    assert torch.allclose(lengths, torch.ones_like(lengths))


@torch.no_grad()
def test_value_features_are_attention_that_sees_itself_only():
    model, images = tiny("tiny_vit"), images_of("tiny_vit")
    x = model.visual.ln_pre(model.visual.embed(images)).transpose(0, 1)
    x = model.visual.transformer.resblocks[0](x)
    last = model.visual.transformer.resblocks[1]
    alone = torch.full((len(x), len(x)), float("-inf")).fill_diagonal_(0)
    y = last.ln_1(x)
    x = x + last.attn(y, y, y, attn_mask=alone)[0]
    want = model.visual.head(x + last.mlp(last.ln_2(x)))[1:].transpose(0, 1)
    assert relative_difference(model.encode_image_dense(images, "value").local, want) < TOLERANCE

    model, images = tiny("tiny_rn"), images_of("tiny_rn")
    pool, x = model.visual.attnpool, model.visual.attnpool.places(model.visual.feature_map(images))
    q, k, v = (projection(x).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
               for projection in (pool.q_proj, pool.k_proj, pool.v_proj))
    alone = torch.eye(x.shape[1], dtype=torch.bool)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=alone).transpose(1, 2).flatten(2)
    assert relative_difference(model.encode_image_dense(images, "value").local, pool.c_proj(y)[:, 1:]) < TOLERANCE


@torch.no_grad()
def test_attention_pool_is_torchs_multi_head_attention():
    pool = tiny("tiny_rn").visual.attnpool
    x = torch.randn(2, 256, 3, 3)
    tokens = pool.places(x).transpose(0, 1)
    want, _ = F.multi_head_attention_forward(
        tokens, tokens, tokens, 256, pool.num_heads, None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
        pool.c_proj.weight, pool.c_proj.bias, training=False, need_weights=False,
        use_separate_proj_weight=True, q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight)
    got = pool.forward_dense(x)
    assert relative_difference(torch.cat([got.pooled[None], got.local.transpose(0, 1)]), want) < TOLERANCE
    assert relative_difference(pool(x), want[0]) < TOLERANCE


@pytest.mark.parametrize("name", TINY)
def test_dense_errors_say_what_to_do(name):
    model, images = tiny(name), images_of(name)
    with pytest.raises(ValueError, match="'patches'.*tokens, value"):
        model.encode_image_dense(images, "patches")
    with pytest.raises(ValueError, match="resize them to"):
        model.encode_image(F.pad(images, (0, 64, 0, 64)))


# --- text -----------------------------------------------------------------------------------------------

@torch.no_grad()
def test_skipping_the_padding_changes_nothing():
    model = tiny("tiny_vit")
    tokens = clip_module.tokenize(["a photo of a dog.", "x", ""])
    x = model.token_embedding(tokens) + model.positional_embedding  # all 77 positions
    x = model.ln_final(model.transformer(x.transpose(0, 1))).transpose(0, 1)
    want = x[torch.arange(3), tokens.argmax(dim=-1)] @ model.text_projection
    assert relative_difference(model.encode_text(tokens), want) < TOLERANCE
    assert relative_difference(model.encode_text(tokens.int()), want) < TOLERANCE
    images = images_of("tiny_vit")
    per_image, per_text = model(images, tokens)
    assert torch.equal(per_image, per_text.T)
    want = 100.03 * F.cosine_similarity(model.encode_image(images)[:, None], want[None], dim=-1)
    assert relative_difference(per_image, want) < 1e-3


def test_the_mask_is_causal_and_no_weight():
    model = tiny("tiny_rn")
    mask = model.build_attention_mask()
    assert mask.shape == (77, 77) and torch.equal(mask == 0, torch.ones(77, 77).tril().bool())
    assert not any("mask" in key for key in model.state_dict())
    assert model.visual.output_dim == 48 and model.transformer.width == 64 and model.transformer.layers == 2


def test_inference_first_and_gradients_later():
    model = build_model(tiny_state_dict("tiny_rn"), convert=False).double()
    tokens = clip_module.tokenize("a dog")
    with torch.inference_mode():
        model.encode_text(tokens)
    model.encode_text(tokens).sum().backward()
    assert model.token_embedding.weight.grad is not None


# --- precision ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", TINY)
def test_fp16_goes_where_openai_puts_it(name):
    native = tiny_state_dict(name, native=True)
    model = build_model(native)
    types = {key: value.dtype for key, value in model.state_dict().items()}
    assert types == {key: value.dtype for key, value in native.items() if key not in SIZE_KEYS}
    assert model.dtype == torch.float16 and not model.training
    assert model.float().dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near(name, dtype):
    model, images, tokens = build_model(tiny_state_dict(name)), images_of(name), clip_module.tokenize("a dog")
    if dtype == torch.bfloat16:
        model = model.to(dtype)
    exact = tiny(name)
    image, text = model.encode_image_dense(images).local, model.encode_text(tokens)
    assert image.dtype == text.dtype == dtype
    tolerance = 2e-2 if dtype == torch.float16 else 1e-1
    assert relative_difference(image.float(), exact.encode_image_dense(images).local) < tolerance
    assert relative_difference(text.float(), exact.encode_text(tokens)) < tolerance


def test_layer_norm_computes_in_float32():
    norm, x = LayerNorm(16), 300 * torch.randn(4, 16).half()
    for module in (norm, LayerNorm(16).half()):
        assert torch.equal(module(x), F.layer_norm(x.float(), (16,)).half())
    double = x.double()
    assert norm.double()(double).dtype == torch.float64


def test_convert_weights_spares_what_is_no_matrix():
    block = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), LayerNorm(4), nn.Embedding(2, 4),
                          nn.MultiheadAttention(4, 1, add_bias_kv=True))
    convert_weights(block)
    full = {key for key, value in block.state_dict().items() if value.dtype == torch.float32}
    assert full == {"1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "2.bias", "3.weight"}


# --- from and to state dicts ----------------------------------------------------------------------------

def test_build_model_leaves_the_callers_dict_alone():
    state = tiny_state_dict("tiny_rn", native=True)
    kept = {key: value.clone() for key, value in state.items()}
    model = build_model(state)
    for parameter in model.parameters():
        parameter.data.zero_()
    assert list(state) == list(kept) and all(torch.equal(state[key], kept[key]) for key in kept)


def test_batch_norm_counters_may_be_missing_and_nothing_else():
    state = {key: value for key, value in tiny_state_dict("tiny_rn").items() if "num_batches" not in key}
    assert build_model(state).visual.bn1.num_batches_tracked == 0
    del state["visual.bn1.running_var"]
    state["visual.extra"] = torch.zeros(1)
    state["text_projection"] = state["text_projection"][:-1]
    with pytest.raises(RuntimeError) as caught:
        build_model(state)
    for part in ("ResNet (1, 1, 1, 1), width 8, 96 pixels", "1 missing (visual.bn1.running_var)",
                 "1 unexpected (visual.extra)", "text_projection (63, 48), expected (64, 48)"):
        assert part in str(caught.value)


def test_what_is_no_clip_is_called_so():
    with pytest.raises(KeyError, match="visual.conv1.weight"):
        build_model({"fc.weight": torch.zeros(2, 2)})
    state = tiny_state_dict("tiny_vit")
    state["visual.positional_embedding"] = state["visual.positional_embedding"][:-1]
    with pytest.raises(ValueError, match="15 places"):
        build_model(state)
    with pytest.raises(ValueError, match="no activation 'relu'"):
        build_model(tiny_state_dict("tiny_vit"), activation="relu")
    with pytest.raises(RuntimeError, match="unexpected"):
        check_keys({**nn.Linear(2, 3).state_dict(), "x": torch.zeros(1)}, nn.Linear(2, 3), "test")


@pytest.mark.parametrize("vision", [((1, 1, 1, 1), 16, None), (2, 64, 16)])
def test_a_fresh_model_trains(vision):
    layers, width, patch = vision
    torch.manual_seed(0)
    model = CLIP(32, 64, layers, width, patch, 16, 50, 64, 1, 2).train()
    images, tokens = torch.randn(6, 3, 64, 64), torch.randint(1, 48, (6, 16))
    tokens[:, 9] = 49
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        per_image, per_text = model(images, tokens)
        loss = (F.cross_entropy(per_image, torch.arange(6)) + F.cross_entropy(per_text, torch.arange(6))) / 2
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    again = build_model(model.state_dict(), convert=False)
    assert torch.equal(again.encode_image(images), model.eval().encode_image(images))
