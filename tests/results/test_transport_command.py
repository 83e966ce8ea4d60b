"""From an image file to a picture of the transport: known answers, the command, bad input."""

from __future__ import annotations

import json
import shutil
import weakref
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from results.__main__ import main
from results.inspection.images import spread_over_classes
from results.inspection.transport import describe, explain, save, write_all
from results.numbers.plans import prompt_maps, relative
from runs.files import ResultsError
from runs.record import read_classnames
from runs.restore.images import image_reader
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.plot_runs import copy_run
from tests.support.records import make_record, write_run

SIZES = {"rn": [(96, 96), (32, 288), (288, 32)], "vit": [(64, 64), (32, 128), (256, 16)]}


def load(run: Path, **options):
    return load_trainer(run, **options)


# --- where the mass is -----------------------------------------------------------------------------------


def paint(path: Path, size: tuple[int, int], grid: tuple[int, int], patches: list[tuple[int, int]]) -> Path:
    """A plain picture, larger and wider than the network sees, with a bright pattern in these cells of what it sees."""
    height, width = size
    side = max(size)
    image = np.full((side, side + side // 2, 3), 90, dtype=np.uint8)
    top, left = (side - height) // 2, (side + side // 2 - width) // 2
    h, w = height // grid[0], width // grid[1]
    pattern = np.where((np.indices((h, w)).sum(axis=0) // 4 % 2)[..., None], [255, 220, 0], [200, 0, 0])
    for row, column in patches:
        image[top + row * h : top + (row + 1) * h, left + column * w : left + (column + 1) * w] = pattern
    Image.fromarray(image).resize((2 * image.shape[1], 2 * side), Image.Resampling.NEAREST).save(path)
    return path


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_mass_is_where_the_picture_says(plot_runs, tmp_path, name, size):
    """Prompt 1 is what the tower says of a picture that is all pattern, prompt 2 of one that has none.  In a picture
    with the pattern in one cell, that cell is prompt 1's, wherever it is.
    """
    trainer = load(plot_runs[name], classnames=["a", "b"])
    trainer.cfg.defrost()
    trainer.cfg.INPUT.SIZE = size  # the trainers ask for squares, the towers for as many places
    grid = {"rn": (size[0] // 32, size[1] // 32), "vit": (size[0] // 16, size[1] // 16)}[name]
    cells = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    read = image_reader(trainer.cfg)
    with torch.no_grad():
        prompts = [
            trainer.model.encode(read(paint(tmp_path / "all.png", size, grid, patches))[None]).local[0].mean(dim=0)
            for patches in (cells, [])
        ]
    text = torch.stack(prompts)[:, None].expand(2, 2, -1)
    trainer.model.encode_prompts = lambda: text
    files = [paint(tmp_path / f"{cell}.png", size, grid, [cell]) for cell in cells]
    for cell, explained in zip(cells, explain(trainer, [(file, 1) for file in files]), strict=True):
        assert explained.grid == grid and explained.picture.shape == (*size, 3)
        assert explained.name == f"{cell}.png" and explained.true_label == 1
        for one in explained.shown:
            maps = prompt_maps(relative(one.plan), grid)
            assert np.unravel_index(maps[0].argmax(), grid) == cell
            assert np.unravel_index(maps[1].argmin(), grid) == cell
            assert maps[0][cell] > 1.5 and (name == "rn" or np.delete(maps[0], cells.index(cell)).max() < 1.2)
            np.testing.assert_allclose(one.plan.sum(axis=0), 1 / 2, rtol=1e-5)
            np.testing.assert_allclose(one.plan.sum(axis=1), 1 / len(cells), rtol=0.05)
        height, width = size[0] // grid[0], size[1] // grid[1]
        top, left = cell[0] * height, cell[1] * width
        patch = explained.picture[top : top + height, left : left + width]
        assert patch[..., 0].mean() - patch[..., 2].mean() > 0.5  # the picture is the crop that the maps lie on


def test_explained_is_what_the_trainer_says(plot_runs):
    trainer = load(plot_runs["vit"])
    items = trainer.dm.dataset.test[:3]
    tensors = [trainer.test_loader.dataset[index]["img"] for index in range(3)]
    for item, tensor, found in zip(
        items, tensors, explain(trainer, [(Path(item.impath), item.label) for item in items]), strict=True
    ):
        expected = trainer.explain(tensor[None])
        np.testing.assert_array_equal(found.logits, expected.logits[0])
        labels = [one.label for one in found.shown]
        assert labels == list(dict.fromkeys([int(found.logits.argmax()), item.label]))
        for one in found.shown:
            np.testing.assert_array_equal(one.plan, expected.plan[0, one.label])
            np.testing.assert_array_equal(one.similarity, expected.similarity[0, one.label])


@pytest.mark.parametrize(
    ("setting", "other", "share"),  # of RN50's 3 x 3 places half the mass, some of it, or all but 4 places
    [("MATCHING: ot\n", "MATCHING: partial\n", 0.5), ("MATCHING: ot\n", "MATCHING: unbalanced\n", None),
     ("TOPK: []", "TOPK: [4]", 5 / 9)],
)  # fmt: skip
def test_what_was_left_out_is_said_everywhere(plot_runs, tmp_path, capsys, setting, other, share):
    """By a matching that may, or by a selection of places: arrays, list, pictures, claims, report."""
    run = copy_run(plot_runs["rn"], tmp_path / "run", setting, other)
    assert main(["transport", str(run), "--count", "1", "--formats", "npz", "svg"]) == 0
    listed = json.loads((run / "transport/index.json").read_text())["pictures"][0]
    arrays = np.load(run / "transport" / listed["files"]["npz"])
    shown = [one["left_out"] for one in listed["classes"]]
    assert_close(arrays["left_out"].mean(axis=1), shown)
    assert_close(arrays["plan"].sum(axis=(1, 2)), 1.0)
    assert share is None or shown[0] == pytest.approx(share, rel=1e-3)
    assert 0 < shown[0] < 1 and f", {shown[0]:.0%} left out" in capsys.readouterr().out
    assert f"{shown[0]:.0%} left out" in (run / "transport" / listed["files"]["svg"]).read_text()
    assert main(["claims", str(run), "--count", "1", "--formats", "json", "svg"]) == 0
    claimed = json.loads((run / "transport/claims.json").read_text())["prompts"][0]["claimed"][0]
    assert 0 < claimed["left_out"] < 1
    assert "Faded: left out." in (run / "transport/claims.svg").read_text().replace("\n", " ")


def test_one_image_at_a_time(plot_runs):
    """Neither images nor plans pile up: files are read as pictures are asked for, and nothing holds what was given."""
    trainer = load(plot_runs["rn"])
    asked = []

    def paths():
        for item in trainer.dm.dataset.test[:12]:
            asked.append(item)
            yield Path(item.impath), item.label

    alive: list[weakref.ref] = []
    for count, explained in enumerate(explain(trainer, paths()), start=1):
        assert len(asked) == count
        alive += [weakref.ref(explained.picture), *(weakref.ref(one.plan) for one in explained.shown)]
        assert all(one.plan.base is None or one.plan.base.size == one.plan.size for one in explained.shown)
        del explained
        assert sum(one() is not None for one in alive) <= 3  # those of the last image, in the generator's frame
    assert count == 12


# --- the command -----------------------------------------------------------------------------------------


def pictures(folder: Path) -> dict:
    return json.loads((folder / "index.json").read_text())


def test_files_of_test_images(plot_runs, tmp_path, capsys):
    run = plot_runs["rn"]
    assert main(["transport", str(run), "--count", "2", "--out", str(tmp_path)]) == 0
    index = pictures(tmp_path)
    assert index["skipped"] == [] and len(index["pictures"]) == 2
    assert capsys.readouterr().out.count("from uniform") == 2
    trainer = load(run)
    labels = {item.impath: item.label for item in trainer.dm.dataset.test}
    for number, one in enumerate(index["pictures"], start=1):
        stem = f"{number:02d}-{Path(one['path']).stem}"
        assert one["files"] == {suffix: f"{stem}.{suffix}" for suffix in ("png", "svg", "npz")}
        assert Image.open(tmp_path / one["files"]["png"]).width > 600
        assert xml.etree.ElementTree.parse(tmp_path / one["files"]["svg"]).getroot().tag.endswith("svg")
        (found,) = explain(trainer, [(Path(one["path"]), labels[one["path"]])])
        with np.load(tmp_path / one["files"]["npz"]) as arrays:
            assert set(arrays) == {
                "picture", "labels", "plan", "similarity", "grid", "logits", "classnames", "meta"
            }  # fmt: skip
            assert arrays["plan"].shape == (len(found.shown), 9, 2) == arrays["similarity"].shape
            np.testing.assert_array_equal(arrays["plan"], [one.plan for one in found.shown])
            np.testing.assert_array_equal(arrays["similarity"], [one.similarity for one in found.shown])
            np.testing.assert_array_equal(arrays["picture"], found.picture)
            np.testing.assert_array_equal(arrays["logits"], found.logits)
            assert arrays["labels"].tolist() == [one.label for one in found.shown]
            assert arrays["grid"].tolist() == [3, 3] and arrays["classnames"].tolist() == list(found.classnames)
            meta = json.loads(str(arrays["meta"]))
        assert meta == describe(found) == {key: one[key] for key in meta}
        assert one["true"] == found.classnames[labels[one["path"]]]
        assert one["classes"][0]["name"] == one["predicted"] and 0 <= one["classes"][0]["distance_from_uniform"] < 1


def test_same_call_same_bytes(plot_runs, tmp_path):
    for folder in ("a", "b"):
        assert main(["transport", str(plot_runs["vit"]), "--count", "1", "--out", str(tmp_path / folder)]) == 0
    first, second = (sorted(path for path in (tmp_path / folder).iterdir()) for folder in ("a", "b"))
    assert [path.name for path in first] == [path.name for path in second] and len(first) == 4
    for one, other in zip(first, second, strict=True):
        assert one.suffix == ".npz" or one.read_bytes() == other.read_bytes()


def test_wrong_images(plot_runs, tmp_path, capsys):
    run = plot_runs["vit"]
    record = json.loads((run / "result.json").read_text())
    wrong = record["total"] - record["correct"]
    call = ["transport", str(run), "--wrong", "--formats", "npz", "--out", str(tmp_path)]
    assert main([*call, "--count", "999"]) == 0
    assert f"{wrong} of {record['total']} test images are taken for another class" in capsys.readouterr().out
    assert len(pictures(tmp_path)["pictures"]) == wrong
    # alone, an image may be stopped at another iteration than in the batch of the test
    assert sum(one["true"] != one["predicted"] for one in pictures(tmp_path)["pictures"]) >= wrong - 1
    one = next(one for one in record["per_class"] if one["correct"] < one["total"])
    assert main([*call, "--count", "999", "--class", one["name"]]) == 0
    shown = pictures(tmp_path)["pictures"]
    assert len(shown) == one["total"] - one["correct"] and {each["true"] for each in shown} == {one["name"]}
    expected = f"{len(shown)} of {one['total']} test images of {one['name']} are taken for another class"
    assert expected in capsys.readouterr().out


def test_images_of_classes(plot_runs, tmp_path, capsys):
    run = plot_runs["rn"]
    call = ["transport", str(run), "--formats", "npz", "--out", str(tmp_path), "--count", "5"]
    assert main([*call, "--class", "Soccer ball", "yin_yang"]) == 0
    assert [one["true"] for one in pictures(tmp_path)["pictures"]] == ["soccer_ball", "yin_yang"] * 2 + ["soccer_ball"]
    capsys.readouterr()
    assert main([*call, "--class", "socker_ball"]) == 2
    error = capsys.readouterr().err
    assert 'no class "socker_ball"; did you mean "soccer_ball"' in error and "It has 8: " in error
    assert main([*call, "--class", "qqq"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_folders_and_files_without_data(plot_runs, tmp_path, capsys):
    run, folder = plot_runs["rn"], tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    item = load(run).dm.dataset.test[0]
    for path in (folder / "deeper/b.jpg", folder / "a.png"):
        Image.open(item.impath).save(path)
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not looked at")
    out = tmp_path / "out"
    call = ["transport", str(run), "--root", str(tmp_path / "nowhere"), "--formats", "npz", "--out", str(out)]
    assert main([*call, "--images", str(folder), item.impath]) == 1
    index, said = pictures(out), capsys.readouterr()
    names = [f"{name}.npz" for name in ("01-a", "02-b", f"03-{Path(item.impath).stem}")]
    assert [one["files"]["npz"] for one in index["pictures"]] == names
    assert {one["true"] for one in index["pictures"]} == {None}
    assert [Path(one["path"]).name for one in index["skipped"]] == ["bad.jpg"]
    assert "bad.jpg" in said.err and "1 of 4 files" in said.err
    assert main([*call, "--images", str(folder / "bad.jpg")]) == 2
    assert pictures(tmp_path / "out")["pictures"] == []
    # in the data set, the true class is known
    assert main(["transport", str(run), *call[4:], "--images", item.impath, str(folder / "a.png")]) == 0
    assert [one["true"] for one in pictures(tmp_path / "out")["pictures"]] == [item.classname, None]


def test_data_that_cannot_be_read_cost_the_true_class_only(plot_runs, tmp_path, capsys):
    picture = shutil.copy(load(plot_runs["rn"]).dm.dataset.test[0].impath, tmp_path / "a.jpg")
    call = ["transport", str(plot_runs["rn"]), "--root", str(tmp_path), "--images", str(picture), "--formats", "npz"]
    assert main([*call, "--out", str(tmp_path / "out")]) == 0
    assert "true classes are not known" in capsys.readouterr().err
    assert [one["true"] for one in pictures(tmp_path / "out")["pictures"]] == [None]


def test_nearest_prompts_have_zero_mass(plot_runs, tmp_path):
    assert main(["transport", str(plot_runs["max"]), "--count", "2", "--out", str(tmp_path)]) == 0
    for one in pictures(tmp_path)["pictures"]:
        with np.load(tmp_path / one["files"]["npz"]) as arrays:
            np.testing.assert_allclose(np.unique(arrays["plan"]), [0, 1 / 9], rtol=1e-6)


def test_visual_prompts_have_no_places(plot_runs, tmp_path):
    assert main(["transport", str(plot_runs["plotpp"]), "--count", "1", "--out", str(tmp_path)]) == 0
    (one,) = pictures(tmp_path)["pictures"]
    with np.load(tmp_path / one["files"]["npz"]) as arrays:
        assert arrays["grid"].tolist() == [] and arrays["plan"].shape[1:] == (4, 4)
    assert "visual 4" in (tmp_path / one["files"]["svg"]).read_text()


def test_nothing_to_show_is_listed_too(plot_runs, tmp_path):
    """As where no test image is wrong: the report shall not go on showing the pictures of the call before."""
    (tmp_path / "index.json").write_text('{"pictures": ["old"]}')
    assert write_all(plot_runs["rn"], load(plot_runs["rn"]), [], tmp_path, ["png"]) == 0
    assert pictures(tmp_path)["pictures"] == []


class Item:
    def __init__(self, label: int, impath: str) -> None:
        self.label, self.impath = label, impath


def test_images_are_chosen_evenly_over_the_classes():
    test = [Item(label, f"{label}_{index}.jpg") for index in range(3) for label in reversed(range(8))]
    assert [item.label for item in spread_over_classes(test, 4)] == [0, 2, 4, 6]
    assert [item.label for item in spread_over_classes(test, 10)] == [*range(8), 0, 1]
    assert len(spread_over_classes(test, 99)) == 24 and spread_over_classes([], 3) == []


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["transport", "claims"])
@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (None, "holds no config.yaml"),
        ("TRAINER: {NAME: PLOT}", "holds no checkpoint"),
        ("TRAINER: [", "cannot be read"),
    ],
)
def test_unfit_run_is_refused_at_once(tmp_path, capsys, command, config, complaint):
    if config:
        (tmp_path / "config.yaml").write_text(config)
    assert main([command, str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("command", ["transport", "claims"])
def test_run_of_another_method_is_refused(tmp_path, capsys, command):
    write_run(tmp_path, make_record("CoOp", 1, 1))
    (tmp_path / "config.yaml").write_text("TRAINER: {NAME: CoOp}")
    (tmp_path / "prompt_learner").mkdir()
    (tmp_path / "prompt_learner/model.pth.tar-50").touch()
    assert main([command, str(tmp_path)]) == 2
    assert "is a run of CoOp, which has no transport plan" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["transport", "claims"])
@pytest.mark.parametrize("record", [None, "{", '{"complete": false}'])
def test_unfinished_run_is_refused(plot_runs, tmp_path, capsys, command, record):
    run = copy_run(plot_runs["rn"], tmp_path / "run")
    (run / "result.json").unlink()
    if record:
        (run / "result.json").write_text(record)
    assert main([command, str(run)]) == 2
    assert "is unfinished" in capsys.readouterr().err


def test_absent_runs_images_and_data(plot_runs, tmp_path, capsys):
    run = str(plot_runs["rn"])
    (tmp_path / "empty").mkdir()
    for call, complaint in {
        (str(tmp_path / "no"),): "does not exist",
        (run, "--images", "nothere.jpg"): "nothere.jpg does not exist",
        (run, "--images", str(tmp_path / "empty")): "(it is empty)",
        (run, "--images", "a.jpg", "--wrong", "--count", "3"): "--wrong and --count choose test images",
        (run, "--count", "0"): "at least 1, got 0",
        (run, "--root", str(tmp_path)): "cannot rebuild",
    }.items():
        assert main(["transport", *call]) == 2, call
        assert complaint in capsys.readouterr().err


def test_what_is_no_image_stops_explain_unless_someone_listens(plot_runs, tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    trainer = load(plot_runs["rn"], classnames=read_classnames(plot_runs["rn"]))
    with pytest.raises(ResultsError, match=r"a\.png"):
        next(explain(trainer, [(tmp_path / "a.png", None)]))
    heard = []
    assert list(explain(trainer, [(tmp_path / "a.png", None)], lambda *told: heard.append(told))) == []
    assert heard[0][0] == tmp_path / "a.png" and "cannot read the image" in heard[0][1]


def test_unwritable_folder_is_an_error(plot_runs, tmp_path):
    trainer = load(plot_runs["rn"])
    (found,) = explain(trainer, [(Path(trainer.dm.dataset.test[0].impath), None)])
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cannot write"):
        save(found, tmp_path / "file" / "a", ["npz"])
