"""Learned prompts to share: the card, the hub's names, uploads and downloads, against a hub on this machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import plot
import train
from predict import load
from predict.__main__ import main as predict
from results.__main__ import main as results
from results.sharing.card import card_text
from runs.files import ResultsError
from runs.record import read_result
from runs.restore.hub import FILE, HubPlace, fetch_export, place_of
from runs.restore.rebuilding import open_source
from runs.restore.source import RunFolder
from tests.support.closeness import assert_close
from tests.support.programs import arguments, failure, make_world
from tests.support.writable_hub import WritableHub


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run of CoOp, with class contexts of one epoch, and the hub that nobody has uploaded to."""
    world = make_world(tmp_path_factory.mktemp("world"))
    train.run(arguments(world, world / "coop", "OPTIM.MAX_EPOCH", "1", trainer="CoOp"))
    return world


@pytest.fixture(scope="module")
def exported(world) -> bytes:
    assert results(["export", str(world / "coop"), "--out", str(world / "out" / "a.safetensors")]) == 0
    return (world / "out" / "a.safetensors").read_bytes()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with WritableHub({}) as hub:
        hub.reach(monkeypatch, tmp_path / "cache")
        yield hub


@pytest.fixture
def run(world, tmp_path) -> Path:
    """A copy of the run, for tests that write beside it."""
    return shutil.copytree(world / "coop", tmp_path / "run")


def pictures(world: Path) -> list[str]:
    return [str(path) for path in sorted((world / "data").rglob("*.jpg"))[:3]]


# --- the card --------------------------------------------------------------------------------------------


def front_matter(card: str) -> dict:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_says_what_the_run_has_recorded(run, world, capsys):
    assert results(["export", str(run)]) == 0
    said = capsys.readouterr().out
    card = (run / "README.md").read_text()
    assert f"written: {run / FILE}" in said and f"written: {run / 'README.md'}" in said
    record, front = read_result(run), front_matter(card)
    assert (front["library_name"], front["metrics"]) == ("plot-prompt-learning", ["accuracy"])
    assert "license" not in front and {"clip", "prompt-learning", "coop"} <= set(front["tags"])
    ((index,),) = (entry["results"] for entry in front["model-index"])
    assert index["metrics"][0]["value"] == round(record["accuracy"], 2)
    assert index["dataset"]["name"] == "Caltech101"
    for text in ("# CoOp on Caltech101, tiny_rn.pt, 2 shots",
                 f"{record['accuracy']:.2f} % on {record['total']:,} images", "| seed | 1 |",
                 f"python -m predict {FILE} photos --backbone WEIGHTS",
                 ", ".join(record["data"]["classnames"]), "96 x 96 pixels", "transparency was dropped"):  # fmt: skip
        assert text in card, text
    settings = card[card.index("## Training") :]
    assert "(`configs/trainers/CoOp/rn50.yaml`), except:" in settings
    for row in ("| `OPTIM.MAX_EPOCH` | 200 | 1 |", "| `TRAINER.COOP.N_CTX` | 16 | 4 |",
                "| `DATALOADER.TRAIN_X.BATCH_SIZE` | 32 | 4 |", "| `TRAINER.COOP.PREC` | fp16 | fp32 |"):  # fmt: skip
        assert row in settings
    assert settings.count("\n| `") == 4
    assert str(world) not in card  # where anything lay is nobody's business


def published_run(world: Path, **changes: object) -> RunFolder:
    """The run as if it had other settings."""
    source = RunFolder.open(world / "coop")
    return RunFolder(source.path, {**source.config, **changes}, source.result, source.method)


