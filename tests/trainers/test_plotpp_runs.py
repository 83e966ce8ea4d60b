"""The trainer PLOTPP through train.py: settings, stages, what is written and what is read; then the scripts."""
import json
import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import clip
import train
from results.__main__ import main as results
from runs.config import request_of
from runs.restore.rebuilding import load_trainer
from runs.sweeps.experiments import main as experiment
from tests.support.closeness import assert_close
from tests.support.golden_data import tiny_state_dict
from tests.support.programs import REPOSITORY, arguments, failure, make_world
from trainers.parts.starts import origin

KEY = "TRAINER.PLOTPP."


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def run(world, output, *options, seed=1, flags=(), epochs=1):
    return train.run(options_of(world, output, *options, seed=seed, flags=flags, epochs=epochs))


def options_of(world, output, *options, seed=1, flags=(), epochs=1):
    words = ["OPTIM.MAX_EPOCH", str(epochs), *(KEY + o if o.isupper() and "." not in o else o for o in options)]
    return arguments(world, output, *words, trainer="PLOTPP", seed=seed, flags=flags)


@pytest.fixture(scope="module")
def first_stage(world):
    """A finished first stage: visual prompts only."""
    output = world / "visiononly" / "seed1"
    return output, run(world, output, "MODEL_UPD", "vision", "TRADE_OFF", "True", epochs=3)


def saved(folder: Path, epoch: int) -> dict:
    return torch.load(folder / "prompt_learner" / f"model.pth.tar-{epoch}", weights_only=True)


def whole_model(trainer, wrapped: bool = False) -> dict[str, torch.Tensor]:
    """The state dict that the original saves, fp16 where it computes so; ImageNet's with its wrapper inside."""
    inside = "text_encoder.module." if wrapped else "text_encoder."
    return {key.replace("text_encoder.", inside): v.half() for key, v in trainer.model.state_dict().items()}


def write(state: dict, folder: Path, epoch: int = 50) -> Path:
    path = folder / "prompt_learner" / f"model.pth.tar-{epoch}"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "epoch": epoch}, path)
    return path


# --- one stage -------------------------------------------------------------------------------------------

