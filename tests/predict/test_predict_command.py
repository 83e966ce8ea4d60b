"""python -m predict: formats, what is found in folders, exit status, and what is said about bad input."""
from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wcwidth import wcswidth

import train
from dassl.plain.image_formats import image_suffixes
from predict.__main__ import main
from predict.read_ahead import read_ahead
from results.__main__ import main as results
from runs.restore.images import find_images
from runs.restore.source import PredictError
from tests.support import warm
from tests.support.data import BAD_IMAGES, write_bad_images
from tests.support.programs import REPOSITORY, arguments, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("world"))
    train.run(arguments(world, world / "zero", trainer="ZeroshotCLIP", flags=["--eval-only"]))
    train.run(arguments(world, world / "plot", "OPTIM.MAX_EPOCH", "1"))
    return world


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five images, and files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    shades = np.random.default_rng(1).integers(0, 255, (5, 20, 30, 3), dtype=np.uint8)
    for name, shade in zip(["b.png", "a.jpg", "deep/er/c.JPEG", "d, e.tif", "f.webp"], shades, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shade).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    for name in (".hidden.png", ".git/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no image")
    return folder


def names_in(world: Path) -> list[str]:
    return json.loads((world / "zero" / "result.json").read_text())["data"]["classnames"]


def predicted(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    said = capsys.readouterr()
    return status, said.out, said.err


# --- formats ---------------------------------------------------------------------------------------------


def test_json_is_an_array_with_an_object_a_line(world, photos, capsys):
    status, text, err = predicted(capsys, world / "zero", photos, "--format", "json", "--top", "99", "--device", "cpu")
    assert (status, err) == (0, "")
    found = json.loads(text)
    assert [json.loads(line.rstrip(",")) for line in text.splitlines()[1:-1]] == found
    assert [Path(entry["path"]).name for entry in found] == ["a.jpg", "b.png", "d, e.tif", "c.JPEG", "f.webp"]
    for entry in found:
        scores = entry["predictions"]
        assert sorted(score["class"] for score in scores) == sorted(names_in(world))
        probabilities = [score["probability"] for score in scores]
        assert sum(probabilities) == pytest.approx(1, rel=1e-12) and probabilities == sorted(probabilities)[::-1]
        logits = np.array([score["logit"] for score in scores])
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), probabilities, rtol=1e-9)


def test_csv_and_table_say_the_same(world, photos, capsys):
    out = photos.parent / "written" / "predictions.csv"
    status, text, err = predicted(capsys, world / "plot", photos, "--top", "2", "--out", out, "--device", "cpu")
    assert (status, text) == (0, "") and "written: " in err
    with open(out, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "rank", "class", "probability"] and len(rows) == 10
    assert [row["rank"] for row in rows] == ["1", "2"] * 5
    assert {row["path"] for row in rows} == set(map(str, find_images([photos])))
    _, text, _ = predicted(capsys, world / "plot", photos, "--top", "2", "--device", "cpu")
    heading, *lines = text.splitlines()
    assert heading.split() == "image class 1 prob. class 2 prob.".split()
    for line, *ranked in zip(lines, rows[::2], rows[1::2], strict=True):
        words = [word for row in ranked for word in (*row["class"].split(), f"{float(row['probability']):.3f}")]
        path, shown = ranked[0]["path"], line[: heading.index("class 1")].rstrip()
        assert shown == path or (shown[0] == "…" and path.endswith(shown[1:]) and len(shown) == 60)
        assert line[heading.index("class 1") :].split() == words and len(line) == len(heading)
        assert line.index(words[0]) == heading.index("class 1")


def test_columns_stay_in_line_whatever_the_names(world, photos, capsys):
    names = ["猫", "n" * 40, "a fairly long name of a class"]
    status, text, _ = predicted(
        capsys, world / "zero", photos, "--classes", *names, "--threshold", "1", "--top", "9", "--device", "cpu"
    )
    lines = text.splitlines()
    assert status == 0 and len({wcswidth(line) for line in lines}) == 1 and len(lines) == 6
    assert "n" * 23 + "…" in text and "n" * 24 not in text
    assert any("none of these" in line for line in lines[1:]) and lines[0].split()[:2] == ["image", "answer"]


