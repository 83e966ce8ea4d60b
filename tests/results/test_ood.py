"""Foreign images: scores as recorded, measures by counting, and the command on runs with and without places."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import train
from results.__main__ import main
from results.figures.ood import ood_figure
from results.figures.style import drawing
from results.inspection.foreign import foreign_images
from results.inspection.ood import loader_of, score_images
from results.inspection.ood_scores import ood_scores, separate
from results.numbers.ood import SCORES, read_detection
from results.tables.ood import format_ood
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.data import write_class_folders, write_picture
from tests.support.golden_data import GOLDEN, read_npz
from tests.support.programs import arguments, make_world
from trainers.parts.model import ClassCosines

CASES = [path for kind in ("gallop", "sotglp") for path in sorted((GOLDEN / kind).glob("*.npz"))]
RECORDED = [path for path in CASES if "ood_mcm" in np.load(path).files]

# --- scores and measures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDED, ids=[f"{path.parent.name}-{path.stem}" for path in RECORDED])
def test_scores_are_the_recorded_ones(path):
    arrays, _ = read_npz(path)
    pooled, places = (torch.from_numpy(arrays[name]).mean(dim=-1) for name in ("sim_global", "sim_local"))
    for temperature, suffix in ((1.0, ""), (1000.0, "_T1000")):
        if f"ood_mcm{suffix}" not in arrays:
            continue
        for name, score in ood_scores(ClassCosines(pooled, places), temperature).items():
            recorded = arrays[f"ood_{name.lower().replace('-', '_')}{suffix}"]
            assert_close(score, recorded, 1e-6)
            # what differs between images is little at a high temperature, and recorded in float32
            assert_close(score - score.mean(), recorded - recorded.mean(), 1e-4 if temperature == 1 else 2e-2)


def test_there_are_recorded_scores_of_both_programs_and_temperatures():
    assert {path.parent.name for path in RECORDED} == {"gallop", "sotglp"} and len(RECORDED) > 10
    assert any("ood_gl_mcm_T1000" in np.load(path).files for path in RECORDED)


def test_an_image_is_as_known_as_its_best_place():
    cosines = ClassCosines(torch.randn(40, 5), torch.randn(40, 7, 5))
    scores = ood_scores(cosines, 0.3)
    assert cosines.places is not None
    each = [ood_scores(ClassCosines(place), 0.3)["MCM"] for place in cosines.places.unbind(dim=1)]
    assert torch.equal(scores["L-MCM"], torch.stack(each).amin(dim=0))
    assert torch.equal(scores["GL-MCM"], scores["MCM"] + scores["L-MCM"])
    assert_close(scores["MCM"], -(cosines.pooled / 0.3).softmax(dim=1).amax(dim=1))
    assert list(ood_scores(ClassCosines(cosines.pooled))) == ["MCM"]


levels = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(levels, levels)
def test_measures_are_those_of_counting(known, foreign):
    """Of scores with many ties."""
    measured = separate(np.array(known, float), np.array(foreign, float))
    accepts = next(level for level in range(10) if 100 * sum(one <= level for one in known) >= 95 * len(known))
    assert measured.fpr95 == pytest.approx(100 * np.mean(np.array(foreign) <= accepts))
    pairs = [(other > one) + (other == one) / 2 for one in known for other in foreign]
    assert measured.auroc == pytest.approx(100 * np.mean(pairs))
    precision, recall, before = 0.0, 0.0, 0.0
    for level in range(9, -1, -1):  # the more are called foreign, the more of the foreign are found
        found, wrong = sum(one >= level for one in foreign), sum(one >= level for one in known)
        recall = found / len(foreign)
        precision += (recall - before) * found / max(1, found + wrong)
        before = recall
    assert measured.aupr == pytest.approx(100 * precision)


def test_scores_that_never_meet():
    assert separate(np.arange(20.0), np.arange(20.0, 50.0)) == pytest.approx((0, 100, 100))
    assert separate(np.arange(20.0, 40.0), np.arange(20.0))[:2] == pytest.approx((100, 0))


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """PLOT, CoOp and TipAdapter on two halves of the classes, and folders of other pictures."""
    world = make_world(tmp_path_factory.mktemp("world"))
    base = ["DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", "1", "DATALOADER.TEST.BATCH_SIZE", "20"]
    for name in ("PLOT", "CoOp", "TipAdapter"):
        train.run(arguments(world, world / name, *base, trainer=name))
    write_class_folders(world / "foreign", {"cat": 6, "Yin  yang": 1, "face": 3, "Leopard": 2}, real=True)
    for number in range(5):
        write_picture(world / "flat" / f"{number}.png", number)
    return world


def record(folder: Path) -> dict:
    return json.loads((folder / "ood.json").read_text())


def plain_scores(trainer, paths: list[Path]) -> dict[str, torch.Tensor]:
    """Of images, one by one."""
    transform, scores = trainer.test_loader.dataset.transform, []
    with torch.no_grad():
        text = F.normalize(trainer.model.encode_prompts(), dim=-1)  # (N, C, D)
        for path in paths:
            image = trainer.model.encode(transform(Image.open(path).convert("RGB"))[None]).normalized()
            pooled, places = ((one @ text.transpose(1, 2)).mean(dim=0) for one in (image.pooled, image.local))
            mcm, local = -pooled.softmax(dim=-1).max(), -places[None].softmax(dim=-1).max()
            scores.append(torch.stack([mcm, local, mcm + local]))
    return dict(zip(SCORES, torch.stack(scores).T, strict=True))


def test_a_run_with_places(world, capsys):
    run, trainer = world / "PLOT", load_trainer(world / "PLOT")
    data = trainer.dm.dataset
    capsys.readouterr()
    assert main(["ood", str(run), "--data", str(world / "foreign"), str(world / "flat")]) == 0
    out, err = capsys.readouterr()
    assert "5 of 12 images" in err and "known to the run (face, leopard)" in err
    found, finished = read_detection(run / "ood.json")
    assert finished == json.loads((run / "result.json").read_text())["finished"]
    assert (found.images, found.temperature, found.note) == (len(data.test), 1.0, "")
    assert [(part.name, part.images, part.left_out) for part in found.foreign] == [("foreign", 7, 5), ("flat", 5, 0)]

    known = plain_scores(trainer, [item.impath for item in data.test])
    kept = sorted(path for name in ("cat", "Yin  yang") for path in (world / "foreign" / name).iterdir())
    for part, paths in zip(found.foreign, (kept, sorted((world / "flat").iterdir())), strict=True):
        scores = plain_scores(trainer, paths)
        for name in SCORES:
            assert part.separation[name] == pytest.approx(separate(known[name].numpy(), scores[name].numpy()))
            assert sum(part.histograms[name]) == len(paths) and sum(found.known[name]) == len(data.test)
    rows = [line.split() for line in out.splitlines() if "MCM" in line]
    assert [row[0] for row in rows] == ["foreign"] * 3 + ["flat"] * 3 + ["mean"] * 3
    assert rows[8][2:] == [f"{value:.2f}" for value in found.mean("GL-MCM")]
    assert Image.open(run / "ood.png").width > 600


def test_a_second_time_nothing_is_encoded(world, monkeypatch):
    trainer = load_trainer(world / "PLOT")
    images = foreign_images(str(world / "flat"), trainer)
    loader = loader_of(trainer, images)
    first = score_images(trainer, loader, "flat", 1000.0)
    monkeypatch.setattr(type(trainer.model.image_encoder), "forward_dense", lambda *_: pytest.fail("encoded again"))
    again = score_images(trainer, loader, "flat", 1000.0)
    for name in SCORES:
        assert np.array_equal(first[name], again[name]) and len(first[name]) == 5


def test_new_classes_are_foreign_to_a_run_on_the_base_ones(world, capsys):
    """Of the same data set: its other classes are left, by its name in any case."""
    assert main(["ood", str(world / "CoOp"), "--data", "caltech101"]) == 0
    out, err = capsys.readouterr()
    assert "24 of 48 images of caltech101 are known to the run" in err
    (part,) = record(world / "CoOp")["foreign"]
    assert (part["images"], part["left_out"], list(part["separation"])) == (24, 24, ["MCM"])
    assert "MCM alone: L-MCM and GL-MCM need features of places" in out and "CoOp compares none" in out


def test_the_report_shows_it(world, tmp_path):
    run, page = tmp_path / "run", tmp_path / "page.html"
    shutil.copytree(world / "CoOp", run)
    assert main(["ood", str(run), "--data", str(world / "flat"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "ood.svg").exists()
    kept = (run / "ood.json").read_text()
    detection, _ = read_detection(run / "ood.json")
    (run / "ood.json").write_text(kept.replace('"finished": "', '"finished": "0'))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "ood.json").write_text(kept.replace('"auroc"', '"area"'))
    assert main(["report", str(tmp_path), "--out", str(page)]) == 0
    shown = page.read_text()
    assert "Foreign images by score" in shown and "Made of an earlier result" in shown
    assert "ood.json cannot be read" in shown
    for text in (kept[:-9], kept.replace('"histograms"', '"counts"'), kept.replace('"MCM": [', '"MCM": [1,'),
                 kept.replace('"edges": {', '"edges": {"L-MCM": [0],'), kept.replace('"schema": 1', '"schema": 2')):
        (run / "ood.json").write_text(text)
        with pytest.raises(ValueError, match="Expect|no valid|not whole|schema"):
            read_detection(run / "ood.json")
    heads, line = format_ood(detection, "csv").splitlines()
    assert heads.startswith("foreign,score,images") and line.startswith("flat,MCM,5,0,24,1.0,")
    assert "MCM" in format_ood(detection, "latex") and "FPR95" in format_ood(detection, "markdown")
    with drawing():
        assert len(ood_figure(detection).axes) == 1


def refused(capsys, run: Path, *places: Path | str) -> str:
    assert main(["ood", str(run), "--data", *map(str, places)]) == 2
    return capsys.readouterr().err


def test_bad_input_is_named(world, tmp_path, capsys):
    run = world / "CoOp"
    assert "did you mean 'groceries'?" in refused(capsys, run, "grocery")
    assert "it is empty" in refused(capsys, run, tmp_path)
    own = Path(load_trainer(run).dm.dataset.test[0].impath)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.jpg").symlink_to(own)
    assert "1 of 1 images" in (said := refused(capsys, run, tmp_path / "flat")) and "files of the run" in said
    assert "none is foreign" in said
    (tmp_path / "flat" / "b.png").write_bytes(b"no picture")
    assert "1 of 1 images" in (said := refused(capsys, run, tmp_path / "flat")) and "b.png" in said
    assert "--data DescribableTextures: no folder" in (said := refused(capsys, run, "dtd")) and "--root" in said
    assert "an adapter are no cosines" in refused(capsys, world / "TipAdapter", world / "flat")
    assert not (world / "TipAdapter" / "ood.json").exists()
    for value in ("0", "nan", "x"):
        with pytest.raises(SystemExit):
            main(["ood", str(run), "--data", str(tmp_path), "--temperature", value])
        assert "no positive number" in capsys.readouterr().err
