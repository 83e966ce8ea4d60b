"""A run or an exported file from somebody else does not choose which file of this machine is opened."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import train
from predict import PredictError, load
from predict.__main__ import main as predict
from results.__main__ import main as results
from runs.files import ResultsError
from runs.restore.rebuilding import load_trainer
from runs.restore.trust import CHECKOUT, check_places, trusting
from tests.predict.test_predict import rewritten
from tests.support.programs import arguments, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run(world) -> Path:
    """Its weights, tiny_rn.pt, lie beside it, not in it."""
    train.run(arguments(world, world / "runs/CoOp", "OPTIM.MAX_EPOCH", "1", trainer="CoOp"))
    return world / "runs/CoOp"


@pytest.fixture
def wary(monkeypatch):
    monkeypatch.delenv("PLOT_TRUSTED")


def test_what_may_be_opened(tmp_path, monkeypatch, wary):
    source, other = tmp_path / "run", tmp_path / "other"
    for folder in (source, other):
        folder.mkdir()
        (folder / "a.pt").touch()
    (source / "link.pt").symlink_to(other / "a.pt")
    for name in ("RN50", "demo-rn", "", str(source / "a.pt"), str(CHECKOUT / "clip/weights/demo_rn.safetensors")):
        check_places(source, name, {"mode": "train", "checkpoint": str(other / "a.pt")})
    check_places(source / "export.safetensors", str(source / "a.pt"), {})
    check_places(source, str(tmp_path / "gone.pt"), {})  # nothing to be opened; others say that it is gone
    monkeypatch.chdir(other)
    for name in ("a.pt", str(other / "a.pt"), str(source / "../other/a.pt"), str(source / "link.pt")):
        with pytest.raises(ResultsError, match=rf"names the weights {name}.*--backbone PATH or --trust-paths"):
            check_places(source, name, {})
        with trusting(), trusting(False):
            check_places(source, name, {})
    with pytest.raises(ResultsError, match="names the checkpoint .*say --trust-paths"):
        check_places(source, "RN50", {"mode": "eval", "checkpoint": str(other / "a.pt")})
    monkeypatch.setenv("PLOT_TRUSTED", f"/nowhere:{other}")
    check_places(source, "a.pt", {})


def test_weights_elsewhere_need_the_users_word(run, world, wary, tmp_path, capsys):
    image = str(next((world / "data").glob("**/*.jpg")))
    assert results(["export", str(run), "--out", str(tmp_path / "a.safetensors"), "--trust-paths"]) == 0
    for source in (run, tmp_path / "a.safetensors"):
        with pytest.raises(PredictError, match="tiny_rn.pt, outside of its folder"):
            load(source)
        by_flag = load(source, device="cpu", trust_paths=True)(image)[0]
        named = load(source, device="cpu", backbone=str(world / "tiny_rn.pt"))(image)[0]
        assert by_flag.logits.tolist() == named.logits.tolist()
        assert predict([str(source), image, "--device", "cpu"]) == 2
        assert "tiny_rn.pt, outside of its folder" in capsys.readouterr().err
        assert predict([str(source), image, "--device", "cpu", "--trust-paths"]) == 0
    hidden = rewritten(tmp_path / "a.safetensors", tmp_path / "d.safetensors", lambda about: about["config"].update(
        {"MODEL.BACKBONE.NAME": f"EVA02-B-16/{world / 'tiny_rn.pt'}"}))
    with pytest.raises(PredictError, match="the weights /.*tiny_rn.pt, outside of its folder"):
        load(hidden)
    for command in (["words", str(run)], ["export", str(run), "--out", str(tmp_path / "b.safetensors")]):
        assert results(command) == 2
        assert "tiny_rn.pt, outside of its folder" in capsys.readouterr().err
        assert results([*command, "--trust-paths"]) == 0
        assert results([*command, "--backbone", str(world / "tiny_rn.pt")]) == 0
    shutil.copy(world / "tiny_rn.pt", tmp_path)  # beside the exported file: it came with it
    beside = rewritten(tmp_path / "a.safetensors", tmp_path / "c.safetensors", lambda about: about["config"].update(
        {"MODEL.BACKBONE.NAME": str(tmp_path / "tiny_rn.pt")}))
    assert load(beside, device="cpu")(image)[0].logits.tolist() == named.logits.tolist()


def test_a_checkpoint_elsewhere_needs_the_users_word(run, world, wary, tmp_path, capsys):
    flags = ("--eval-only", "--model-dir", str(run))  # the user's own word
    train.run(arguments(world, tmp_path / "eval", trainer="CoOp", flags=flags))
    weights = ["--backbone", str(world / "tiny_rn.pt")]
    with pytest.raises(PredictError, match="names the checkpoint .*model.pth.tar-1, outside.*say --trust-paths"):
        load(tmp_path / "eval", backbone=weights[1])
    assert results(["words", str(tmp_path / "eval"), *weights]) == 2
    assert "names the checkpoint" in capsys.readouterr().err
    assert results(["words", str(tmp_path / "eval"), *weights, "--trust-paths"]) == 0
    load(tmp_path / "eval", backbone=weights[1], trust_paths=True)


def test_a_rebuilt_run_takes_no_other_place_from_its_config(run, world, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    config = (copied / "config.yaml").read_text().replace("INIT_WEIGHTS: ''", "INIT_WEIGHTS: /etc/passwd")
    config = config.replace("PRETRAIN_DIR: ''", "PRETRAIN_DIR: /etc").replace("  DIR: ''", "  DIR: /etc")
    assert config.count("/etc") >= 3
    (copied / "config.yaml").write_text(config)
    assert "/etc" not in str(load_trainer(copied).cfg)


def test_a_checkpoint_that_changed_since_it_was_tested_is_named(run, tmp_path, capsys):
    copied = shutil.copytree(run, tmp_path / "run")
    file = copied / "prompt_learner/model.pth.tar-1"
    record = json.loads((copied / "result.json").read_text())
    assert record["checkpoint"] == "prompt_learner/model.pth.tar-1"
    assert list(record["checkpoints_sha256"]) == ["prompt_learner"]
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\1\2") + 12] ^= 1  # the time of a member: no checksum of the archive has it
    file.write_bytes(content)
    for command in (["words", str(copied)], ["export", str(copied)]):
        assert results(command) == 2
        assert "model.pth.tar-1 is damaged or was replaced: its SHA-256" in capsys.readouterr().err
    with pytest.raises(PredictError, match=r"model.pth.tar-1 is damaged or was replaced"):
        load(copied)
