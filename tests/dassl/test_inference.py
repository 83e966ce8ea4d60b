"""Trainers without data: what a run has learned, with class names in the place of images."""
import json
import shutil

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY
from results.__main__ import main as results
from runs.files import ResultsError
from runs.record import read_classnames
from runs.restore.rebuilding import load_trainer
from runs.restore.source import PredictError, evaluated_checkpoint
from tests.support.closeness import assert_close
from tests.support.programs import arguments, make_world

TRAINERS = [name for name in TRAINER_REGISTRY.registered_names()
            if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_predicts_without_data_as_with_it(world, tmp_path, trainer):
    run = tmp_path / "run"
    train.run(arguments(world, run, "OPTIM.MAX_EPOCH", "1", trainer=trainer))
    whole = load_trainer(run)
    names = read_classnames(run)
    assert names == list(whole.dm.dataset.classnames)
    alone = load_trainer(run, root="nowhere", classnames=names)
    images = next(iter(whole.test_loader))["img"][:4]
    with torch.no_grad():
        for one in (whole, alone):
            one.set_model_mode("eval")
        expected, found = whole.model_inference(images), alone.model_inference(images)
        assert torch.equal(found, expected)
        others = ["goose", *names[1:], "very new thing"]
        if getattr(getattr(whole, "options", None), "class_specific", False):
            with pytest.raises(PredictError, match="none for 2 of the 9 classes"):
                load_trainer(run, root="nowhere", classnames=others)
            return
        others = load_trainer(run, root="nowhere", classnames=others)
        others.set_model_mode("eval")
        again = others.model_inference(images)
    assert again.shape == (len(images), len(names) + 1)
    if "PLOT" not in trainer:  # there, classes share the rule that stops the transport
        assert_close(again[:, 1 : len(names)], expected[:, 1:], 1e-5)


def test_an_evaluation_stands_for_the_checkpoint_that_it_evaluated(world, tmp_path, capsys):
    """So that checkpoints of other programs, which come without a record, can be looked into as well."""
    run, bare, evaluated = tmp_path / "run", tmp_path / "bare", tmp_path / "evaluated"
    train.run(arguments(world, run, "TRAIN.CHECKPOINT_FREQ", "1"))
    (bare / "prompt_learner").mkdir(parents=True)
    for epoch in (2, 3):
        shutil.copy(run / "prompt_learner" / f"model.pth.tar-{epoch}", bare / "prompt_learner")
    train.run(arguments(world, evaluated, flags=["--eval-only", "--model-dir", str(bare), "--load-epoch", "2"]))
    assert evaluated_checkpoint(evaluated) == (str(bare), 2) and evaluated_checkpoint(run) == (str(run), 3)
    names = read_classnames(evaluated)
    second = load_trainer(run, classnames=names)
    second.load_model(str(run), epoch=2)
    ctx = [load_trainer(evaluated, classnames=names).model.prompt_learner.ctx, second.model.prompt_learner.ctx]
    assert torch.equal(*ctx)
    assert results(["transport", str(evaluated), "--count", "1", "--formats", "png"]) == 0
    assert results(["words", str(evaluated)]) == results(["export", str(evaluated)]) == 0
    shutil.rmtree(bare)
    assert results(["words", str(evaluated)]) == 2
    assert f"it evaluated {bare}/prompt_learner/model.pth.tar-2, which is gone" in capsys.readouterr().err


def test_a_record_that_does_not_tell_the_classes(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"data": {"classes": 2}}))
    assert read_classnames(tmp_path) is None
    assert read_classnames(tmp_path / "nowhere") is None


@pytest.mark.parametrize("few", [[], ["cat"]])
def test_fewer_than_two_classes_are_an_error(world, tmp_path, few):
    train.run(arguments(world, tmp_path / "run", trainer="ZeroshotCLIP", flags=["--eval-only"]))
    with pytest.raises(ResultsError, match="at least two classes"):
        load_trainer(tmp_path / "run", classnames=few)
