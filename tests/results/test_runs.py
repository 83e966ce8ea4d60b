"""Looking into trained runs: the words nearest to their contexts, and the map of prompts and images."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import clip
import train
from results.__main__ import main
from results.figures.maps import draw_map
from results.figures.style import drawing
from results.inspection import maps, words
from results.inspection.maps import map_run
from results.inspection.rebuilt import RunAtRest
from results.inspection.words import find_words, vocabulary
from results.numbers import feature_map
from results.numbers.feature_map import Features, make_map
from runs.files import ResultsError
from runs.restore.images import image_reader
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.programs import arguments, make_world
from tests.support.records import make_record, write_run

STILL = ["OPTIM.MAX_EPOCH", "1", "OPTIM.WARMUP_CONS_LR", "0.0"]  # one epoch in which nothing moves


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Data, weights, and a run of every method in `runs`."""
    folder = make_world(tmp_path_factory.mktemp("world"))
    phrase = "a photo of a"
    for name, trainer, options in (
        ("PLOT", "PLOT", ["TRAINER.PLOT.N", "3"]),
        ("CoOp", "CoOp", [*STILL, "TRAINER.COOP.CTX_INIT", phrase]),
        ("CSC", "PLOT", [*STILL, "TRAINER.PLOT.N", "1", "TRAINER.PLOT.CTX_INIT", phrase, "TRAINER.PLOT.CSC", "True"]),
        ("CoCoOp", "CoCoOp", [*STILL, "TRAINER.COCOOP.CTX_INIT", phrase]),
        ("PLOTPP", "PLOTPP", ["OPTIM.MAX_EPOCH", "1", "TRAINER.PLOTPP.MODEL_UPD", "vision"]),
    ):
        train.run(arguments(folder, folder / "runs" / name, *options, trainer=trainer))
    return folder


def embedding(world: Path) -> torch.Tensor:
    return clip.load_clip_to_cpu(str(world / "tiny_rn.pt")).token_embedding.weight.detach().float()


# --- words: numbers --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(2, 60), st.integers(1, 8), st.integers(0, 2**31 - 1))
def test_nearest_words_are_those_of_all_distances(queries, size, top, seed):
    generator = torch.Generator().manual_seed(seed)
    vectors, table = (torch.randn(count, 6, generator=generator) for count in (queries, size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "AT_ONCE", 7)
        indices, distances = words.nearest(vectors, table, top)
    exact = torch.cdist(vectors.double(), table.double())
    expected = exact.sort(dim=1).values[:, : min(top, size)]
    assert_close(distances.double(), expected, 1e-5)
    assert_close(exact.gather(1, indices), expected, 1e-5)


def test_a_word_is_at_zero_from_itself_however_large():
    table = 1e3 + torch.randn(50, 64, generator=torch.Generator().manual_seed(0))  # where products are coarse
    indices, distances = words.nearest(table, table, 1)
    assert indices[:, 0].tolist() == list(range(50)) and distances.max() == 0


def test_words_that_share_an_embedding_are_left_out():
    table = torch.tensor([[0.0, 0], [3, 0], [0, 0], [3, 4], [5, 5], [5, 5], [3, 1]])
    known = vocabulary(table)
    assert known.ids == [1, 3, 6] and known.size == 7
    assert known.spacing == 1.0  # of 1, 3, 1
    assert known.length == pytest.approx(10**0.5)
    with pytest.raises(ResultsError, match="no embeddings of their own"):
        vocabulary(torch.zeros(5, 2))


# --- words: runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "prompts", "expected"),
    [
        ("CoOp", 1, ["a", "photo", "of", "a"]),
        ("CoCoOp", 1, ["a", "photo", "of", "a"]),
        ("PLOTPP", 4, ["a", "photo", "of", "a"]),
    ],
)
def test_contexts_that_are_words_are_found(world, name, prompts, expected):
    found = find_words(RunAtRest(world / "runs" / name), top=2)
    first = found.vectors[:4]
    assert (found.trainer, found.prompts, found.context, len(found.vectors)) == (name, prompts, 4, 4 * prompts)
    assert [vector.words[0] for vector in first] == expected
    assert [vector.distances[0] for vector in first] == [0.0] * 4
    assert all(vector.distances[1] > 0 for vector in first)


