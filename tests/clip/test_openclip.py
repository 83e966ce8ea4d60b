"""clip/openclip: open_clip's own features of images and texts, for every kind of tower; what does not fit is named."""
from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import clip
from clip.clip import check_model_name, preprocess
from clip.feature_store import tower_digest
from clip.features import ImageFeatures
from clip.frozen import freeze_image_tower
from clip.loading.open_clip_table import path_in
from clip.openclip import find_source
from clip.openclip.images import NoPlaces
from clip.openclip.texts import FullTextEncoder
from clip.prompt_text import TextEncoder, prompt_encoder
from tests.support.closeness import assert_close, relative_difference
from tests.support.open_clip_models import CAUSAL, KINDS, save
from trainers.parts.prompts import PromptLearner

TEXTS = ["a photo of a dog.", "the big black car, and another one", "", "tench"]
NAMES = ["dog", "big black cat", "tench"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("open_clip")


@pytest.fixture(scope="module")
def models(folder):
    """{kind: (ours, open_clip's own)}."""
    saved = {kind: save(kind, folder / kind) for kind in KINDS}
    return {kind: (clip.load_clip_to_cpu(str(path)).requires_grad_(False), own) for kind, (path, own) in saved.items()}


def images_of(model, count=2):
    side = model.visual.input_resolution
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def plainly(kind, method, x):
    """What open_clip's method gives; CoCa's normalises unless told otherwise."""
    with torch.no_grad():
        return method(x, normalize=False) if kind == "coca" else method(x)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_open_clips_own(models, kind):
    ours, own = models[kind]
    images, ids = images_of(ours), ours.tokens(TEXTS)
    pooled = ours.encode_image(images)
    assert_close(pooled, plainly(kind, own.encode_image, images), 1e-6)
    assert_close(ours.encode_text(ids), plainly(kind, own.encode_text, ids), 1e-5)
    dense = ours.encode_image_dense(images)
    assert_close(dense.pooled, pooled, 1e-6)
    places = 49 if kind == "pooled_by_attention" else 4 if kind in ("mobileclip", "convnext") else 16
    assert dense.local.shape == (2, places, 32)
    assert ours.visual.output_dim == 32 and pooled.shape == (2, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_is_what_the_head_makes_of_an_image_that_is_all_this_place(models, kind):
    """By open_clip's own modules, in the form that no shortcut is taken in: every place is replaced by one of them."""
    ours, own = models[kind]
    images, place = images_of(ours), 2
    visual = own.visual
    with torch.no_grad():
        local = ours.encode_image_dense(images).local[:, place]
        if kind == "pooled_by_attention":  # here the place asks, among all others: the pool's output at it
            pool = visual.head.pool
            pool.pool_type = ""
            expected = visual(images).flatten(2)[:, :, place]
            pool.pool_type = "token"
        elif hasattr(visual, "trunk"):
            features = visual.trunk.forward_features(images)
            if features.dim() == 4:
                alike = features.flatten(2)[:, :, place, None, None].expand_as(features)
            else:
                position = place + visual.trunk.num_prefix_tokens
                alike = features[:, position, None].expand_as(features)
            expected = visual.head(visual.trunk.forward_head(alike))
        else:
            tokens = visual.transformer(visual._embeds(images))
            alike = tokens[:, 1 + place, None].expand_as(tokens)
            expected = visual._pool(alike)[0] @ visual.proj
    assert_close(local, expected, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_words_are_texts(models, kind):
    """Prompts whose context are the embeddings of words give what open_clip gives for the sentence."""
    ours, own = models[kind]
    encoder = prompt_encoder(ours)
    assert type(encoder) is (TextEncoder if kind in (*CAUSAL, "pooled_by_attention") else FullTextEncoder)
    ids = ours.tokens([f"a photo of the {name}." for name in NAMES])
    expected = plainly(kind, own.encode_text, ids)
    phrase = "a photo of the"
    for settings in ({"init": phrase}, {"init": f"{phrase}|{phrase}", "n_prompts": 2},
                     {"init": phrase, "class_specific": True}):  # fmt: skip
        learner = PromptLearner(NAMES, ours, **settings)
        for chunk in (0, 2):
            encoder.chunk = chunk
            with torch.no_grad():
                for prompt in encoder(learner()):
                    assert_close(prompt, expected, 1e-5)
    expected_note = "" if isinstance(encoder, TextEncoder) else "Every prompt is encoded in full length"
    assert getattr(encoder, "note", "").startswith(expected_note)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_the_shared_prefix_is_the_full_path(models, kind, position):
    """Features and gradients of random contexts, wherever they stand."""
    ours, _ = models[kind]
    gradients, features = [], []
    learner = PromptLearner(NAMES, ours, n_context=5, n_prompts=3, position=position)
    for encoder in (TextEncoder(ours), FullTextEncoder(ours.text, ours.tokens.pad)):
        learner.zero_grad()
        features.append(encoder(learner()))
        features[-1].square().sum().backward()
        gradients.append(learner.ctx.grad.clone())
    assert_close(features[0], features[1], 1e-5)
    assert_close(gradients[0], gradients[1], 1e-4)


def test_chunks_give_the_same_gradient_on_the_full_path(models):
    ours, _ = models["siglip"]
    learner = PromptLearner(NAMES, ours, n_context=3, n_prompts=2)
    gradients = []
    for chunk in (0, 2):
        encoder = prompt_encoder(ours)
        encoder.chunk = chunk
        learner.zero_grad()
        encoder(learner()).square().sum().backward()
        gradients.append(learner.ctx.grad.clone())
    assert_close(gradients[1], gradients[0], 1e-5)


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"pooled_by_attention"}))  # which is slow in bf16
def test_lower_precision_stays_near(models, folder, kind):
    ours, _ = models[kind]
    lower = clip.load_clip_to_cpu(str(folder / kind)).requires_grad_(False)
    lower.lower(torch.bfloat16)
    images, ids = images_of(ours), ours.tokens(TEXTS)
    assert lower.dtype == torch.bfloat16
    learner = PromptLearner(NAMES, lower, init="a photo of the")
    for theirs, expected in (
        (lower.encode_image_dense(images), ours.encode_image_dense(images)),
        ((lower.encode_text(ids),), (ours.encode_text(ids),)),
        ((prompt_encoder(lower)(learner()),), (prompt_encoder(ours)(learner()),)),
    ):
        for low, high in zip(theirs, expected, strict=True):
            assert_close(low.detach().float(), high.detach(), 0.1)


