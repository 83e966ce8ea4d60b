"""The demo CLIPs: the packaged weights, and the scripts that trained them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

import clip
from demo import CLASSES, chalk_scene, train_resnet, train_vit
from demo.scenes import photo_of
from demo.task import IMAGES_PER_CLASS, listing
from demo.training import course, resnet, vit
from demo.training.pictures import draw_corpus
from demo.training.resnet import contrast, encode_views
from demo.training.vit import contours, restyled
from tests.support.closeness import assert_close
from tests.support.pretend_gpu import DEVICE, PretendGpu

SCRIPTS = {"demo-rn": train_resnet, "demo-vit": train_vit}
TINY = ["--scenes", "24", "--steps", "3", "--batch", "8", "--threads", "1"]
PLAIN = {"demo-rn": ["--precision", "fp32"], "demo-vit": []}


@pytest.fixture(scope="module", params=SCRIPTS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return clip.load_clip_to_cpu(name).float()


def accuracy(model, scenes, labels) -> tuple[float, float]:
    """Zero-shot accuracy in percent by the pooled feature and by the mean of the local ones."""
    probe = course.Probe(torch.stack([torch.frombuffer(bytearray(s.image.tobytes()), dtype=torch.uint8)
                                      .view(128, 128, 3) for s in scenes]), torch.tensor(labels))
    return course.zero_shot(model, probe, clip.tokenize)


# ---- the packaged weights
def test_the_file_says_how_it_was_made(name):
    made_by = SCRIPTS[name]
    assert made_by.PACKAGED.stat().st_size < 16e6
    with safe_open(made_by.PACKAGED, "pt") as file:
        facts = file.metadata()
        table = file.get_tensor("token_embedding.weight")
    assert facts["activation"] == "quick_gelu"
    assert facts["command"].startswith(f"python -m {made_by.__name__}")
    assert {"seed", "versions", "date", "minutes"} <= set(facts)
    assert set(json.loads(facts["zero_shot_accuracy"])) == {"photo", "chalk"}
    assert table.shape[0] == 49408 and table.dtype == torch.float16
    used = table.abs().sum(dim=1) > 0
    assert 100 < used.sum() < 1000, "rows of tokens that no caption has are zero"
    assert used[clip.tokenize("a photo of a hot air balloon.")[0, :9].long()].all()


def test_it_is_a_plain_clip(model, name):
    side, places = {"demo-rn": (128, 16), "demo-vit": (64, 16)}[name]
    assert model.visual.input_resolution == side
    assert model.context_length == 77 and model.vocab_size == 49408
    assert model.logit_scale.item() <= math.log(100) + 1e-3
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    pooled, local = model.encode_image_dense(torch.zeros(2, 3, side, side))
    assert pooled.shape == (2, model.visual.output_dim) and local.shape == (2, places, model.visual.output_dim)


def test_both_have_the_same_text_encoder():
    resnet, vit = (clip.load_clip_to_cpu(name).state_dict() for name in SCRIPTS)
    shared = [name for name in vit if not name.startswith("visual.")]
    assert len(shared) > 30 and all(torch.equal(resnet[name], vit[name]) for name in shared)


def test_zero_shot_knows_photos(model, name):
    """By either kind of feature; a ViT's local ones were never trained."""
    scenes = [photo_of(thing, f"test/{i}") for thing in CLASSES for i in range(6)]
    pooled, local = accuracy(model, scenes, [label for label in range(len(CLASSES)) for _ in range(6)])
    assert pooled > 75 and local > (75 if name == "demo-rn" else 25)


def test_zero_shot_on_the_task_leaves_room(model, name):
    """Chance is 7 %; a quarter of the test split."""
    entries = [entry for i, entry in enumerate(listing()["test"]) if i % 4 == 0]
    assert len(entries) == len(CLASSES) * IMAGES_PER_CLASS["test"] // 4
    scenes = [chalk_scene(thing, path) for path, _, thing in entries]
    pooled, local = accuracy(model, scenes, [label for _, label, _ in entries])
    assert 25 < pooled < 75
    assert (25 if name == "demo-rn" else 7) < local < 75


# ---- the script
def test_images_with_the_same_caption_share_the_target():
    logits = torch.tensor([[9.0, 9.0, 0.0], [9.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    same, apart = (contrast(logits, texts) for texts in (["a", "a", "b"], ["a", "c", "b"]))
    assert torch.isclose(same, apart), "with equal logits the target among equals does not matter"
    better = contrast(torch.eye(3) * 9, ["a", "b", "c"])
    assert_close(better, math.log(1 + 2 * math.exp(-9)), 1e-7, floor=9)  # of logits up to 9


def test_views_of_full_size_are_encoded_as_by_the_model():
    model = clip.load_clip_to_cpu("demo-rn").float()
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = encode_views(model, images), model.encode_image_dense(images)
        small = encode_views(model, F.avg_pool2d(images, 2))
    assert torch.equal(ours.pooled, theirs.pooled) and torch.equal(ours.local, theirs.local)
    assert small.local.shape == (2, 4, model.visual.output_dim)


def test_styles_keep_the_place_of_things():
    images = torch.randn(400, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    seen = restyled(images, torch.Generator().manual_seed(2))
    colours = seen.abs().sort(dim=1).values == images.abs().sort(dim=1).values
    coloured = colours.flatten(1).all(dim=1)
    kept = (seen == images).flatten(1).all(dim=1)
    assert 0.6 < coloured.float().mean() < 0.8 and 0.35 < kept.float().mean() < 0.55
    flat = torch.zeros(1, 3, 6, 6)
    flat[..., 3:] = 1.0
    lines = contours(flat)[0, 0]
    assert (lines.argmax(dim=1) == 2).all() and lines[:, 2].std() == 0


def test_training_repeats_exactly_and_writes_a_loadable_clip(tmp_path: Path, monkeypatch, name):
    monkeypatch.setattr(course, "PROBE_IMAGES", 1)
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    files = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    try:
        for file in files:
            torch.rand(3)
            assert SCRIPTS[name].main([*TINY, *PLAIN[name], "--output", str(file)]) == 0
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
    first, second = (clip.load_clip_to_cpu(str(file)).state_dict() for file in files)
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["first.safetensors", "second.safetensors"]


# ---- on a GPU
@pytest.mark.parametrize(("program", "kind"), [(train_resnet, resnet.CaptionCourse), (train_vit, vit.ImitationCourse)])
def test_a_step_a_probe_and_the_file_on_a_gpu(program, kind, monkeypatch):
    for module in (resnet, vit):
        monkeypatch.setattr(module, "choose_device", lambda name: DEVICE)
    corpus = draw_corpus(4, workers=1)
    with PretendGpu(), torch.random.fork_rng():
        made = kind(program.build_parser().parse_args(["--device", "cuda"]), corpus)
        loss, _ = made.loss(0, torch.arange(4), torch.Generator().manual_seed(1))
        loss.backward()
        made.after_step()
        assert {p.grad.device for p in made.learner.parameters() if p.grad is not None} == {DEVICE}
        probe = course.Probe(torch.zeros(2, 128, 128, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))
        course.zero_shot(made.model, probe, made.encode)
        assert {tensor.device.type for tensor in made.weights().values()} == {"cpu"}