# --- none of these ---------------------------------------------------------------------------------------


def test_what_is_not_likely_enough_is_none_of_these(world, photos, capsys):
    words = [world / "plot", photos, "--device", "cpu", "--top", "1"]
    plain = json.loads(predicted(capsys, *words, "--format", "json")[1])
    best = sorted(entry["predictions"][0]["probability"] for entry in plain)
    threshold = repr((best[2] + best[3]) / 2)  # three of five images are below
    status, text, err = predicted(capsys, *words, "--format", "json", "--threshold", threshold)
    assert (status, err) == (0, "")
    found = json.loads(text)
    answers = [entry.pop("answer") for entry in found]
    assert found == plain and answers.count("none of these") == 3
    expected = [
        score["class"] if score["probability"] >= float(threshold) else "none of these"
        for entry in plain
        for score in entry["predictions"]
    ]
    assert answers == expected
    rows = list(csv.DictReader(io.StringIO(predicted(capsys, *words, "--format", "csv", "--threshold", threshold)[1])))
    assert list(rows[0]) == ["path", "rank", "class", "probability", "answer"]
    assert [row["answer"] for row in rows] == expected
    table = predicted(capsys, *words, "--threshold", threshold)[1].splitlines()
    assert [expected[index] in line for index, line in enumerate(table[1:])] == [True] * 5
    nothing = json.loads(predicted(capsys, *words, "--format", "json", "--threshold", "0")[1])
    assert [entry["answer"] for entry in nothing] == [entry["predictions"][0]["class"] for entry in plain]


# --- sorting ---------------------------------------------------------------------------------------------


def test_pictures_are_sorted_by_copying(world, photos, capsys, tmp_path):
    shutil.copytree(photos, tmp_path / "in")
    (tmp_path / "in" / "deep" / "b.png").write_bytes((tmp_path / "in" / "a.jpg").read_bytes())  # another b.png
    (tmp_path / "in" / "broken.png").write_text("no image")
    before = {path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()}
    words = [world / "zero", tmp_path / "in", "--sort-into", tmp_path / "out", "--device", "cpu", "--format", "json"]
    status, text, err = predicted(capsys, *words)
    assert status == 1 and "left out: " in err and "copied: 6 images into" in err
    best = {Path(entry["path"]): entry["predictions"][0]["class"] for entry in json.loads(text)}
    copies = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert sorted(copies.values()) == sorted(before[path] for path in best)
    for path, name in best.items():
        assert any(copy.parent.name == name and content == before[path] for copy, content in copies.items())
    assert {path: path.read_bytes() for path in before} == before
    status, _, err = predicted(capsys, *words)  # once more: nothing is twice there
    assert status == 1 and "copied: 0 images into" in err and "6 there already" in err
    assert {path for path in (tmp_path / "out").rglob("*") if path.is_file()} == set(copies)
    status, text, err = predicted(capsys, *words, "--skip-bad", "--threshold", "1")
    unsure = [entry["answer"] for entry in json.loads(text)].count("none of these")
    assert status == 0 and unsure and f"copied: {unsure} image" in err and f"(none of these {unsure})" in err
    assert len(list((tmp_path / "out" / "none of these").iterdir())) == unsure


def test_nothing_is_lost_between_batches(world, photos, capsys):
    whole = json.loads(predicted(capsys, world / "plot", photos, "--format", "json", "--device", "cpu")[1])
    parts = json.loads(
        predicted(capsys, world / "plot", photos, "--format", "json", "--device", "cpu", "--batch-size", "2")[1]
    )
    assert [entry["path"] for entry in parts] == [entry["path"] for entry in whole]
    for one, other in zip(parts, whole, strict=True):
        assert one["predictions"][0]["class"] == other["predictions"][0]["class"]


