"""The benchmark runs, compares what it times, and says so; no test looks at a time."""
import json
import os
import signal
import sys
from functools import partial

import pytest
import torch

import train
from benchmarks import machine, neighbour, original, original_local, subjects
from benchmarks.__main__ import main
from benchmarks.floor import operations
from benchmarks.measure import NEW, Process
from benchmarks.sizes import ARCHITECTURES, SUBJECTS, Sizes
from clip.prompt_text import TextEncoder
from runs.record import read_result
from tests.conformance import models as conformance
from tests.conformance.local import learner_of, load
from tests.support import warm
from tests.support.closeness import assert_close
from tests.support.golden_data import GOLDEN, read_npz
from tests.support.programs import REPOSITORY, arguments, make_world
from trainers.local.prompts import GlobalLocalLearner

RECORDED = sorted(path for kind in ("gallop", "sotglp") for path in (GOLDEN / kind).glob("vit_*.npz"))
SMALL = Sizes("RN50", classes=3, prompts=2, context=2, batch=2)


def test_small_run_writes_its_rows(tmp_path, capsys):
    assert main(["--subjects", "text", "matching", "--classes", "2", "--prompts", "2", "--context", "2", "--batch", "2",
                 "--repeats", "1", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert len(rows) == 2 and all(row["difference"] < 1e-4 and row["old"] > 0 < row["new"] for row in rows)
    assert "ratio" in capsys.readouterr().out


@pytest.mark.parametrize("name", SUBJECTS)
def test_old_and_new_agree_on_result_and_gradient(name, monkeypatch):
    few_layers = {"RN50": {"vision_layers": (1, 1, 1, 1)}, "ViT-B/32": {"vision_layers": 2}}
    for backbone, layers in few_layers.items():
        shallow = ARCHITECTURES[backbone] | {"transformer_layers": 2} | layers
        monkeypatch.setitem(ARCHITECTURES, backbone, shallow)
    small = SMALL._replace(backbone="ViT-B/32") if "backbone" in SUBJECTS[name].usual else SMALL
    old, new = map(SUBJECTS[name].make(small), ("old", "new"))
    for a, b in zip(old(), new(), strict=True):
        assert_close(a, b, 1e-4)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_plain_gallop_and_sotglp_are_the_originals(path):
    """On the recorded cases of a ViT."""
    arrays, meta = read_npz(path)
    model = conformance.tiny_clip(meta["model"], path)
    images, labels = conformance.images_and_labels(meta, path)
    learner = learner_of(meta, arrays, model)
    load(learner, arrays)
    text, scale = TextEncoder(model), model.logit_scale.exp()
    out = original_local.forward(path.parent.name, model, text, learner, images, meta["topk"])
    torch.manual_seed(meta["dropout_seed"])
    whole, local = original_local.losses(out, labels, scale, meta["global_dropout_p"])
    (whole + local).backward()
    results = {"sim_global": out.whole, "sim_local": out.similarity, "local_logits": out.local,
               "loss_global": whole, "loss_local": local, "probs": original_local.logits(out, scale).softmax(dim=1)}
    results |= {f"grad.{name.removesuffix('.linear.weight')}": p.grad for name, p in learner.named_parameters()}
    assert {name for name in arrays if name.startswith("grad.")} <= set(results)
    for name, result in results.items():
        assert_close(result.detach(), arrays[name], 1e-4, floor=conformance.SATURATED if name[0] in "gl" else 0.0)


def test_pieces_of_the_text_give_the_same(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "ViT-B/32", ARCHITECTURES["ViT-B/32"] | {"transformer_layers": 2})
    model = subjects.clip_model("ViT-B/32", with_images=False)
    learner = GlobalLocalLearner(["cat", "hot air balloon", "ice"], model, 2, 2, class_specific=True, init="")
    text, results = TextEncoder(model), []
    for rows in (12, 8):  # all classes, and pieces of two
        monkeypatch.setattr(original_local, "ROWS", rows)
        features = original_local.text_features(text, learner)
        results.append([features, *torch.autograd.grad(features.square().sum(), list(learner.parameters()))])
    for whole, in_pieces in zip(*results, strict=True):
        assert_close(in_pieces.detach(), whole.detach(), 1e-4)


@pytest.mark.parametrize("trainer", ["PLOT", "CoOp"])
def test_whole_runs_of_the_original_kind_learn_the_same(tmp_path, trainer):
    world = make_world(tmp_path)
    original_program = [sys.executable, "-m", "benchmarks.original_trainers"]
    argv = arguments(world, tmp_path / "old", trainer=trainer)
    warm.run([*original_program, *argv], cwd=REPOSITORY, check=True)
    old = read_result(tmp_path / "old")
    new = train.run(arguments(world, tmp_path / "new", trainer=trainer))
    assert [entry["loss"] for entry in new["history"]] == pytest.approx([e["loss"] for e in old["history"]], rel=1e-3)
    assert new["accuracy"] == old["accuracy"]
    assert (old.get("transport") is None) and (new.get("transport") is None) == (trainer == "CoOp")


def fails(side):
    raise ValueError("nothing to measure")


@pytest.mark.parametrize("option", ["--classes", "--batch", "--repeats", "--images"])
def test_sizes_are_positive(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main([option, "0"])
    assert stop.value.code == 2 and "give a whole number, 1 or more" in capsys.readouterr().err


def test_a_subject_that_fails_says_why():
    with pytest.raises(ValueError, match="nothing to measure"), Process(NEW, fails):
        pass


def is_killed(side):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_subject_that_is_killed_says_what_to_do():
    with pytest.raises(RuntimeError, match="give fewer --classes"), Process(NEW, is_killed):
        pass


def test_names_are_distinct_and_the_reference_counts_its_iterations():
    assert len(set(subjects.class_names(21841))) == 21841
    assert original.sinkhorn(torch.zeros(2, 3, 4), 0.1)[1] == 2


def test_operations_are_those_of_the_architecture():
    """By hand: 12 layers, E = 512, 24 E^2 a token forwards and as much backwards; the last layer needs less."""
    few, more = (operations(SMALL._replace(classes=classes)) for classes in (3, 6))
    assert few.convolutions == more.convolutions == pytest.approx(2 * 10.7e9, rel=0.02)
    learner = subjects.learner_of(subjects.clip_model("RN50", with_images=False), SMALL._replace(classes=6))
    tokens = 2 * sum(learner.words.lengths[3:])
    assert more.products - few.products == pytest.approx(tokens * 11.5 * 24 * 512**2 * 2, rel=0.1)


def test_a_step_is_the_same_however_its_threads_wait(tmp_path, demo_data):
    demo_data(tmp_path)
    step = partial(neighbour.training_step, folder=str(tmp_path), threads=1)
    row = neighbour.compare("a step", [step], 1)
    assert row.difference == 0 and row.old > 0 < row.new


def test_other_programs_are_noticed():
    """At least as busy as the neighbour that is started here, whatever else runs on this machine."""
    with neighbour.neighbour(1):
        assert any(machine.busy_cores() > 0.5 for _ in range(10))
    assert "others keep 1.5 of" in machine.noise(1.5) and machine.noise(0.0) == ""
    assert machine.processor()
