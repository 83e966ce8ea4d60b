"""The benchmark runs, compares what it times, and says so; no test looks at a time."""
import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch

from benchmarks import machine, neighbour, original, subjects
from benchmarks.__main__ import main
from benchmarks.floor import operations
from benchmarks.measure import NEW, Process
from benchmarks.sizes import ARCHITECTURES, SUBJECTS, Sizes
from runs.record import read_result
from tests.support.closeness import assert_close
from tests.support.programs import REPOSITORY, arguments, make_world

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
    small = SMALL._replace(backbone="ViT-B/32") if name.startswith("plotpp") else SMALL
    old, new = map(SUBJECTS[name].make(small), ("old", "new"))
    for a, b in zip(old(), new(), strict=True):
        assert_close(a, b, 1e-4)


@pytest.mark.parametrize("trainer", ["PLOT", "CoOp"])
def test_whole_runs_of_the_original_kind_learn_the_same(tmp_path, trainer):
    world = make_world(tmp_path)
    found = {}
    for side, program in (("old", ["-m", "benchmarks.original_trainers"]), ("new", ["train.py"])):
        argv = arguments(world, tmp_path / side, trainer=trainer)
        subprocess.run([sys.executable, *program, *argv], cwd=REPOSITORY, check=True, capture_output=True)
        found[side] = read_result(tmp_path / side)
    old, new = found["old"], found["new"]
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
    assert len(set(subjects.class_names(1000))) == 1000
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