def test_a_frozen_tower_gives_the_same(folder, models):
    for kind in ("mobileclip", "vit_h"):
        frozen = clip.load_clip_to_cpu(str(folder / kind)).requires_grad_(False)
        parts = sum(1 for _ in frozen.visual.modules())
        freeze_image_tower(frozen.visual)
        images = images_of(frozen)
        assert_close(frozen.encode_image_dense(images).local, models[kind][0].encode_image_dense(images).local, 1e-4)
        assert kind == "vit_h" or sum(1 for _ in frozen.visual.modules()) < parts  # parallel convolutions were joined


def test_value_features_of_open_clips_own_vits(models):
    for kind in ("vit_h", "coca"):
        ours, own = models[kind]
        images = images_of(ours)
        dense = ours.encode_image_dense(images, "value")
        assert_close(dense.pooled, ours.encode_image(images), 1e-6)
        assert dense.local.shape == (2, 16, 32)
        assert relative_difference(dense.local, ours.encode_image_dense(images).local) > 1e-2  # another feature
    with pytest.raises(NoPlaces, match="'value' need attention.* not Eva; choose one of tokens"):
        models["eva02"][0].encode_image_dense(images, "value")


def test_the_tokenizer_of_a_model(models, folder):
    tokens, own = models["siglip"][0].tokens, models["siglip"][1]
    assert tokens.start == () and tokens.end == (1,) and tokens.pad == 1 and tokens.context_length == 40
    rows = tokens(["A Dog!", "a dog"])
    assert rows[0].tolist() == rows[1].tolist()  # cleaned as SigLIP's texts are
    assert tokens.ends(rows).tolist() == [len(tokens.encode("a dog"))] * 2
    assert tokens.decode(tokens.encode("a dog")) == "a dog"
    with pytest.raises(RuntimeError, match="too long for context length 40"):
        tokens(["dog " * 50])
    assert own.logit_bias is not None and models["siglip"][0].logit_bias == own.logit_bias
    assert models["eva02"][0].tokens(TEXTS).equal(clip.tokenize(TEXTS))
    missing = folder / "no-tokenizer"
    shutil.copytree(folder / "siglip", missing, ignore=shutil.ignore_patterns("tokenizer*", "*.safetensors"))
    config = json.loads((missing / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = str(missing / "nowhere" / "at" / "all")
    (missing / "open_clip_config.json").write_text(json.dumps(config))
    (missing / "open_clip_model.safetensors").write_bytes(b"")  # it is not looked at before the tokenizer
    with pytest.raises(RuntimeError, match="reads texts with the tokenizer .*put its files .tokenizer.json"):
        clip.load_clip_to_cpu(str(missing))


def test_what_a_score_is_made_of(models):
    """A sigmoid needs SigLIP's bias; the difference of two classes does not."""
    ours, _ = models["siglip"]
    images, ids = images_of(ours), ours.tokens(TEXTS)
    with torch.no_grad():
        logits, transposed = ours(images, ids)
        image, text = (ImageFeatures.without_places(x).normalized().pooled
                       for x in (ours.encode_image(images), ours.encode_text(ids)))  # fmt: skip
        assert_close(logits, ours.logit_scale.exp() * image @ text.T + ours.logit_bias, 1e-5)
        assert transposed.equal(logits.T)


def test_images_are_prepared_as_in_training(models, folder):
    from PIL import Image

    _, transform = clip.load(str(folder / "siglip"), device="cpu")
    wide = Image.new("RGB", (200, 100), "white")
    wide.paste("black", (0, 0, 50, 100))
    seen = transform(wide)
    assert seen.shape == (3, 64, 64) and seen.max() == 1 and seen.min() == -1  # mean and std 0.5
    assert 14 <= (seen[0, 32] < 0).sum() <= 18  # squashed: the left quarter is there, 16 columns with a soft edge
    assert (preprocess(64)(wide)[0, 32] < 0).sum() == 0  # and the centre lacks it


def test_loading_draws_no_random_numbers(models, folder):
    before = torch.get_rng_state()
    clip.load_clip_to_cpu(str(folder / "convnext"))
    assert torch.get_rng_state().equal(before)


def test_files_are_told_apart(models, folder, tmp_path):
    """By the config beside a file, a config of its own name, or the architecture before its path."""
    expected = models["eva02"][0].visual.described
    content = (folder / "eva02" / "open_clip_config.json").read_text()
    file = tmp_path / "photos.safetensors"
    shutil.copy(folder / "eva02" / "open_clip_model.safetensors", file)
    with pytest.raises(ValueError, match="an image tower of timm .*open_clip_config.json"):
        clip.load_clip_to_cpu(str(file))
    (tmp_path / "photos.json").write_text(content)
    assert clip.load_clip_to_cpu(str(file)).visual.described == expected
    check_model_name(str(file))
    source = find_source(f"EVA02-B-16/{file}")
    assert find_source(f"ViT-B-16-SigLIP/{file}").pixels["resize_mode"] == "squash"
    assert source.file == file and source.config["vision_cfg"]["timm_model_name"] == "eva02_base_patch16_clip_224"
    assert find_source("ViT-B-32/openai") is None and find_source("RN50") is None
    with pytest.raises(ValueError, match="no weights 'webly' for ViT-B-16-SigLIP; did you mean 'webli'"):
        check_model_name("ViT-B-16-SigLIP/webly")
    with pytest.raises(ValueError, match="roberta-ViT-B-32/x reads texts with roberta-base.*token embeddings"):
        check_model_name("roberta-ViT-B-32/x")


def test_a_table_of_embeddings_may_be_compact(models, folder, tmp_path):
    ours, _ = models["eva02"]
    tensors = load_file(folder / "eva02" / "open_clip_model.safetensors")
    known = torch.tensor(sorted({token for row in ours.tokens(TEXTS).tolist() for token in row}))
    rows = tensors["text.token_embedding.weight"][known]
    rest = torch.full_like(rows[:1], 0.5)
    compact = tensors | {"text.token_embedding.weight": torch.cat([rows, rest]), "text.token_embedding.ids": known}
    shutil.copy(folder / "eva02" / "open_clip_config.json", tmp_path)
    save_file(compact, tmp_path / "open_clip_model.safetensors")
    small = clip.load_clip_to_cpu(str(tmp_path))
    ids = ours.tokens(TEXTS)
    assert small.encode_text(ids).equal(ours.encode_text(ids))
    other = next(token for token in range(1000) if token not in known.tolist())
    assert small.token_embedding.weight[other].equal(rest[0])


def test_the_architecture_is_part_of_what_features_depend_on(folder, models):
    digest = tower_digest(models["convnext"][0].visual)
    changed = folder / "changed"
    shutil.copytree(folder / "convnext", changed)
    config = json.loads((changed / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["timm_drop"] = 0.5  # of training: nothing else differs
    (changed / "open_clip_config.json").write_text(json.dumps(config))
    assert tower_digest(clip.load_clip_to_cpu(str(changed)).visual) != digest
    assert tower_digest(clip.load_clip_to_cpu(str(folder / "convnext")).visual) == digest


@pytest.mark.parametrize(("change", "message"), [
    ({"embed_dim": 24}, "features of shape .32,., and the text tower of width 24"),
    ({"vision_cfg": {"image_size": [64, 32]}}, "64 x 32 pixels, and only square"),
    ({"vision_cfg": {"timm_model_name": "no_such_trunk"}}, "open_clip cannot build this architecture .*Unknown model"),
    ({"text_cfg": {"hf_model_name": "roberta-base"}}, "reads texts with roberta-base"),
    ({"text_cfg": {"pool_type": "none"}}, "pools nothing"),
    ({"text_cfg": {"tokenizer_kwargs": {"reduction_mask": "random"}}}, "options that are not known, .*reduction_mask"),
    ({"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}}, "options trust_remote_code; known are clean"),
    ({"vision_cfg": {"timm_model_kwargs": {"checkpoint_path": "x"}}}, "checkpoint_path would fetch or read other"),
    ({"vision_cfg": {"timm_model_name": "hf-hub:some/one"}}, "timm_model_name hf-hub:some/one would fetch"),
])  # fmt: skip
def test_configs_that_cannot_be_used(models, folder, tmp_path, change, message):
    target = tmp_path / "model"
    shutil.copytree(folder / "siglip", target)
    file = target / "open_clip_config.json"
    content = json.loads(file.read_text())
    config = content["model_cfg"]
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    if "embed_dim" in change:  # the text tower's projection alone follows
        tensors = load_file(target / "open_clip_model.safetensors")
        for name in ("text.text_projection.weight", "text.text_projection.bias"):
            tensors[name] = tensors[name][:24]
        save_file(tensors, target / "open_clip_model.safetensors")
    if "tokenizer_kwargs" in config["text_cfg"] and "reduction_mask" in str(change):
        del config["text_cfg"]["hf_tokenizer_name"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        clip.load_clip_to_cpu(str(target))


def test_the_path_in_a_name(tmp_path):
    (tmp_path / "mine").write_bytes(b"")
    for name, path in {
        f"EVA02-B-16/{tmp_path}/mine": f"{tmp_path}/mine",
        "EVA02-B-16/../gone.pt": "../gone.pt",
        "EVA02-B-16/merged2b_s8b_b131k": "EVA02-B-16/merged2b_s8b_b131k",
        "models/mine.pt": "models/mine.pt",
        "ViT-B/32": "ViT-B/32",
    }.items():
        assert path_in(name) == path