def test_new_classes(world, photos, capsys, tmp_path):
    listed = tmp_path / "classes.txt"
    listed.write_text("\ufeffguinea pig\n\n  grüne_Wiese  \n", encoding="utf-8")
    for words in (["--classes", "guinea pig", "grüne_Wiese"], ["--classes-file", listed]):
        status, text, _ = predicted(capsys, world / "plot", photos, "--format", "json", "--device", "cpu", *words)
        classes = [score["class"] for score in json.loads(text)[0]["predictions"]]
        assert status == 0 and sorted(classes) == ["grüne_Wiese", "guinea pig"]  # three were asked for


def test_warnings_come_without_lines_of_the_program(monkeypatch):
    shown = []

    def run(args):
        shown.append(warnings.formatwarning(UserWarning("careful"), UserWarning, "program.py", 7))
        return 0

    monkeypatch.setattr("predict.__main__.run", run)
    assert main(["RUN", "photos"]) == 0 and shown == ["warning: careful\n"]


def test_heat_maps(world, photos, capsys, tmp_path):
    shutil.copytree(photos, tmp_path / "p")
    (tmp_path / "p" / "broken.png").write_text("no image")
    words = [world / "plot", tmp_path / "p", "--device", "cpu", "--explain", tmp_path / "p" / "maps"]
    for _ in range(2):  # the second time the maps lie among the images
        status, text, err = predicted(capsys, *words)
        assert status == 1 and len(text.splitlines()) == 6 and "1 of 6 images could not be read" in err
        assert f"written: 5 heat maps in {tmp_path / 'p' / 'maps'}\n" in err
        maps = sorted((tmp_path / "p" / "maps").iterdir())
        assert [path.name for path in maps] == ["01-a.png", "02-b.png", "03-d, e.png", "04-c.png", "05-f.png"]
        assert all(Image.open(path).width > 300 for path in maps)


@pytest.mark.parametrize("name", ["n" * 240, "é" * 120, "caf\udce9"], ids=["ascii", "accents", "no UTF-8"])
def test_heat_maps_of_images_whose_names_are_as_long_as_can_be(world, tmp_path, capsys, name):
    photo, maps = tmp_path / f"{name}.png", tmp_path / "maps"
    Image.new("RGB", (30, 20)).save(photo)
    status, _, err = predicted(capsys, world / "plot", photo, "--device", "cpu", "--explain", maps)
    assert (status, err) == (0, f"written: 1 heat map in {maps}\n")
    assert results(["transport", str(world / "plot"), "--images", str(photo), "--out", str(maps)]) == 0
    (listed,) = json.loads((maps / "index.json").read_text())["pictures"]
    assert listed["path"] == str(photo)
    assert sorted(path.name for path in maps.iterdir()) == sorted([*listed["files"].values(), "index.json"])


# --- files and folders -----------------------------------------------------------------------------------


