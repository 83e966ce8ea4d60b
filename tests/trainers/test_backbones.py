"""Every method on backbones of other architectures than OpenAI's: training, checkpoints, tests, predictions."""
from __future__ import annotations

import json
import math

import pytest
import torch

import predict
import train
from dassl.engine import build_trainer
from results.__main__ import main as results
from runs.config import request_of
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.open_clip_models import SIDE, save
from tests.support.pretend_gpu import DEVICE, PretendGpu, train_step
from tests.support.programs import arguments, failure, make_world

KINDS = ("eva02", "siglip", "mobileclip", "convnext", "coca")
FULL = ("siglip", "mobileclip", "coca")  # their prompts are encoded in full length
HALF = "[0.5, 0.5, 0.5]"
PIXELS = {"siglip": ["INPUT.RESIZE", "squash", "INPUT.PIXEL_MEAN", HALF, "INPUT.PIXEL_STD", HALF]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = make_world(tmp_path_factory.mktemp("world"))
    for kind in KINDS:
        save(kind, folder / kind)
    return folder


def options(world, output, kind, *more, trainer="PLOT", flags=()):
    own = [] if trainer.startswith(("Zero", "Tip")) else [f"TRAINER.{trainer.upper()}.N_CTX", "2"]
    own += ["TRAINER.PLOT.N", "2"] if trainer == "PLOT" else []
    where = ["MODEL.BACKBONE.NAME", str(world / kind), "INPUT.SIZE", f"({SIDE}, {SIDE})", "OPTIM.MAX_EPOCH", "1"]
    return arguments(world, output, *own, *where, *PIXELS.get(kind, []), *more, trainer=trainer, flags=flags)


@pytest.fixture(scope="module")
def runs(world):
    """{kind: folder} of runs of PLOT."""
    folders = {kind: world / "runs" / kind for kind in KINDS}
    for kind, folder in folders.items():
        train.run(options(world, folder, kind))
    return folders


@pytest.mark.parametrize("kind", KINDS)
def test_plot_learns_and_comes_back(world, runs, tmp_path, kind):
    result = json.loads((runs[kind] / "result.json").read_text())
    log = (runs[kind] / "log.txt").read_text()
    assert ("Every prompt is encoded in full length" in log) == (kind in FULL)
    assert "Warning" not in log
    saved = torch.load(runs[kind] / "prompt_learner" / "model.pth.tar-1", weights_only=True)
    assert saved["optimizer"]["state"][0]["momentum_buffer"].abs().max() > 0
    assert saved["state_dict"]["token_prefix"].shape[1] == (kind != "siglip")
    again = train.run(options(world, tmp_path / "again", kind, flags=("--eval-only", "--model-dir", str(runs[kind]))))
    assert again["accuracy"] == result["accuracy"] and again["transport"] == result["transport"]
    trainer = load_trainer(runs[kind])
    images = next(iter(trainer.test_loader))["img"][:3]
    explained = trainer.explain(images)
    side = 2 if kind in ("mobileclip", "convnext") else 4
    assert explained.grid == (side, side) and explained.plan.shape == (3, 8, side * side, 2)
    tower = trainer.clip_model
    with torch.no_grad():
        local = tower.encode_image_dense(images).normalized().local
        text = torch.nn.functional.normalize(trainer.model.encode_prompts(), dim=-1)
    assert_close(explained.similarity, torch.einsum("bmd,ncd->bcmn", local, text), 1e-4, floor=1)


@pytest.mark.parametrize("kind", ["eva02", "siglip", "coca"])  # towers of timm, one of open_clip; both ways of encoding
def test_half_precision_on_a_gpu(world, kind):
    """CUDA is stricter than a CPU about tensors of two formats."""
    more = ("TRAINER.PLOT.PREC", "fp16", "TRAINER.PLOT.MAX_ITER", "1", "FEATURE_CACHE.USE", "False")
    with PretendGpu() as gpu:
        trainer = build_trainer(request_of(options(world, world / "pretended", kind, *more)).cfg)
        train_step(trainer)
        trainer.test()
    assert torch.float16 in gpu.arithmetic and trainer.model.prompt_learner.ctx.grad.device == DEVICE


OTHERS = ("CoOp", "CoCoOp", "ZeroshotCLIP", "TipAdapter", "TipAdapterF")


@pytest.mark.parametrize(("kind", "trainer"), [
    *(("siglip", trainer) for trainer in OTHERS), ("convnext", "CoCoOp"), ("convnext", "TipAdapterF"), ("coca", "CoOp"),
])
def test_the_other_methods(world, tmp_path, kind, trainer):
    result = train.run(options(world, tmp_path / "run", kind, trainer=trainer))
    assert 0 <= result["accuracy"] <= 100
    assert all(math.isfinite(epoch["loss"]) for epoch in result.get("history", []))
    if trainer.startswith("Co"):
        assert result["history"], "it learns, and its losses are on record"
        flags = ("--eval-only", "--model-dir", str(tmp_path / "run"))
        again = train.run(options(world, tmp_path / "again", kind, trainer=trainer, flags=flags))
        assert again["accuracy"] == result["accuracy"]


def test_predictions_of_an_exported_classifier(world, runs, tmp_path):
    """Images as they were trained on, squashed, and the classifier without its run."""
    picture = sorted((world / "data").rglob("*.jpg"))[0]
    (of_run,) = predict.load(runs["siglip"])(picture)
    assert results(["export", str(runs["siglip"]), "--out", str(tmp_path / "c.safetensors")]) == 0
    (of_file,) = predict.load(tmp_path / "c.safetensors")(picture)
    assert_close(of_file.logits, of_run.logits, 1e-5)
    assert of_run.best in of_run.classes


def test_bf16_and_chunks(world, tmp_path):
    lower = ["TRAINER.PLOT.PREC", "bf16", "TRAINER.PLOT.TEXT_CHUNK", "3"]
    runs = [train.run(options(world, tmp_path / str(i), "coca", *more)) for i, more in enumerate(([], lower))]
    first, second = (run["history"][0]["loss"] for run in runs)
    assert second == pytest.approx(first, rel=0.1) and first != second


def test_what_does_not_fit_is_named_before_any_work(world, runs, tmp_path, capsys):
    def refused(kind, *more, **how):
        return failure(capsys, options(world, tmp_path / "run", kind, *more, **how))

    assert "INPUT.SIZE is 96 x 96 but backbone" in refused("eva02", "INPUT.SIZE", "(96, 96)")
    assert "local features 'value' need attention" in refused("convnext", "TRAINER.PLOT.DENSE", "value")
    assert "vision transformer of OpenAI's architecture" in refused("eva02", trainer="PLOTPP")
    assert "too long for context length 40" in refused("siglip", "TRAINER.PLOT.N_CTX", "38")
    assert "reads texts with roberta-base" in refused("eva02", "MODEL.BACKBONE.NAME", "roberta-ViT-B-32/laion2b")
    otherwise = ["INPUT.RESIZE", "shortest", "INPUT.INTERPOLATION", "bilinear"]
    train.run(options(world, tmp_path / "other", "siglip", *otherwise))
    log = (tmp_path / "other" / "log.txt").read_text()
    assert "sides were resized as squash, but INPUT.RESIZE is shortest; set it to squash" in log
    assert "resized by bicubic, but INPUT.INTERPOLATION is bilinear" in log
    flags = ("--eval-only", "--model-dir", str(runs["mobileclip"]))
    with pytest.warns(UserWarning, match="another CLIP: their start token is not that of this run's backbone"):
        train.run(options(world, tmp_path / "wrong", "eva02", flags=flags))
    flags = ("--eval-only", "--model-dir", str(runs["eva02"]))
    with pytest.warns(UserWarning, match="another CLIP: their padding is not that of this run's backbone"):
        train.run(options(world, tmp_path / "wrong2", "siglip", flags=flags))
