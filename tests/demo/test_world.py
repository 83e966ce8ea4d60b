"""The demo world: what is drawn, what is said about it, and the few-shot task on disk."""

from __future__ import annotations

import hashlib
import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

import datasets  # noqa: F401  (registers Demo)
from clip import tokenize
from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from demo import CLASSES, __main__, caption, chalk_scene, part_phrase, photo_scene, task
from demo.objects import OBJECTS
from demo.scenes import photo_of

PER_CLASS = sum(task.IMAGES_PER_CLASS.values())


@pytest.fixture(scope="module")
def root(tmp_path_factory, demo_data) -> Path:
    """A data root with the whole task."""
    root = tmp_path_factory.mktemp("data")
    demo_data(root)
    return root


@pytest.fixture
def few_images(monkeypatch) -> int:
    """Make the task small: the number of its images."""
    monkeypatch.setattr(task, "IMAGES_PER_CLASS", {"train": 2, "val": 1, "test": 1})
    return 4 * len(CLASSES)


def snapshot(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---- scenes and captions
def test_classes_are_fixed_and_among_the_things():
    assert len(CLASSES) == 14
    assert list(CLASSES) == sorted(CLASSES)
    assert set(CLASSES) < set(OBJECTS)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_parts_in_different_places(name):
    for draw in (photo_of, chalk_scene):
        scene = draw(name, "parts")
        (thing,) = scene.things
        assert scene.image.size == (128, 128) and scene.image.mode == "RGB"
        assert len({part.name for part in thing.parts}) >= 2
        places = np.array([(part.x, part.y) for part in thing.parts])
        assert places.min() > -0.1 and places.max() < 1.1
        assert np.ptp(places, axis=0).max() > 0.1, "all parts lie in one place"


def test_a_scene_depends_on_its_seed_only():
    random.seed(3)
    np.random.seed(3)
    before, first = random.getstate(), photo_scene("a")
    assert random.getstate() == before
    random.seed(4)
    again, other = photo_scene("a"), photo_scene("b")
    assert first.image.tobytes() == again.image.tobytes() and first.things == again.things
    assert first.image.tobytes() != other.image.tobytes()
    assert chalk_scene("house", "a").image.tobytes() == chalk_scene("house", "a").image.tobytes()
    assert chalk_scene("house", "a").image.tobytes() != chalk_scene("house", "b").image.tobytes()


def test_captions_are_short_english_sentences():
    words = Random(0)
    scenes = [photo_scene(f"caption/{i}") for i in range(60)]
    texts = [tell(scene, words) for scene in scenes for tell in (caption, part_phrase) for _ in range(5)]
    for text in texts:
        assert re.fullmatch(r"[a-z]+( [a-z]+)*\.", text), text
        assert not re.search(r"\ba [aeio]|\ban [^aeiou]|\b(\w+) \1\b", text), text
    assert tokenize(texts).argmax(dim=1).max() < 60
    named = sum(any(thing.name in text for thing in scene.things)
                for scene in scenes for text in (caption(scene, words),))
    assert 0.3 * len(scenes) < named < 0.95 * len(scenes), "captions name the thing, but not always"


def test_mirrored_captions_swap_left_and_right():
    pairs = [scene for scene in (photo_scene(f"pair/{i}") for i in range(40)) if len(scene.things) == 2]
    told = 0
    for scene in pairs:
        left, right = sorted(scene.things, key=lambda thing: thing.x)
        for seed in range(20):
            for mirrored, first, second in ((False, left, right), (True, right, left)):
                text = caption(scene, Random(seed), mirrored)
                if "to the left of" in text:
                    told += 1
                    before, after = text.split("to the left of")
                    assert first.name in before and second.name in after
    assert told > 20


# ---- the task on disk
def test_images_are_distinct_and_readable(root):
    paths = sorted((root / "demo" / "images").rglob("*.jpg"))
    assert len(paths) == PER_CLASS * len(CLASSES)
    pixels = set()
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (128, 128) and image.mode == "RGB"
            pixels.add(hashlib.sha256(image.tobytes()).hexdigest())
    assert len(pixels) == len(paths)


def test_split_file_is_in_the_usual_format(root):
    split = json.loads((root / "demo" / "split_zhou_Demo.json").read_text())
    assert list(split) == ["train", "val", "test"]
    assert {name: len(items) for name, items in split.items()} == {"train": 560, "val": 112, "test": 560}
    everything = [tuple(item) for items in split.values() for item in items]
    assert len(set(everything)) == len(everything)
    for path, label, name in everything:
        assert (root / "demo" / "images" / path).is_file()
        assert CLASSES[label] == name and path.startswith(name.replace(" ", "_") + "/")


def test_a_second_writing_draws_nothing_and_damage_is_repaired(root):
    folder = root / "demo"
    before = snapshot(folder / "images")
    assert task.write_task(folder, progress=False) == 0
    images = sorted((folder / "images").rglob("*.jpg"))
    images[0].unlink()
    images[7].write_bytes(images[7].read_bytes()[:500])
    (folder / "split_zhou_Demo.json").write_text("{")
    assert task.write_task(folder, progress=False) == 2
    assert snapshot(folder / "images") == before
    assert json.loads((folder / "split_zhou_Demo.json").read_text()) == task.listing()


def test_another_generator_draws_everything_again(tmp_path, few_images, monkeypatch):
    assert task.write_task(tmp_path, progress=False) == few_images
    monkeypatch.setattr(task, "VERSION", task.VERSION + 1)
    assert task.write_task(tmp_path, progress=False) == few_images
    assert task.write_task(tmp_path, progress=False) == 0
    (tmp_path / task.MARKER).write_text("[1, 2")
    assert task.write_task(tmp_path, progress=False) == few_images


def test_two_writers_at_once_leave_one_whole_task(tmp_path, few_images):
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(task.write_task, tmp_path / "both", False) for _ in range(2)]:
            future.result()
    task.write_task(tmp_path / "one", progress=False)
    assert snapshot(tmp_path / "both") == snapshot(tmp_path / "one"), "no temporary files, the same content"


def test_a_root_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "demo").write_text("a file where a folder is needed")
    with pytest.raises(OSError, match=r"cannot write the demo data below .*demo .*--root"):
        task.write_task(tmp_path / "demo", progress=False)


@pytest.mark.parametrize(("subset", "names"), [("all", CLASSES), ("base", CLASSES[:7]), ("new", CLASSES[7:])])
def test_the_registered_data_set(root, subset, names):
    cfg = get_cfg_default()
    cfg.DATASET.NAME = "Demo"
    cfg.DATASET.ROOT = str(root)
    cfg.DATASET.NUM_SHOTS = 2
    cfg.DATASET.SUBSAMPLE_CLASSES = subset
    cfg.SEED = 1
    dataset = build_dataset(cfg)
    assert dataset.classnames == list(names)
    assert [len(items) for items in (dataset.train_x, dataset.val, dataset.test)] == [
        2 * len(names),
        2 * len(names),
        40 * len(names),
    ]


def test_the_command_line_draws_a_sheet(tmp_path, capsys):
    assert __main__.main(["--sheet", str(tmp_path / "new" / "sheet.png"), "--captions", "2"]) == 0
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.height == 128 * len(CLASSES)
    assert len(capsys.readouterr().out.splitlines()) == 3
    with pytest.raises(SystemExit):
        __main__.main([])