def test_folders_are_searched_and_files_taken_as_given(photos, tmp_path):
    found = find_images([photos / "notes.txt", photos, photos / "a.jpg"])
    assert found[0] == photos / "notes.txt" and found.count(photos / "a.jpg") == 1
    assert [path.name for path in found[1:]] == ["a.jpg", "b.png", "d, e.tif", "c.JPEG", "f.webp"]
    assert find_images([photos], leave_out=photos / "deep")[2:] == [photos / "d, e.tif", photos / "f.webp"]
    assert {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tiff", ".ppm"} <= image_suffixes()
    assert not {".pdf", ".mpg", ".eps", ".h5", ".ps", ".psd", ".ico", ".jp2", ".fits"} & image_suffixes()


def test_folders_without_images(tmp_path):
    with pytest.raises(PredictError, match="it is empty"):
        find_images([tmp_path])
    for name in ("a.psd", "b.PSD", "LICENSE"):
        (tmp_path / name).touch()
    with pytest.raises(PredictError, match=r"it holds 2 \.psd, 1 files without suffix"):
        find_images([tmp_path])


def test_what_is_no_image_is_named_and_left_out(world, photos, capsys, tmp_path):
    shutil.copytree(photos, tmp_path / "p")
    whole = (photos / "a.jpg").read_bytes()
    bad = {"cut.jpg": whole[:-150], "empty.png": b"", "text.gif": b"GIF89a", "zeros.bmp": bytes(500)}
    for name, content in bad.items():
        (tmp_path / "p" / name).write_bytes(content)
    status, text, err = predicted(capsys, world / "zero", tmp_path / "p", "--format", "json", "--device", "cpu")
    assert status == 1 and len(json.loads(text)) == 5
    assert err.count("left out: ") == len(bad) and all(name in err for name in bad)
    assert "4 of 9 images could not be read" in err
    status, same, err = predicted(
        capsys, world / "zero", tmp_path / "p", "--format", "json", "--device", "cpu", "--skip-bad"
    )
    assert (status, same) == (0, text) and "left out" not in err  # said at the end, and no failure
    assert err.startswith("4 of 9 images could not be read\n  cannot read the image") and err.count("\n") == 5
    assert all(name in err for name in bad)
    out = tmp_path / "out.csv"
    out.write_text("as it was")
    words = [world / "zero", tmp_path / "p" / "cut.jpg", tmp_path / "p" / "empty.png", "--out", out, "--device", "cpu"]
    status, text, err = predicted(capsys, *words)
    assert (status, text) == (2, "") and "nothing is predicted" in err and out.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "p"]


def test_pictures_that_are_not_to_be_opened(world, photos, capsys, tmp_path):
    shutil.copytree(photos, tmp_path / "p")
    write_bad_images(tmp_path / "p")
    (tmp_path / "p" / "zero.jpg").rename(tmp_path / "p" / "zero\x1b[2J\n.jpg")
    status, text, err = predicted(capsys, world / "zero", tmp_path / "p", "--format", "json", "--device", "cpu")
    assert status == 1 and len(json.loads(text)) == 5 and err.count("left out: ") == len(BAD_IMAGES)
    assert "pipe.png: it is a folder, pipe or device" in err and "thin.png: it has 1 x 20,000 pixels" in err
    assert "postscript.png: it is damaged, or no picture in one of the formats" in err
    assert r"zero\x1b[2J\n.jpg: it is empty" in err and "\x1b" not in err


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes as a name")
def test_names_that_are_no_text(world, photos, capfd, tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(photos / "a.jpg", tmp_path / name)
    for style in ("table", "csv", "json"):
        out = tmp_path / f"found.{style}"
        words = [world / "zero", tmp_path / name, "--format", style, "--device", "cpu"]
        assert main([str(word) for word in [*words, "--out", out]]) == 0 and main([str(word) for word in words]) == 0
        assert "caf" in out.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "found.json").read_text())[0]["path"].endswith(name)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any characters in a name")