SETTINGS = {
    "joint": ["MODEL_UPD", "joint"],
    "fused": ["TRADE_OFF", "True"],
    "random text": ["CTX_INIT", "False", "N_CTX", "3"],
    "many": ["N", "6", "M", "5", "N_CTX_V", "3"],
    "one of each": ["N", "1", "M", "1"],
    "uniform": ["MATCHING", "uniform"],
    "in chunks": ["TEXT_CHUNK", "3", "MATCH_CHUNK", "3"],
    "bf16": ["PREC", "bf16"],
    "fp16 on a CPU": ["PREC", "fp16"],
    "amp on a CPU": ["PREC", "amp"],
    "context like the model": ["CTX_PREC", "model"],
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_trains_both_contexts(world, tmp_path, capsys, setting):
    result = run(world, tmp_path / "run", *SETTINGS[setting])
    assert torch.isfinite(torch.tensor(result["history"][0]["loss"]))
    assert {"loss", "acc"} <= set(result["history"][0])
    moved = saved(tmp_path / "run", 1)["optimizer"]["state"]
    assert [bool(moved[i]["momentum_buffer"].abs().amax() > 0) for i in (0, 1)] == [True, True]
    if "CPU" in setting:
        assert "computing in fp32 on cpu" in capsys.readouterr().out


def test_first_stage_trains_the_visual_prompts_only(first_stage):
    output, result = first_stage
    checkpoint = saved(output, 3)
    assert list(checkpoint["optimizer"]["state"]) == [1]  # of two parameters
    ids = clip.tokenize(["a photo of a", "this is a photo", "this is picture of", "one picture of a"])[:, 1:5]
    table = tiny_state_dict("tiny_vit")["token_embedding.weight"]
    assert torch.equal(checkpoint["state_dict"]["ctx"], table[ids.long()])
    assert {key: tuple(value.shape) for key, value in checkpoint["state_dict"].items()} == {
        "ctx": (4, 4, 64), "ctx_vision": (4, 2, 128), "token_prefix": (32, 1, 64), "token_suffix": (32, 72, 64),
    }  # fmt: skip
    assert 0 <= result["transport"]["distance_from_uniform"] < 1
    log = (output / "log.txt").read_text()
    assert '"this is picture of"' in log and "Training the visual prompts only" in log


def test_only_the_prompts_are_registered_and_switched(first_stage):
    trainer = load_trainer(first_stage[0])
    assert trainer.get_model_names() == ["prompt_learner"]
    trainer.set_model_mode("train")
    assert trainer.model.prompt_learner.training
    assert not any(part.training for part in (trainer.model.image_encoder, trainer.model.text_encoder))
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert trained == {"prompt_learner.ctx_vision"}


def test_a_residual_network_is_refused(world, tmp_path, capsys):
    flags = ("--backbone", str(world / "tiny_rn.pt"))
    argv = options_of(world, tmp_path / "run", "INPUT.SIZE", "(96, 96)", flags=flags)
    assert "use ViT-B/16, or the trainer PLOT" in failure(capsys, argv)


def test_killed_and_started_again_gives_the_same(world, tmp_path, first_stage):
    options = ("PRETRAIN_DIR", str(first_stage[0]))
    whole = run(world, tmp_path / "whole", *options, epochs=3)
    halves = options_of(world, tmp_path / "halves", *options, "TRAIN.CHECKPOINT_FREQ", "1", epochs=3)
    train.run(halves)
    (tmp_path / "halves" / "prompt_learner" / "model.pth.tar-3").unlink()
    (tmp_path / "halves" / "result.json").unlink()
    assert train.run(halves)["history"] == whole["history"]


# --- the second stage, and evaluation --------------------------------------------------------------------


def test_second_stage_starts_from_the_first(world, tmp_path, first_stage):
    """By file as in the original, and by run folder."""
    output, _ = first_stage
    file = output / "prompt_learner" / "model.pth.tar-3"
    by_file = run(world, tmp_path / "file", "PRETRAIN_DIR", str(file), "MODEL_UPD", "joint")
    by_folder = run(world, tmp_path / "folder", "PRETRAIN_DIR", str(output), "MODEL_UPD", "joint")
    afresh = run(world, tmp_path / "afresh", "MODEL_UPD", "joint")
    assert by_file["history"] == by_folder["history"] != afresh["history"]
    log = (tmp_path / "file" / "log.txt").read_text()
    assert str(file) in log and "leak" not in log
    trainer = load_trainer(tmp_path / "file")  # reads its own checkpoint, not the first stage again
    assert torch.equal(trainer.model.prompt_learner.ctx, saved(tmp_path / "file", 1)["state_dict"]["ctx"])


def test_a_start_of_another_seed_is_told_of(world, tmp_path, first_stage):
    run(world, tmp_path / "run", "PRETRAIN_DIR", str(first_stage[0]), seed=2)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "leak between runs: the start was trained with seed 1, this run has seed 2" in log


def test_origin_is_read_from_the_config_or_from_the_path(first_stage):
    assert origin(first_stage[0] / "prompt_learner" / "model.pth.tar-3") == {"seed": 1, "shots": 2, "draw": "per_class"}
    published = Path("models/caltech101/16shots/stage1/seed1/prompt_learner/model.pth.tar-200")
    assert origin(published) == {"seed": 1, "shots": 16, "draw": "per_class"}
    assert origin(Path("elsewhere/model.pth.tar-50")) == {}


def test_a_torn_config_of_the_start_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("OPTIM: [")
    with pytest.raises(ValueError, match=r"config.yaml, of the run to start from, cannot be read \(while parsing"):
        origin(tmp_path / "prompt_learner" / "model.pth.tar-4")


def test_evaluation_finds_the_trained_accuracy_again(world, tmp_path, first_stage):
    output, trained = first_stage
    fused = ("TRADE_OFF", "True")
    by_run = run(world, tmp_path / "a", *fused, flags=("--eval-only", "--model-dir", str(output), "--load-epoch", "3"))
    by_key = run(world, tmp_path / "b", *fused, "PRETRAIN_DIR", str(output), flags=("--eval-only",))
    assert by_run["accuracy"] == by_key["accuracy"] == trained["accuracy"]
    assert by_run["transport"] == by_key["transport"]
    assert by_key["checkpoint"] == str(output / "prompt_learner" / "model.pth.tar-3")


def test_untrained_prompts_are_no_result(world, tmp_path, capsys):
    argv = options_of(world, tmp_path / "run", flags=("--eval-only",))
    message = failure(capsys, argv)
    assert "untrained" in message and "--model-dir" in message and "EVAL_UNTRAINED True" in message
    assert not (tmp_path / "run" / "result.json").exists()
    assert run(world, tmp_path / "run", "EVAL_UNTRAINED", "True", flags=("--eval-only",))["total"] == 48


def test_prompts_move_to_other_classes(world, tmp_path):
    run(world, tmp_path / "base", "DATASET.SUBSAMPLE_CLASSES", "base")
    flags = ("--eval-only", "--model-dir", str(tmp_path / "base"))
    assert run(world, tmp_path / "new", "DATASET.SUBSAMPLE_CLASSES", "new", flags=flags)["total"] == 24


# --- whole-model files, as published ---------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True])
def test_whole_models_are_read(world, tmp_path, first_stage, wrapped):
    trainer = load_trainer(first_stage[0])
    state = whole_model(trainer, wrapped)
    assert ("text_encoder.module.ln_final.weight" in state) == wrapped and "logit_scale" in state
    file = write(state, tmp_path / "published" / "16shots" / "stage1" / "seed1")
    flags = ("--eval-only", "--model-dir", str(file.parents[1]), "--load-epoch", "50")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its frozen weights are this run's
        by_run = run(world, tmp_path / "a", "TRADE_OFF", "True", flags=flags)
    by_key = run(world, tmp_path / "b", "TRADE_OFF", "True", "PRETRAIN_DIR", str(file), flags=("--eval-only",))
    assert by_run["accuracy"] == by_key["accuracy"]
    assert abs(by_run["correct"] - first_stage[1]["correct"]) <= 1  # its weights are float16
    second = run(world, tmp_path / "c", "PRETRAIN_DIR", str(file), seed=2)
    assert second["complete"] and "seed 1, shots 16" in (tmp_path / "c" / "log.txt").read_text()
    assert list(saved(tmp_path / "c", 1)["state_dict"]) == ["ctx", "ctx_vision", "token_prefix", "token_suffix"]


def broken(state: dict, fault: str) -> dict:
    """A whole model with one thing wrong."""
    state = dict(state)
    if fault == "other patches":
        state["image_encoder.conv1.weight"] = torch.zeros(128, 3, 32, 32)
    elif fault == "deeper":
        state["image_encoder.transformer.resblocks.9.ln_1.weight"] = torch.zeros(128)
    elif fault == "another text tower":
        state["text_encoder.ln_final.weight"] = state["text_encoder.ln_final.weight"][:32]
    elif fault == "no visual prompts":
        del state["prompt_learner.ctx_vision"]
    elif fault == "more parts":
        state["adapter.weight"] = torch.zeros(2)
    elif fault == "other M":
        state["prompt_learner.ctx_vision"] = state["prompt_learner.ctx_vision"][:2]
    elif fault == "other N":
        state["prompt_learner.ctx"] = state["prompt_learner.ctx"][:2]
    elif fault == "no prompts":
        state = {key: value for key, value in state.items() if not key.startswith("prompt_learner.")}
    return state


FAULTS = {
    "other patches": ["image_encoder.conv1.weight", "another CLIP", "MODEL.BACKBONE.NAME"],
    "deeper": ["image_encoder.transformer.resblocks.9.ln_1.weight", "another CLIP"],
    "another text tower": ["text_encoder.ln_final.weight", "another CLIP"],
    "no visual prompts": ["holds ctx", "learns ctx, ctx_vision", "another method"],
    "more parts": ["adapter.weight", "another method"],
    "other M": ["`ctx_vision` of shape (2, 2, 128)", "needs (4, 2, 128)", "same N, M, N_CTX, N_CTX_V"],
    "other N": ["`ctx` of shape (2, 4, 64)", "needs (4, 4, 64)"],
    "no prompts": ["no learned context `ctx`", "ctx, ctx_vision"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_files_say_what_they_hold(world, tmp_path, capsys, first_stage, fault):
    state = broken(whole_model(load_trainer(first_stage[0])), fault)
    file = write(state, tmp_path / "published")
    message = failure(capsys, options_of(world, tmp_path / "run", "PRETRAIN_DIR", str(file), flags=("--eval-only",)))
    for words in (str(file), *FAULTS[fault]):
        assert words in message


def test_prompts_of_another_clip_are_warned_of(world, tmp_path, first_stage):
    state = whole_model(load_trainer(first_stage[0]))
    state["text_encoder.ln_final.weight"] = state["text_encoder.ln_final.weight"] * 1.5
    file = write(state, tmp_path / "published")
    with pytest.warns(UserWarning, match="another CLIP: its text_encoder.ln_final.weight .* mean nothing"):
        run(world, tmp_path / "run", "PRETRAIN_DIR", str(file), flags=("--eval-only",))


def test_other_methods_checkpoints_are_refused(world, tmp_path, capsys, first_stage):
    train.run(arguments(world, tmp_path / "plot", "OPTIM.MAX_EPOCH", "1"))
    flags = ("--eval-only", "--model-dir", str(tmp_path / "plot"))
    assert "another method" in failure(capsys, options_of(world, tmp_path / "a", flags=flags))
    plot = arguments(world, tmp_path / "b", flags=("--eval-only", "--model-dir", str(first_stage[0])))
    assert "another method" in failure(capsys, plot)
    absent = options_of(world, tmp_path / "c", "PRETRAIN_DIR", str(tmp_path / "absent"))
    assert "PRETRAIN_DIR" in failure(capsys, absent)


def test_prompts_before_other_words_are_noticed(world, tmp_path, first_stage):
    """As ImageNet's published prompts: the third was learned before class names without their first token."""
    from trainers.parts.checkpoints import check_fixed_words

    trainer = load_trainer(first_stage[0])
    learner, path = trainer.model.prompt_learner, Path("imagenet.tar")
    state = {f"prompt_learner.{key}": value.half() for key, value in learner.state_dict().items()}
    check_fixed_words(state, learner, "set LEGACY", path)
    suffix = state["prompt_learner.token_suffix"].unflatten(0, (4, -1)).clone()
    suffix[2] = suffix[2].roll(-1, dims=1)
    legacy = state | {"prompt_learner.token_suffix": suffix.flatten(0, 1)}
    with pytest.raises(ValueError, match="prompt 3 was learned before other words than it has here; set LEGACY"):
        check_fixed_words(legacy, learner, "set LEGACY", path)
    other_classes = state | {"prompt_learner.token_suffix": suffix.roll(1, dims=1).flatten(0, 1)}
    check_fixed_words(other_classes, learner, "set LEGACY", path)  # the same number of other classes


# --- what the transport did ------------------------------------------------------------------------------


def test_plans_are_about_no_places(first_stage, tmp_path):
    output, _ = first_stage
    assert results(["transport", str(output), "--count", "1", "--out", str(tmp_path), "--formats", "npz"]) == 0
    (drawn,) = tmp_path.glob("*.npz")
    with np.load(drawn, allow_pickle=False) as file:  # a matrix of visual and text prompts
        assert file["plan"].shape[1:] == (4, 4) and json.loads(str(file["meta"]))["grid"] is None
    trainer = load_trainer(output)
    explained = trainer.explain(next(iter(trainer.test_loader))["img"][:3])
    assert explained.grid is None and explained.plan.shape == (3, 8, 4, 4)
    assert_close(explained.plan.sum(dim=2), torch.full((3, 8, 4), 1 / 4))
    assert results(["report", str(output)]) == 0
    page = (output / "report.html").read_text()
    (output / "report.html").unlink()
    assert "Transport in the final test" in page


# --- the scripts -----------------------------------------------------------------------------------------


def test_both_stages_and_the_evaluation_by_their_scripts(world, tmp_path, capsys, monkeypatch):
    extra = ["MODEL.BACKBONE.NAME", str(world / "tiny_vit.pt"), "INPUT.SIZE", "(64, 64)", "OPTIM.MAX_EPOCH", "1"]
    extra += ["DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False", KEY + "PREC", "fp32"]
    monkeypatch.setattr("runs.sweeps.experiments.EXPERIMENTS", shortened("1", ("1", "2")))
    monkeypatch.setenv("DATA", str(world / "data"))
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.delenv("STAGE1_SEED", raising=False)
    words = ["caltech101", "2", *extra]
    for script, complaint in (("main_joint", "nothing to start from"), ("evaluation", "nothing to test")):
        assert experiment([f"plotpp/{script}", *words]) == 2
        assert complaint in capsys.readouterr().err
    for script in ("main_visiononly", "main_joint", "evaluation"):
        assert experiment([f"plotpp/{script}", *words]) == 0
    runs = "OP_N4_M2/caltech101/PLOTPP/vit_1shots/nctx4_cscFalse_ctpend/seed2"
    records = {t: json.loads((tmp_path / f"out_{t}" / runs / "result.json").read_text()) for t in TREES}
    assert records["eval"]["accuracy"] == records["joint"]["accuracy"] and records["eval"]["mode"] == "eval"
    assert [records[t]["config"]["TRAINER"]["PLOTPP"]["TRADE_OFF"] for t in TREES] == [True, False, False]
    log = (tmp_path / "out_joint" / runs / "log.txt").read_text()
    assert f"out_visiononly/{runs}/prompt_learner/model.pth.tar-1" in log and "leak" not in log

    monkeypatch.setenv("STAGE1_SEED", "1")  # the published rule
    monkeypatch.setenv("OUTPUT", str(tmp_path / "again"))
    for script in ("main_visiononly", "main_joint"):
        assert experiment([f"plotpp/{script}", *words]) == 0
    assert not (tmp_path / "again_visiononly" / runs).exists()
    assert "leak between runs" in (tmp_path / "again_joint" / runs / "log.txt").read_text()

    capsys.readouterr()
    assert results(["fewshot", str(tmp_path / "out_joint"), "--seeds", "1", "2"]) in (0, 1)
    assert "PLOTPP N=4 M=2 vit" in capsys.readouterr().out
    assert results(["table", str(tmp_path / "out_joint")]) == 0
    assert "(2)" in capsys.readouterr().out  # two seeds of one method, though each has another start


TREES = ("visiononly", "joint", "eval")


def shortened(shots: str, seeds: tuple[str, ...]) -> dict:
    """The published table with fewer runs in it."""
    from dataclasses import replace

    from runs.sweeps.experiments import EXPERIMENTS

    loops = {"SHOTS": (shots,), "SEED": seeds}
    return {name: replace(e, loops=loops) if name.startswith("plotpp") else e for name, e in EXPERIMENTS.items()}


def test_the_shell_script_reaches_the_table():
    done = subprocess.run(
        [REPOSITORY / "scripts/plotpp/main_joint.sh", "--dry-run", "dtd", "8"], capture_output=True, text=True,
        cwd=REPOSITORY, env={**os.environ, "OUTPUT": "out"}, check=True,
    )
    assert len(done.stdout.splitlines()) == 15
    assert "out_joint/OP_N4_M8/dtd/PLOTPP/vit_16shots/nctx4_cscFalse_ctpend/seed3" in done.stdout


def test_device_of_old_command_lines(world, tmp_path, capsys):
    words = options_of(world, tmp_path / "a", flags=("--device", "cuda:9"))
    assert "cuda:9 was asked for, but this machine has" in failure(capsys, words)
    words = ["--device", "cpu", "--trainer", "PLOTPP", "--backbone", "ViT-B/16", "DATASET.NAME", "Demo"]
    cfg = request_of(words).cfg
    assert cfg.USE_CUDA is False