def test_distances_are_those_to_the_backbones_words(world):
    found = find_words(RunAtRest(world / "runs/PLOT"), top=3)
    state = torch.load(world / "runs/PLOT/prompt_learner/model.pth.tar-3", weights_only=False)["state_dict"]
    table = embedding(world)
    assert [(vector.prompt, vector.token) for vector in found.vectors] == [
        (n, j) for n in (1, 2, 3) for j in (1, 2, 3, 4)
    ]
    for vector in found.vectors:
        away = (table - state["ctx"][vector.prompt - 1, vector.token - 1]).norm(dim=1)
        np.testing.assert_allclose(vector.distances, away.sort().values[:3], rtol=1e-5)
        np.testing.assert_allclose(vector.distances, away[vector.token_ids], rtol=1e-5)


def test_no_data_set_is_read(world, tmp_path):
    run = shutil.copytree(world / "runs/PLOT", tmp_path / "moved")
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(str(world / "data"), "/nowhere"))
    assert len(find_words(RunAtRest(run), top=1).vectors) == 12
    record = json.loads((run / "result.json").read_text())
    record["data"].pop("classnames"), record.pop("per_class")
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(ResultsError, match="cannot rebuild"):  # whose classes are not known
        find_words(RunAtRest(run), top=1)
    assert len(find_words(RunAtRest(run, root=str(world / "data")), top=1).vectors) == 12


def test_class_specific_contexts_by_class(world, capsys):
    run = world / "runs/CSC"
    found = find_words(RunAtRest(run), top=1)
    names = list(dict.fromkeys(vector.of_class for vector in found.vectors))
    assert len(names) > 3 and len(found.vectors) == 4 * len(names)
    assert words.pick(["a", "b"], True, ["all"]) == words.pick(["a", "b"], True, []) == [(0, "a"), (1, "b")]
    some = find_words(RunAtRest(run), top=1, classes=[names[2]])
    assert some.vectors == [vector for vector in found.vectors if vector.of_class == names[2]]
    assert main(["words", str(run), "--class", "unicorn"]) == 2
    assert 'no class "unicorn"' in capsys.readouterr().err
    assert main(["words", str(world / "runs/CoOp"), "--class", names[0]]) == 2
    assert "share their context" in capsys.readouterr().err