def test_the_card_of_a_run_as_published(world):
    changes = {"MODEL.BACKBONE.NAME": "RN50", "TRAINER.COOP.PREC": "fp16", "OPTIM.MAX_EPOCH": 50,
               "TRAINER.COOP.N_CTX": 16, "DATALOADER.TRAIN_X.BATCH_SIZE": 32, "INPUT.SIZE": (224, 224)}  # fmt: skip
    source = published_run(world, **changes)
    card = card_text(source, ["cat"], FILE, "me/cats")
    assert "With the published settings (`configs/trainers/CoOp/rn50_ep50.yaml`)." in card
    assert front_matter(card)["base_model"] == "timm/resnet50_clip.openai"
    assert "python -m predict hf://me/cats photos\n" in card and 'plot.load("hf://me/cats")' in card
    other = card_text(published_run(world, **changes | {"MODEL.BACKBONE.NAME": "hf://openai/clip@v1"}), ["a"], FILE)
    assert front_matter(other)["base_model"] == "openai/clip"


def test_names_on_a_card_are_only_text(world):
    source = published_run(world, **{"DATASET.NAME": "<b>*x*|"})
    source.result["dataset"] = "<b>*x*|"
    names = ["<script>alert(1)</script>", "```\n# heading", "\x1b[2J"]
    card = card_text(source, names, FILE)
    body = card[card.index("\n# ") :]
    assert "<b>" not in body and "\x1b" not in card and body.count("```") % 2 == 0 and "\n# heading" not in card
    assert front_matter(card)["model-index"][0]["results"][0]["dataset"]["name"] == "<b>*x*|"
    many = card_text(source, [f"class {number}" for number in range(1000)], FILE)
    assert "class 399" in many and "class 400" not in many and "And 600 more" in many


def test_a_readme_that_is_there_stays(run, tmp_path, capsys):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "README.md").write_text("# My project\n")
    words = ["export", str(run), "--out", str(folder / "pets.safetensors")]
    assert results(words) == 0 and (folder / "README.md").read_text() == "# My project\n"
    card = folder / "pets.md"
    written = card.read_text()
    assert written.startswith("---\nlibrary_name: plot") and f"written: {card}" in capsys.readouterr().out
    card.write_text(written.replace("Not stated.", "MIT."))
    assert results(words) == 0 and "MIT." in card.read_text()
    assert f"left as it was: {card} (delete it" in capsys.readouterr().out
    card.write_text("my notes")
    assert results(words) == 2 and card.read_text() == "my notes"
    assert f"{card} is there already and is no card" in capsys.readouterr().err


# --- uploading -------------------------------------------------------------------------------------------


