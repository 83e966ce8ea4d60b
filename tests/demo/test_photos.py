"""The small CLIP for photographs: what is packaged, what it knows, that contexts steer it, and how it is made."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import clip
from clip.prompt_text import PromptTokens
from datasets.catalogue import declared, find_kind
from datasets.checking.check import build_quietly
from demo import train_photos
from demo.photos.model import config, make, names_file
from demo.photos.names import joint_space, names_to_teach, unit
from demo.photos.pieces import NAMES, TRUNK, WORDS, load_trunk, read_pieces
from tests.support.closeness import assert_close


@pytest.fixture(scope="module")
def model():
    return clip.load_clip_to_cpu("photos").float()


@pytest.fixture(scope="module")
def groceries(tmp_path_factory):
    return build_quietly(find_kind("groceries", declared()), str(tmp_path_factory.mktemp("data")))


# ---- what is packaged
def test_the_files_say_how_they_were_made(model):
    packaged = train_photos.PACKAGED
    files = [packaged, packaged.with_suffix(".json"), names_file(packaged)]
    assert sum(file.stat().st_size for file in files) < 15e6
    with safe_open(packaged, "pt") as file:
        assert file.metadata()["command"].startswith("python -m demo.train_photos")
        assert {"seed", "versions", "date", "minutes", "licence"} <= set(file.metadata())
    assert json.loads(files[1].read_text())["model_cfg"] == config(256, 2)
    taught = dict(line.split("\t") for line in files[2].read_text().splitlines())
    assert set(taught.values()) == {"clip", "synonym", "imagenet", "words"} and taught["accordion"] == "clip"


def test_it_has_places_and_shares_prefixes(model):
    assert model.shares_prefix and model.visual.input_resolution == 224
    with torch.inference_mode():
        dense = model.encode_image_dense(torch.zeros(1, 3, 224, 224))
    assert dense.pooled.shape == (1, 256) and dense.local.shape == (1, 49, 256)
    assert_close(dense.local.mean(1), dense.pooled)  # the head is linear


def test_tokens_it_was_not_taught_are_silent(model):
    unknown, known = clip.tokenize(["ϗ", "accordion"])[:, 1]
    assert not model.token_embedding.weight[unknown].any() and model.token_embedding.weight[known].any()


@torch.inference_mode()
def test_zero_shot_on_the_groceries(model, groceries):
    """docs/photos.md tells of 240 images; here are a quarter of them, so the bounds are wide."""
    names = groceries.classnames
    items = groceries.test[::4]
    text = F.normalize(model.encode_text(clip.tokenize([f"a photo of a {name}." for name in names])), dim=-1)
    transform = clip.clip.preprocess(224, model.pixel_mean, model.pixel_std)
    images = torch.stack([transform(Image.open(item.impath)) for item in items])
    guess = (model.encode_image(images) @ text.T).argmax(1)
    assert 0.15 < (guess == torch.tensor([item.label for item in items])).float().mean() < 0.45


# ---- contexts
def test_a_context_changes_classes_differently(model):
    """In the dimensions that words leave free; the words' own change nothing of this kind."""
    names = ["dog", "accordion", "pizza", "umbrella", "airplane"]
    ids = clip.tokenize([f"{name}." for name in names])[:, 1:4]
    table = model.token_embedding.weight
    free = (table.detach().abs().amax(0) == 0).nonzero().flatten()
    assert len(free) == 64
    encoder = model.prompt_encoder()

    def features(context):
        start = table[model.tokens.start[0]]
        prefix = torch.cat([start[None], context])[None]
        return F.normalize(encoder(PromptTokens(prefix, table[ids].flatten(0, 1)[None], (3,) * len(names)))[0], dim=1)

    with torch.no_grad():
        plain, context = features(torch.zeros(4, 256)), torch.zeros(4, 256)
        context[:, free] = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) * 0.2
        moved = features(context) - plain
    assert (moved.norm(dim=1) > 0.1).all()
    assert (moved - moved.mean(0)).norm() > 0.3 * moved.norm(), "another change for every class"


# ---- how it is made
@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Pieces of the right shape, with random numbers in them."""
    folder, rng = tmp_path_factory.mktemp("pieces"), np.random.default_rng(0)
    torch.manual_seed(0)
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    tensors = {}
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            tensors |= {f"{name}.weight": module.weight.data, f"{name}.bias": torch.zeros(len(module.weight))}
    for file in (TRUNK, NAMES):
        (folder / file).parent.mkdir()
    save_file(tensors, folder / TRUNK)
    words = [a + b for a in ("cat", "dog", "sun", "ice", "car") for b in ("fish", "bird", "house", "boat", "man")]
    names = ["catfish", *(f"{word} {i}" for word in words for i in range(6)), "bat (animal)"]
    known = len(names)
    exact = np.full(1000, -1)
    exact[:8] = range(8)
    np.savez(
        folder / NAMES, names=np.array(names), embedding=unit(rng.normal(size=(known, 512))),
        synonyms=np.array(["other thing|second"] + [""] * (known - 1)), imagenet_exact=exact,
        imagenet_labels=np.array([f"label {i}, also {i}" for i in range(1000)]),
        imagenet_broader=np.tile([1, 2, -1], (1000, 1)),
    )  # fmt: skip
    vectors = {word: [*rng.normal(size=100), 0, 0] for word in [*words, "label", "bat", "animal", "also"]}
    (folder / WORDS).write_text(json.dumps({"vectors": vectors}))
    return folder


def test_names_take_the_place_of_their_surest_source(pieces):
    read = read_pieces(pieces)
    placed = joint_space(read.embedding, 8)
    classes = unit(np.random.default_rng(1).normal(size=(1000, 8)))
    names = {name.text: name for name in names_to_teach(read, placed, classes, 4, 100, seed=0)}
    assert names["catfish"].source == "clip" and np.allclose(names["catfish"].target, placed[0])
    assert names["second"].source == "synonym" and np.allclose(names["second"].target, placed[0])
    assert names["bat"].source == "synonym" and np.allclose(names["bat"].target, placed[-1])
    assert names["label 7"].source == "imagenet" and np.allclose(names["label 7"].target, classes[7])
    assert sum(name.source == "words" for name in names.values()) == 4


def test_the_trunk_is_the_one_of_the_pieces(pieces):
    weights = read_pieces(pieces).trunk
    trunk = timm.create_model("mobilenetv2_100", pad_type="same").eval()
    load_trunk(trunk, weights)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ours = trunk.bn1(trunk.conv_stem(image))
    padded = F.pad(image, (0, 1, 0, 1))  # TensorFlow pads right and bottom
    assert_close(ours, F.relu6(F.conv2d(padded, weights["conv_stem.weight"], weights["conv_stem.bias"], 2)))


def test_the_program_makes_a_model_that_loads(pieces, tmp_path):
    output = tmp_path / "quick.safetensors"
    words = ["--steps", "2", "--head-steps", "2", "--batch", "8", "--scenes", "2", "--embed", "128", "--threads", "1"]
    options = train_photos.build_parser().parse_args(["--pieces", str(pieces), "--output", str(output), *words])
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    try:
        assert make(options, ["made", "by", "a test"]) == 0
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
    model = clip.load_clip_to_cpu(str(output)).float()
    with torch.inference_mode():
        assert model.encode_text(clip.tokenize(["a photo of a catfish."])).shape == (1, 128)
    assert "catfish\tclip" in names_file(output).read_text().splitlines()


def test_a_missing_piece_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="mobilenet_v2"):
        read_pieces(tmp_path)