def test_text_is_interpret_prompts_with_what_it_means(world, capsys):
    assert main(["words", str(world / "runs/CoOp"), "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert "\nprompt 1\n1: ['a'] ['0.0000']\n2: ['photo'] ['0.0000']\n" in out
    assert "4 of 4 vectors are nearer" in out
    assert "different nearest words: 3; the commonest, 'a', is that of 2 of 4 vectors" in out
    main(["words", str(world / "runs/CSC"), "--top", "1"])
    assert out.count("prompt 1") == 1 and ", prompt 1\n1: ['a']" in capsys.readouterr().out
    main(["words", str(world / "runs/CoCoOp")])
    assert "Every image shifts these vectors" in capsys.readouterr().out


def test_json_and_csv_hold_the_same(world, tmp_path, capsys):
    run = str(world / "runs/PLOT")
    assert main(["words", run, "--format", "json", "--out", str(tmp_path / "words.json")]) == 0
    plain = json.loads((tmp_path / "words.json").read_text())
    assert (plain["trainer"], plain["prompts"], plain["context_vectors"]) == ("PLOT", 3, 4)
    assert plain["vocabulary"]["words"] == 49408 and plain["vocabulary"]["median_distance_to_nearest"] > 0
    capsys.readouterr()
    assert main(["words", run, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 3 * len(plain["vectors"])
    assert [row["word"] for row in rows[:3]] == plain["vectors"][0]["words"]
    assert [float(row["distance"]) for row in rows[:3]] == plain["vectors"][0]["distances"]


@pytest.mark.parametrize("command", ["words", "map"])
def test_runs_without_prompts_are_refused(tmp_path, capsys, command):
    assert main([command, str(tmp_path / "no")]) == 2
    write_run(tmp_path, make_record("ZeroshotCLIP", -1, -1))
    assert main([command, str(tmp_path)]) == 2
    (tmp_path / "config.yaml").write_text("TRAINER: {NAME: ZeroshotCLIP}")
    assert main([command, str(tmp_path)]) == 2
    (tmp_path / "result.json").unlink()
    (tmp_path / "config.yaml").write_text("TRAINER: {NAME: PLOT}")
    assert main([command, str(tmp_path)]) == 2
    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    expected = ["does not exist", "no config.yaml", "is a run of ZeroshotCLIP, which", "no checkpoint"]
    assert all(part in complaint for part, complaint in zip(expected, complaints, strict=True))


def test_number_of_words_must_be_positive(world, capsys):
    assert main(["words", str(world / "runs/CoOp"), "--top", "0"]) == 2
    assert "--top must be at least 1, got 0" in capsys.readouterr().err


# --- the map ---------------------------------------------------------------------------------------------


def made_up(prompts: int = 2, images: int = 30, seed: int = 0) -> Features:
    """Three classes, apart along the first two axes; prompts in another place altogether."""
    rng = np.random.default_rng(seed)
    centres = np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [-2, -2, 0, 0]])
    image_label, prompt_label = np.repeat(np.arange(3), images), np.repeat(np.arange(3), prompts)
    return Features(
        centres[image_label] + 0.1 * rng.standard_normal((3 * images, 4)),
        image_label,
        1 + rng.random(3 * images) * (prompts - 1),
        7 * centres[prompt_label] + 0.1 * rng.standard_normal((3 * prompts, 4)) + 1000,
        prompt_label,
        np.tile(np.arange(1, prompts + 1), 3),
    )


@pytest.mark.parametrize("method", feature_map.METHODS)
def test_the_gap_between_the_kinds_is_closed(method):
    found = make_map(made_up(), method, "abc", "title")
    middles = np.stack([found.image_points[found.features.image_label == label].mean(axis=0) for label in range(3)])
    away = np.linalg.norm(found.prompt_points[:, None] - middles, axis=2)
    assert (away.argmin(axis=1) == found.features.prompt_label).all()
    again = make_map(made_up(), method, "abc", "title")
    assert (again.image_points == found.image_points).all() and (again.prompt_points == found.prompt_points).all()
    assert "centred by its own mean" in found.caption and "6 of 6 prompts are most like" in found.caption


def test_pca_shows_the_widest_plane():
    found = make_map(made_up(), "pca", "abc", "title")
    assert "100% of the prompts' lies in this plane" in found.caption
    spread = found.image_points.var(axis=0)
    assert spread[0] >= spread[1] and spread.sum() == pytest.approx(1, rel=0.01)
    assert_close(feature_map.centred(made_up().prompts).mean(axis=0), 0, 1e-9, floor=1)


def test_identical_prompts_are_no_error():
    features = made_up()._replace(prompts=np.ones((6, 4)))
    assert np.isfinite(make_map(features, "pca", "abc", "title").prompt_points).all()


@pytest.mark.parametrize("method", feature_map.METHODS)
def test_one_image_feature_makes_no_map(method):
    whole = made_up(prompts=1)
    alone = whole._replace(images=whole.images[:1], image_label=whole.image_label[:1], decided=whole.decided[:1])
    with pytest.raises(ResultsError, match="--count"):
        make_map(alone, method, "abc", "title")


def test_figure_numbers_the_prompts_of_every_class():
    found = make_map(made_up(prompts=3), "pca", ["cat", "costs $5", "dog"], "title")
    with drawing():
        figure = draw_map(found)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3"] * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "costs $5", "dog"]
    assert figure.legends[1].get_texts()[0].get_text() == "1.00×"
    with drawing():
        assert len(draw_map(make_map(made_up(prompts=1), "pca", "abc", "")).legends) == 1  # nothing to decide


def test_classes_and_images_are_chosen_evenly_or_as_asked(capsys):
    names = [f"c{index}" for index in range(20)]
    assert maps.choose_classes(names, []) == [0, 2, 5, 7, 10, 12, 15, 17]
    assert maps.choose_classes(names[:3], []) == [0, 1, 2]
    assert maps.choose_classes(names, ["c4", "C1"]) == [1, 4]
    for wanted, complaint in ((["x"], 'no class "x"'), (names[:11], "11 are more than colours")):
        with pytest.raises(ResultsError, match=complaint):
            maps.choose_classes(names, wanted)
    with pytest.raises(ResultsError, match="--count must be at least 1, got 0"):
        maps.choose_images([], [0], 0)


@pytest.mark.parametrize(("name", "prompts", "places"), [("PLOT", 3, 9), ("PLOTPP", 4, 4), ("CoOp", 1, 1)])
def test_map_of_a_run(world, name, prompts, places):
    found = map_run(RunAtRest(world / "runs" / name), "pca", classes=["airplane", "yin_yang"], count=2)
    features = found.features
    assert features.images.shape[0] == 2 * 2 * places and features.prompts.shape[0] == 2 * prompts
    np.testing.assert_allclose(np.linalg.norm(features.images, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features.prompts, axis=1), 1, rtol=1e-5)
    labels = {found.classnames.index(one) for one in ("airplane", "yin_yang")}
    assert set(features.image_label.tolist()) == set(features.prompt_label.tolist()) == labels
    assert features.prompt_number.tolist() == [*range(1, prompts + 1)] * 2
    assert (features.decided >= 1 - 1e-9).all() and (features.decided <= prompts).all()


def test_features_are_those_that_the_run_compares(world):
    """Cosines of the map's features, transported, are the logits of the test."""
    trainer = load_trainer(world / "runs/PLOT")
    items = maps.choose_images(trainer.dm.dataset.test, [1], 1)
    features = maps.extract(trainer, items, [0, 1])
    image = image_reader(trainer.cfg)(Path(items[0].impath))[None]
    explained = trainer.explain(image)
    cosines = features.images @ features.prompts.T  # (M, C' * N)
    assert_close(cosines, explained.similarity[0, :2].permute(1, 0, 2).flatten(1), 1e-5, floor=1)
    plan = explained.plan[0, 1].numpy()
    np.testing.assert_allclose(features.decided, plan.max(axis=1) * 3 / plan.sum(axis=1), rtol=1e-4)


def test_map_command_writes_picture_and_numbers_and_the_report_shows_them(world, tmp_path, capsys):
    run = shutil.copytree(world / "runs/PLOT", tmp_path / "run")
    assert main(["map", str(run), "--count", "1"]) == 0
    assert {path.name for path in (run / "map").iterdir()} == {"pca.png", "pca.svg", "pca.npz"}
    first = (run / "map/pca.png").read_bytes()
    assert Image.open(run / "map/pca.png").width > 1000
    with np.load(run / "map/pca.npz") as arrays:
        assert len(arrays["image_points"]) == len(arrays["decided"])
        assert "PLOT on Caltech101: 3 prompts a class" in json.loads(str(arrays["meta"]))["title"]
    main(["map", str(run), "--count", "1", "--out", str(run / "map/pca.png")])
    assert (run / "map/pca.png").read_bytes() == first
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Map of the features of " in page and "prompts are most like the images of their own class" in page
    (run / "map/pca.npz").write_bytes(b"PK torn")
    assert main(["report", str(tmp_path)]) == 0 and "Map of features, pca." in (tmp_path / "report.html").read_text()


def test_cocoop_has_no_map(world, capsys):
    assert main(["map", str(world / "runs/CoCoOp")]) == 2
    assert "CoCoOp, which has no prompts that are the same for every image" in capsys.readouterr().err