def test_what_is_pushed_is_predicted_with(run, world, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    (run / "secret.txt").write_text("mine")
    assert results(["export", str(run), "--push", "me/cats", "--private"]) == 0
    assert f"uploaded: {hub.base}/me/cats\n" in capsys.readouterr().out
    assert sorted(hub.repos["me/cats"]) == [".gitattributes", "README.md", FILE] and hub.private == {"me/cats"}
    assert hub.repos["me/cats"][FILE] == (run / FILE).read_bytes()
    assert b"python -m predict hf://me/cats photos" in hub.repos["me/cats"]["README.md"]
    assert hub.commits == [("me/cats", "main", f"Upload {FILE}", [FILE, "README.md"])]
    monkeypatch.delenv("HF_TOKEN")
    del hub.requests[:]
    expected = load(run, device="cpu")(pictures(world))
    for classifier in (load("hf://me/cats", device="cpu", trust_paths=True),
                       plot.load("hf://me/cats", device="cpu", trust_paths=True)):  # fmt: skip
        for theirs, ours in zip(classifier(pictures(world)), expected, strict=True):
            assert np.array_equal(theirs.logits, ours.logits)
    assert {path.rpartition("/")[2] for path, _ in hub.requests if "/resolve/" in path} == {FILE}  # and nothing else
    words = ["hf://me/cats", *pictures(world), "--device", "cpu", "--trust-paths", "--format", "json"]
    assert predict(words) == 0
    assert [entry["predictions"][0]["class"] for entry in json.loads(capsys.readouterr().out)] == [
        prediction.best for prediction in expected
    ]


def test_pushing_again_and_to_a_branch(run, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    push = ["export", str(run), "--push", "hf://me/cats"]
    assert results(push) == 0 and results([*push, "--revision", "v2"]) == 0
    assert f"uploaded: {hub.base}/me/cats/tree/v2\n" in capsys.readouterr().out
    assert [commit[:2] for commit in hub.commits] == [("me/cats", "main"), ("me/cats", "v2")] and not hub.private
    assert hub.branches["me/cats", "v2"][FILE] == (run / FILE).read_bytes()


@pytest.mark.parametrize(("words", "said"), [
    (["--push", "cats"], "--push cats: write USER/REPOSITORY"),
    (["--push", "me/../cats"], "write USER/REPOSITORY"),
    (["--push", "me/cats"], "there is none here; set HF_TOKEN to a token that may write .*, or run `hf auth login`"),
    (["--private"], "they need --push"),
])  # fmt: skip
def test_what_is_wrong_with_a_push_is_said_before_anything_is_made(run, hub, capsys, words, said):
    assert results(["export", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert not (run / FILE).exists() and not hub.writes and not hub.requests


def test_a_push_that_is_refused(run, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert results(["export", str(run), "--push", "me/cats"]) == 2
    assert "refused the upload to me/cats: " in (said := capsys.readouterr().err) and "may it write?" in said
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert results(["export", str(run), "--push", "you/cats"]) == 2
    assert "refused the upload to you/cats: " in capsys.readouterr().err and not hub.repos
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert results(["export", str(run), "--push", "me/cats"]) == 2
    assert "--push needs the hub, and HF_HUB_OFFLINE is set" in capsys.readouterr().err


# --- names of the hub ------------------------------------------------------------------------------------


def test_names_of_the_hub():
    assert place_of("hf://a/b") == HubPlace("a/b", None, "") and place_of("hf://a/b").file == FILE
    assert place_of("hf://a/b@v1.0/pets/small/") == HubPlace("a/b", "v1.0", "pets/small")
    assert place_of("hf://a/b@refs/pr/1/pets").file == f"pets/{FILE}"
    assert place_of("hf://a/b@refs/pr/1") == HubPlace("a/b", "refs/pr/1", "")
    for wrong in ("hf://a", "hf://", "hf:///a/b", "hf://a/b/../c", "hf://a/b@", "hf://a/b/x@v1"):
        with pytest.raises(ResultsError, match=r"write hf://USER/REPOSITORY\[@REVISION\]\[/FOLDER\]"):
            place_of(wrong)


def test_a_revision_and_a_folder(hub, exported):
    hub.repos["some/cats"] = {f"small/{FILE}": exported, "README.md": b"", "model.bin": b"not to be got"}
    commit = hub.commit("some/cats")
    path = fetch_export(f"hf://some/cats@{commit}/small")
    assert path.read_bytes() == exported and commit in path.parts
    assert not any("model.bin" in request or "README" in request for request, _ in hub.requests)


def test_without_the_hub_the_cache_serves(hub, exported, monkeypatch):
    hub.repos["some/cats"] = {FILE: exported}
    path = fetch_export("hf://some/cats")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    del hub.requests[:]
    assert fetch_export("hf://some/cats") == path and not hub.requests
    with pytest.raises(ResultsError, match="HF_HUB_OFFLINE is set, and it was not fetched before; unset it and get"):
        fetch_export("hf://some/dogs")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.status = 500  # it is down
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its client's tries
    assert fetch_export("hf://some/cats") == path
    with pytest.raises(ResultsError, match=r"cannot get hf://some/dogs from http.*get the file elsewhere.*HF_ENDPOINT"):
        fetch_export("hf://some/dogs")


def test_what_cannot_be_had_is_said_with_what_to_do(hub, exported, monkeypatch, world, capsys):
    hub.repos |= {"some/empty": {}, "some/model": {"model.bin": b"x", "config.json": b"{}"},
                  "some/private": {FILE: exported}, "some/gated": {FILE: exported}}  # fmt: skip
    hub.closed, hub.gated = {"some/private"}, {"some/gated"}
    for name, said in {
        "hf://some/none": "there is no such repository, .*; look for a slip in the name; .*HF_TOKEN, .*`hf auth login`",
        "hf://some/private": "for a private one set HF_TOKEN, or log in with `hf auth login`",
        "hf://some/gated": f"accept its conditions at {hub.base}/some/gated, and set HF_TOKEN",
        "hf://some/model@v9": "it has no revision 'v9'",
        "hf://some/model": rf"holds no {FILE} \(it holds model.bin, config.json\); `python -m results export RUN --p",
        "hf://some/empty": r"\(it is empty\)",
    }.items():
        with pytest.raises(ResultsError, match=said):
            open_source(name)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert open_source("hf://some/private").trainer == "CoOp"
    assert predict(["hf://some/none", str(world / "data")]) == 2
    assert "error: cannot get hf://some/none from " in capsys.readouterr().err
    hub.repos["some/other"] = {FILE: b"\x80\x04not safetensors"}
    assert predict(["hf://some/other", str(world / "data")]) == 2
    assert "is no safetensors file" in capsys.readouterr().err


# --- testing what was shared -----------------------------------------------------------------------------


def test_train_tests_what_was_shared(world, hub, exported, tmp_path, capsys):
    hub.repos["some/cats"] = {FILE: exported}
    flags = ["--eval-only", "--model-dir", "hf://some/cats"]
    record = train.run(arguments(world, tmp_path / "eval", trainer="CoOp", flags=flags))
    trained = read_result(world / "coop")
    assert record["accuracy"] == trained["accuracy"]
    assert record["checkpoint"].endswith(f"{hub.commit('some/cats')}/{FILE}")
    assert "Note: this test" not in (tmp_path / "eval" / "log.txt").read_text()
    picture = pictures(world)[:1]
    again = load(tmp_path / "eval", device="cpu", trust_paths=True)(picture)
    assert_close(again[0].logits, load(world / "coop", device="cpu")(picture)[0].logits, 1e-5)
    file = str(world / "out" / "a.safetensors")  # a file of this machine will do, too
    options = ("TRAINER.COOP.CLASS_TOKEN_POSITION", "front")
    local = train.run(
        arguments(world, tmp_path / "local", *options, trainer="CoOp", flags=["--eval-only", "--model-dir", file])
    )
    assert local["checkpoint"] == file
    assert "TRAINER.COOP.CLASS_TOKEN_POSITION was 'end', is 'front'" in (tmp_path / "local" / "log.txt").read_text()
    other = arguments(world, tmp_path / "other", trainer="PLOT", flags=flags)
    assert "was learned by CoOp, and the trainer here is PLOT; say --trainer CoOp" in failure(capsys, other)
    nothing = arguments(world, tmp_path / "none", trainer="CoOp", flags=["--eval-only", "--model-dir", "hf://some/none"])
    assert "cannot get hf://some/none from " in failure(capsys, nothing) and not (tmp_path / "none").exists()


def test_prompts_of_single_classes_are_tested_on_these(world, hub, tmp_path, capsys):
    csc = ("OPTIM.MAX_EPOCH", "1", "TRAINER.COOP.CSC", "True")
    train.run(arguments(world, tmp_path / "csc", *csc, trainer="CoOp"))
    assert results(["export", str(tmp_path / "csc"), "--out", str(tmp_path / "csc.safetensors")]) == 0
    flags = ["--eval-only", "--model-dir", str(tmp_path / "csc.safetensors")]
    words = arguments(world, tmp_path / "base", *csc, "DATASET.SUBSAMPLE_CLASSES", "base", trainer="CoOp", flags=flags)
    assert "learned something for each of its 8 classes, and the 4 classes of this data set" in failure(capsys, words)