def test_names_command_neither_a_terminal_nor_a_spreadsheet(world, photos, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(photos / "a.jpg", "=1+1.jpg")
    shutil.copy(photos / "a.jpg", "b\x1b[2J\n.jpg")
    shutil.copy(photos / "a.jpg", "猫.jpg")
    Path("cut\x1b[1m.jpg").write_bytes(b"no image")
    names = ["--device", "cpu", "--classes", "@cat", "-2", "\tdog", "\x1bbird"]
    found = {style: predicted(capsys, world / "zero", ".", "=1+1.jpg", "--format", style, "--top", 9, *names)
             for style in ("table", "csv", "json")}  # fmt: skip
    for status, out, err in found.values():
        assert status == 1 and "\x1b" not in out + err and r"cut\x1b[1m.jpg" in err
    rows = list(csv.DictReader(io.StringIO(found["csv"][1])))
    assert {row["class"] for row in rows} == {"'@cat", "'-2", r"\tdog", r"\x1bbird"}
    assert "'=1+1.jpg" in {row["path"] for row in rows} and all(float(row["probability"]) >= 0 for row in rows)
    exact = {score["class"] for score in json.loads(found["json"][1])[0]["predictions"]}
    assert exact == {"@cat", "-2", "\tdog", "\x1bbird"} and "b\x1b[2J\n.jpg" in [
        Path(entry["path"]).name for entry in json.loads(found["json"][1])
    ]
    lines = found["table"][1].splitlines()
    assert len(lines) == 4 and len({wcswidth(line) for line in lines}) == 1  # the Chinese name is two columns wide


def test_reading_ahead_is_bounded_and_in_order():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    for done, result in enumerate(read_ahead(items(), lambda number: number**2, ahead=7, workers=3)):
        assert result == done**2 and len(taken) <= done + 7
    assert list(read_ahead([], str, ahead=3)) == []


# --- bad input -------------------------------------------------------------------------------------------


def complaints(world: Path, photos: Path, folder: Path) -> dict[str, tuple[list[object], str]]:
    """What is wrong -> (command line, what is said); all of it can be told without loading anything."""
    unfinished, evaluated, moved = folder / "unfinished", folder / "evaluated", folder / "moved"
    shutil.copytree(world / "plot", unfinished)
    (unfinished / "result.json").unlink()
    shutil.copytree(world / "plot", evaluated, ignore=lambda here, names: ["prompt_learner"])
    record = json.loads((evaluated / "result.json").read_text())
    (evaluated / "result.json").write_text(json.dumps(record | {"mode": "eval", "checkpoint": "output/that-one"}))
    shutil.copytree(world / "plot", moved)
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(config.replace(str(world / "tiny_rn.pt"), "/gone/tiny_rn.pt"))
    pooled = folder / "pooled"
    shutil.copytree(world / "plot", pooled)
    (pooled / "config.yaml").write_text(config.replace("MATCHING: ot", "MATCHING: global"))
    torn, empty, cut = (folder / name for name in ("torn", "empty", "cut"))
    for place, text in ((torn, "TRAINER: ["), (empty, ""), (cut, config.partition("  PLOT:\n")[0])):
        shutil.copytree(world / "plot", place)
        (place / "config.yaml").write_text(text)
    os.mkfifo(folder / "pipe")
    (folder / "no.safetensors").write_bytes(b"\0" * 100)
    weights = REPOSITORY / "clip" / "weights" / "demo_rn.safetensors"
    return {
        "no such run": ([folder / "none", photos], "does not exist; give the folder of a run"),
        "no run": ([photos, photos], "holds no config.yaml, so it is no run folder"),
        "above runs": ([world, photos], f"below it are 2: {world / 'plot'}, {world / 'zero'}"),
        "torn": ([torn, photos], "config.yaml cannot be read"),
        "empty": ([empty, photos], "config.yaml cannot be read: it holds no configuration"),
        "cut off behind a line": ([cut, photos], "config.yaml cannot be read: its end is missing"),
        "a pipe": ([folder / "pipe", photos], "pipe is neither file nor folder"),
        "unfinished": ([unfinished, photos], "is unfinished"),
        "evaluated": ([evaluated, photos], "holds no checkpoint: it evaluated output/that-one, which is gone"),
        "moved weights": ([moved, photos], "not at /gone/tiny_rn.pt; if it has moved, say --backbone PATH"),
        "wrong weights": ([moved, photos, "--backbone", "/nor/here.pt"], "not at /nor/here.pt"),
        "no safetensors": ([folder / "no.safetensors", photos], "is no safetensors file"),
        "no export": ([weights, photos], "holds tensors, but no exported classifier"),
        "no such path": ([world / "zero", folder / "nowhere"], "nowhere does not exist; give image files"),
        "no places": ([world / "zero", photos, "--explain"], "is of ZeroshotCLIP, which does not match places"),
        "pooled": ([pooled, photos, "--explain"], "MATCHING global, which looks at an image's one pooled feature"),
        "no classes": ([world / "zero", photos, "--classes-file", os.devnull], "names no class; write one a line"),
        "no such classes": ([world / "zero", photos, "--classes-file", folder / "no.txt"], "cannot be read"),
        "out is a folder": ([world / "zero", photos, "--out", folder], "is a folder; name a file"),
        "threshold and a class": (
            [world / "zero", photos, "--threshold", "0.5", "--classes", "cat", "none of these"],
            'there is a class "none of these"',
        ),
        "sorted among the images": (
            [world / "zero", photos, "--sort-into", photos / "deep" / "sorted"],
            f"deep/sorted lies in {photos}, which is searched",
        ),
        "sorted into a file": ([world / "zero", photos, "--sort-into", photos / "a.jpg"], "a.jpg is a file"),
        "out is an image": ([world / "zero", photos, "--out", photos / "a.jpg"], "would overwrite an image with text"),
    }


def test_what_is_wrong_is_said_before_anything_is_loaded(world, photos, tmp_path):
    cases = complaints(world, photos, tmp_path)
    program = (
        "import contextlib, io, json, sys\n"
        "from predict.__main__ import main\n"
        "for argv in json.load(sys.stdin):\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as err:\n"
        "        status = main(argv)\n"
        "    print(json.dumps([status, err.getvalue()]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    given = json.dumps([[str(word) for word in argv] for argv, _ in cases.values()])
    done = subprocess.run(
        [sys.executable, "-c", program], input=given, cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for line, (name, (_, said)) in zip(done.stdout.splitlines(), cases.items(), strict=True):
        status, err = json.loads(line)
        assert status == 2 and said in err and err.startswith("error: "), (name, err)


def test_what_is_wrong_later(world, photos, capsys):
    for words, said in {
        ("--classes", "a", "a"): "class 'a' is given more than once",
        ("--device", "cuda:99"): "cuda:99 was asked for, but this machine has",
        ("--backbone", "no-such-clip"): "no CLIP model named 'no-such-clip'",
        ("--backbone", str(world / "tiny_vit.pt")): "reads 64 x 64 images",
    }.items():
        status, out, err = predicted(capsys, world / "plot", photos, *words)
        assert (status, out) == (2, "") and said in err, err


def test_a_run_that_does_not_tell_its_classes(world, photos, capsys, tmp_path):
    shutil.copytree(world / "plot", tmp_path / "old")
    record = json.loads((tmp_path / "old" / "result.json").read_text())
    names = record["data"].pop("classnames")
    record["per_class"].pop()
    (tmp_path / "old" / "result.json").write_text(json.dumps(record))
    status, _, err = predicted(capsys, tmp_path / "old", photos, "--device", "cpu")
    assert status == 2 and "does not tell its classes; give them with --classes" in err
    assert predicted(capsys, tmp_path / "old", photos, "--device", "cpu", "--classes", *names)[0] == 0


@pytest.mark.parametrize(
    "words",
    ["", "RUN", "RUN p --top 0", "RUN p --threshold 1.5", "RUN p --threshold nan", "RUN p --format xml",
     "RUN p --batch-size x", "RUN p --classes a --classes-file b"],
)
def test_bad_command_lines(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_help_tells_examples_and_exit_status(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "examples:" in text and "exit status: 0" in text


def test_a_reader_that_goes_away(world, photos):
    argv = [sys.executable, "-m", "predict", str(world / "zero"), str(photos), "--device", "cpu"]
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone, open(photos.parent / "err.txt", "w+b") as err:
        assert warm.start(argv, cwd=REPOSITORY, stdout=gone, stderr=err).wait(timeout=120) == 0
        assert os.path.getsize(err.name) == 0
