"""What every registered data set promises, split files, and Caltech101."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasets
from dassl.data import DataManager, fingerprint
from dassl.data.datasets import DATASET_REGISTRY, Datum, build_dataset
from datasets.base import SplitDataset
from datasets.files import require_files
from datasets.loaders.caltech101 import Caltech101
from datasets.splits import (
    new_datum,
    read_and_split_data,
    read_split,
    save_split,
    split_classes,
    split_digest,
    split_trainval,
)
from tests.support import dataset_trees as trees
from tests.support.data import make_cfg, relative, triples, write_class_folders
from tests.support.golden_data import CALTECH_FOLDERS, GOLDEN, write_synthetic_caltech

pytestmark = [
    pytest.mark.filterwarnings("ignore:fewer than"),
    pytest.mark.filterwarnings("ignore:no .* made a split of our own"),
]

# --- promises of every data set --------------------------------------------------------------------------

NINE = {f"class_{number}": 10 for number in range(9)}
BUILDERS = {  # registry name: makes a small data set below a root; None where it makes its own
    "Caltech101": write_synthetic_caltech,
    "OxfordPets": trees.write_pets,
    "StanfordCars": trees.write_cars,
    "OxfordFlowers": trees.write_flowers,
    "Food101": trees.write_food,
    "FGVCAircraft": trees.write_aircraft,
    "SUN397": trees.write_sun,
    "DescribableTextures": trees.write_textures,
    "EuroSAT": trees.write_eurosat,
    "UCF101": trees.write_ucf,
    "ImageNet": trees.write_imagenet,
    "ImageNetV2": trees.write_imagenet_v2,
    "ImageNetSketch": lambda root: trees.write_variant(root, "imagenet-sketch", "images", trees.WNIDS[:6]),
    "ImageNetA": lambda root: trees.write_variant(root, "imagenet-adversarial", "imagenet-a", trees.WNIDS[1:4]),
    "ImageNetR": lambda root: trees.write_variant(root, "imagenet-rendition", "imagenet-r", trees.WNIDS[2:5]),
    "Folder": lambda root: write_class_folders(root, NINE, real=True),
    "Demo": None,
    "Groceries": None,
}
NAMES = [
    name
    for name in DATASET_REGISTRY.registered_names()
    if DATASET_REGISTRY.get(name).__module__.startswith(datasets.__name__ + ".")
]
EVAL_ONLY = ["ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"]  # train_x is test, there is no val
VAL_IS_TEST = ["ImageNet"]


def splits_of(dataset) -> dict[str, list[Datum]]:
    """The lists that hold images of their own."""
    names = ["test"]
    if type(dataset).__name__ not in EVAL_ONLY:
        names += ["train_x"] if type(dataset).__name__ in VAL_IS_TEST else ["train_x", "val"]
    return {name: getattr(dataset, name) for name in names}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    made: dict[str, Path] = {}

    def root_of(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            if BUILDERS[name]:
                BUILDERS[name](made[name])
        return made[name]

    return root_of


def test_registered():
    assert set(NAMES) == set(BUILDERS)  # a new data set gets a line in BUILDERS


@pytest.mark.parametrize("name", NAMES)
class TestEveryDataset:
    @pytest.fixture
    def build(self, name, roots, tmp_path):
        def build(shots: int = -1, seed: int = 1, subset: str = "all"):
            cfg = make_cfg(roots(name), name, DATASET__NUM_SHOTS=shots, SEED=seed, OUTPUT_DIR=str(tmp_path))
            cfg.DATASET.SUBSAMPLE_CLASSES = subset
            return build_dataset(cfg)

        return build

    def test_labels_names_and_files(self, build, name):
        dataset = build()
        assert os.path.isabs(dataset.dataset_dir)
        assert len(dataset.classnames) == dataset.num_classes == len(set(dataset.classnames)) > 1
        assert list(dataset.lab2cname) == list(range(dataset.num_classes))
        for items in splits_of(dataset).values():
            assert {type(item) for item in items} == {Datum} and {type(item.label) for item in items} == {int}
            assert all(os.path.isfile(item.impath) for item in items)
            assert all(dataset.lab2cname[item.label] == item.classname for item in items)
            assert {item.label for item in items} == set(range(dataset.num_classes))
        paths = [item.impath for items in splits_of(dataset).values() for item in items]
        assert len(set(paths)) == len(paths)
        assert DATASET_REGISTRY.get(name).eval_only == (name in EVAL_ONLY)
        if name in EVAL_ONLY:
            assert dataset.val is None and dataset.train_x == dataset.test
        if name in VAL_IS_TEST:
            assert dataset.val is dataset.test

    def test_the_same_every_time(self, build, name):
        random.seed(1)
        first = fingerprint(build())
        random.seed(2)
        assert fingerprint(build(seed=5)) == first

    @pytest.mark.parametrize("shots", [1, 2, 16])
    def test_few_shots(self, build, name, shots):
        whole, few = build(), build(shots)
        if name in EVAL_ONLY:
            assert fingerprint(few) == fingerprint(whole)
            return
        for split, most in (("train_x", shots), ("val", min(shots, 4))):
            if split not in splits_of(few):
                continue
            counts = Counter(item.label for item in getattr(few, split))
            available = Counter(item.label for item in getattr(whole, split))
            assert counts == {label: min(count, most) for label, count in available.items()}
            assert {item.impath for item in getattr(few, split)} <= {i.impath for i in getattr(whole, split)}
        assert triples(few.test, few.dataset_dir) == triples(whole.test, whole.dataset_dir)
        again = build(shots)
        assert fingerprint(again) == fingerprint(few)
        if shots == 1:
            assert len({fingerprint(build(1, seed)) for seed in range(5)}) > 1
            assert fingerprint(build(1, 0)) == fingerprint(build(1, 0))

    def test_base_and_new(self, build, name):
        if name in EVAL_ONLY:
            assert fingerprint(build(subset="base")) == fingerprint(build())
            return
        whole, base = build(2), build(2, subset="base")
        if whole.num_classes == 3:  # a half of one class is no task
            with pytest.raises(ValueError, match="leaves 1 of 3"):
                build(2, subset="new")
            return
        new = build(2, subset="new")
        half = (whole.num_classes + 1) // 2
        assert (base.num_classes, new.num_classes) == (half, whole.num_classes - half)
        assert base.classnames + new.classnames == whole.classnames
        for split in ("train_x", "val", "test"):
            parts = [[item.impath for item in getattr(dataset, split)] for dataset in (base, new)]
            assert sorted(parts[0] + parts[1]) == sorted(item.impath for item in getattr(whole, split))
        with pytest.raises(ValueError, match="must be 'all', 'base' or 'new'"):
            build(subset="old")

    def test_batches(self, name, roots, tmp_path):
        cfg = make_cfg(roots(name), name, DATASET__NUM_SHOTS=2, SEED=1, OUTPUT_DIR=str(tmp_path))
        manager = DataManager(cfg)
        assert (manager.val_loader is None) == (name in EVAL_ONLY)
        for loader in filter(None, (manager.train_loader_x, manager.val_loader, manager.test_loader)):
            batch = next(iter(loader))
            assert batch["img"].shape[1:] == (3, 32, 32)
            assert int(batch["label"].max()) < manager.num_classes


@pytest.mark.parametrize("name", [name for name in NAMES if BUILDERS[name]])
def test_a_missing_root_is_explained(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"DATASET\.ROOT \(--root\) is .*nowhere"):
        build_dataset(make_cfg(tmp_path / "nowhere", name))


# --- split files -----------------------------------------------------------------------------------------


def items_of(entries: list, folder: Path | str = "") -> list[Datum]:
    return [new_datum(os.path.join(folder, path), label, name) for path, label, name in entries]


@pytest.mark.filterwarnings("ignore:.* names images more than once")
def test_split_files_round_trip(tmp_path, capsys):
    lists = [items_of([[f"a/{part}.jpg", 0, "a b"], ["über/c.png", 1, "ü"]], tmp_path) for part in range(3)]
    for item in sum(lists, []):
        Path(item.impath).parent.mkdir(exist_ok=True)
        Path(item.impath).touch()
    path = tmp_path / "sub" / "split.json"
    save_split(*lists, str(path), str(tmp_path))
    text = path.read_text()
    assert text.startswith(
        '{\n    "train": [\n        [\n            "a/0.jpg",\n            0,\n            "a b"\n'
    )
    assert text.isascii() and list(json.loads(text)) == ["train", "val", "test"]
    capsys.readouterr()
    again = read_split(str(path), str(tmp_path))
    assert [triples(items, tmp_path) for items in again] == [triples(items, tmp_path) for items in lists]
    assert capsys.readouterr().out == f"Reading split from {path}\n"


def test_a_split_file_that_repeats_images_is_taken_with_a_warning(tmp_path, recwarn):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    entries = {"train": [["a.jpg", 0, "cat"], ["a.jpg", 0, "cat"]], "val": [], "test": [["b.jpg", 0, "cat"]]}
    (tmp_path / "split.json").write_text(json.dumps(entries))
    assert len(read_split(str(tmp_path / "split.json"), str(tmp_path))[0]) == 2
    said = str(recwarn.pop(UserWarning).message)
    assert "names images more than once" in said and "a.jpg' (train and train)" in said and "test images" not in said
    entries["train"] = [["b.jpg", 0, "cat"]]
    (tmp_path / "split.json").write_text(json.dumps(entries))
    read_split(str(tmp_path / "split.json"), str(tmp_path))
    assert "1 of them are test images that are also trained or chosen on" in str(recwarn.pop(UserWarning).message)
    entries["train"] = [["a.jpg", 0, "cat"]]
    (tmp_path / "split.json").write_text(json.dumps(entries))
    read_split(str(tmp_path / "split.json"), str(tmp_path))
    assert not recwarn.list


def test_split_digest_ignores_white_space():
    content = json.loads((GOLDEN / "e2e" / "split_zhou_Caltech101.json").read_text())
    lists = [items_of(content[part], "/images") for part in ("train", "val", "test")]
    text = json.dumps(content, separators=(",", ":"))
    assert split_digest(*lists, "/images") == hashlib.sha256(text.encode()).hexdigest()


BAD_SPLITS = {
    "cut": ('{"train": [["a.jpg", 0, "a"], ["b', "damaged"),
    "empty": ("", "damaged"),
    "no test": ('{"train": [], "val": []}', "KeyError: 'test'"),
    "short entry": ('{"train": [["a.jpg", 0]], "val": [], "test": []}', "expected"),
    "half a label": ('{"train": [["a.jpg", 0.5, "a"]], "val": [], "test": []}', "0.5"),
    "no name": ('{"train": [["a.jpg", 0, null]], "val": [], "test": []}', "None"),
    "no path": ('{"train": [["", 0, "a"]], "val": [], "test": []}', "''"),
    "label in words": ('{"train": [["a.jpg", "zero", "a"]], "val": [], "test": []}', "zero"),
    "list": ("[1, 2]", "expected"),
    "binary": (b"\xff\xfe\x00", "damaged"),
}


@pytest.mark.parametrize("case", BAD_SPLITS)
def test_bad_split_files(tmp_path, case):
    content, message = BAD_SPLITS[case]
    path = tmp_path / "split.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_split(str(path), str(tmp_path))
    assert str(path) in str(caught.value) and "download it again" in str(caught.value)


def test_a_byte_order_mark_is_no_damage(tmp_path):
    (tmp_path / "split.json").write_text('{"train": [], "val": [], "test": []}', encoding="utf-8-sig")
    assert read_split(str(tmp_path / "split.json"), str(tmp_path)) == ([], [], [])


def test_missing_images_are_counted_and_named(tmp_path):
    names = [f"{folder}/{number}.jpg" for folder in ("a", "b", "gone") for number in range(4)]
    for name in names[:7]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": [[name, 0, "a"] for name in names], "val": [], "test": []}))
    with pytest.raises(FileNotFoundError) as caught:
        read_split(str(path), str(tmp_path))
    message = str(caught.value)
    assert message.startswith("5 of the 12 image files named by split.json do not exist")
    assert all(str(tmp_path / name) in message for name in names[7:]) and "unpack all images below" in message


def test_another_spelling_that_the_file_system_accepts_is_no_error(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    require_files([str(tmp_path / "link" / "a.jpg"), str(tmp_path / "link" / "." / "a.jpg")], "test", "")
    with pytest.raises(FileNotFoundError):
        require_files([str(tmp_path / "link" / "A.jpg.")], "test", "")


WRONG_LABELS = {
    "two names": (
        [["a", 0, "cat"], ["b", 0, "dog"], ["c", 1, "x"]],
        [["d", 0, "cat"]],
        "label 0 is called 'cat' and",
    ),
    "another name in test": ([["a", 0, "cat"]], [["b", 0, "dog"]], r"'dog' \(test: 'b'\)"),
    "only in test": (
        [["a", 0, "cat"]],
        [["b", 1, "dog"]],
        r"label 1 \('dog', 'b'\) occurs in test but not in train",
    ),
    "gap": ([["a", 0, "cat"], ["b", 2, "dog"]], [["c", 0, "cat"]], "no training image has 1"),
    "from one": ([["a", 1, "cat"], ["b", 2, "dog"]], [["c", 1, "cat"]], "no training image has 0"),
    "negative": ([["a", -1, "cat"], ["b", 0, "dog"]], [["c", 0, "dog"]], "labels start at 0"),
    "nothing": ([], [["c", 0, "dog"]], "there is no training image"),
    "no test": ([["a", 0, "cat"]], [], "there is no test image"),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_wrong_labels(case, tmp_path):
    train, test, message = WRONG_LABELS[case]

    class Wrong(SplitDataset):
        def load_split(self, cfg):
            return items_of(train), [], items_of(test)

    with pytest.raises(ValueError, match=f"Wrong: .*{message}"):
        Wrong(make_cfg(tmp_path))


# --- splitting -------------------------------------------------------------------------------------------


def counted(sizes: list[int]) -> dict[str, list[Datum]]:
    return {
        f"class {label}": [new_datum(f"{label}/{k:04d}.jpg", label, f"class {label}") for k in range(size)]
        for label, size in enumerate(sizes)
    }


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(4, 60), min_size=1, max_size=6))
def test_fifty_twenty_thirty(sizes):
    classes = counted(sizes)
    parts = split_classes(classes)
    for label, size in enumerate(sizes):
        lengths = [sum(item.label == label for item in part) for part in parts]
        assert (
            lengths[:2] == [round(0.5 * size), round(0.2 * size)]
            and sum(lengths) == size
            and min(lengths) > 0
        )
    assert {id(item) for part in parts for item in part} == {
        id(item) for items in classes.values() for item in items
    }
    labels = [[item.label for item in part] for part in parts]
    assert labels == [sorted(of_part) for of_part in labels]
    more = split_classes(classes | {"another": counted([1] * 9 + [12])["class 9"]})
    assert [[item.impath for item in part if item.label != 9] for part in more] == [
        relative(p, "") for p in parts
    ]


def test_classes_too_small_to_split_are_all_named():
    with pytest.raises(ValueError) as caught:
        split_classes(counted([3, 4, 0, 9]))
    assert str(caught.value).startswith("a class needs 4 images or more")
    assert "'class 0' has 3, 'class 2' has 0" in str(caught.value)


def test_split_trainval():
    items = sum(reversed(counted([10, 7, 3]).values()), [])
    train, val = split_trainval(items)
    assert list(Counter(item.label for item in val).items()) == [(2, 1), (1, 1), (0, 2)]
    assert list(Counter(item.label for item in train).items()) == [(2, 2), (1, 6), (0, 8)]
    assert (train, val) == split_trainval(items)
    first = [int(Path(item.impath).stem) for item in sum(split_trainval(items[-10:])[::-1], [])]
    assert first == [6, 8, 9, 7, 5, 3, 0, 4, 1, 2]  # random.seed(1), shuffle
    with pytest.raises(ValueError, match="'class 0' has 2 images"):
        split_trainval(counted([2])["class 0"])


# --- Caltech101 ------------------------------------------------------------------------------------------


def test_caltech_reads_its_split(tmp_path, capsys):
    write_synthetic_caltech(tmp_path, per_class=20)
    dataset = Caltech101(make_cfg(tmp_path))
    recorded = json.loads((GOLDEN / "e2e" / "split_zhou_Caltech101.json").read_text())
    assert triples(dataset.train_x, dataset.image_dir) == recorded["train"]
    assert triples(dataset.val, dataset.image_dir) == recorded["val"]
    assert triples(dataset.test, dataset.image_dir) == recorded["test"]
    assert "is not the published split" in capsys.readouterr().out


def test_caltech_makes_a_split_once(tmp_path):
    base = write_synthetic_caltech(tmp_path, per_class=8, with_split=False)
    (base / "101_ObjectCategories" / "Faces" / "Thumbs.db").touch()
    (base / "101_ObjectCategories" / "README.txt").touch()
    with pytest.warns(UserWarning, match=r"made a split of our own.*1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"):
        random.seed(1)
        first = Caltech101(make_cfg(tmp_path, SEED=1))
    folders = sorted(CALTECH_FOLDERS)
    assert folders[:3] == ["Faces", "Leopards", "Motorbikes"]
    assert first.classnames == ["face", "leopard", "motorbike", "accordion", "airplane", *folders[5:]]
    assert [len(items) for items in (first.train_x, first.val, first.test)] == [32, 16, 16]
    path = base / "split_zhou_Caltech101.json"
    text = path.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fingerprint(Caltech101(make_cfg(tmp_path))) == fingerprint(first)
    path.unlink()
    with pytest.warns(UserWarning, match="made a split"):
        random.seed(2)
        Caltech101(make_cfg(tmp_path, SEED=2))
    assert path.read_text() == text
    path.unlink()
    path.mkdir()  # stands for a disk that cannot be written
    with pytest.warns(UserWarning, match="made a split"):
        Caltech101(make_cfg(tmp_path))
    assert (tmp_path / "output" / path.name).read_text() == text


def test_caltech_without_its_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"caltech-101.*that holds 'caltech-101'"):
        Caltech101(make_cfg(tmp_path))
    (tmp_path / "caltech-101").mkdir()
    with pytest.raises(
        FileNotFoundError, match="101_ObjectCategories.*unpack the images of Caltech101 there"
    ):
        Caltech101(make_cfg(tmp_path))
    (tmp_path / "caltech-101" / "101_ObjectCategories").mkdir()
    with pytest.raises(ValueError, match="holds no class folders"):
        Caltech101(make_cfg(tmp_path))
    (tmp_path / "caltech-101" / "101_ObjectCategories" / "ant").mkdir()
    with pytest.raises(ValueError, match="'ant' has 0"):
        Caltech101(make_cfg(tmp_path))


def test_read_and_split_data(tmp_path):
    write_class_folders(tmp_path, {"b": 6, "A": 4, "c": 5, "skip": 2})
    (tmp_path / "A" / ".hidden.jpg").touch()
    train, val, test = read_and_split_data(str(tmp_path), ignored=["skip"], new_cnames={"b": "bee"})
    assert [(item.label, item.classname) for item in val] == [(0, "A"), (1, "bee"), (2, "c")]
    assert len(train) + len(val) + len(test) == 15


def test_thousands_of_images_take_no_time(tmp_path):
    """400 classes of 10 (empty) files: split, saved, read again, few-shot picks."""
    images = tmp_path / "caltech-101" / "101_ObjectCategories"
    for label in range(400):
        (images / f"class_{label:03d}").mkdir(parents=True)
        for number in range(10):
            os.close(os.open(images / f"class_{label:03d}" / f"{number:03d}.jpg", os.O_CREAT | os.O_WRONLY))
    start = time.process_time()
    with pytest.warns(UserWarning, match="made a split"):
        dataset = Caltech101(make_cfg(tmp_path))
    assert fingerprint(Caltech101(make_cfg(tmp_path, DATASET__NUM_SHOTS=4, SEED=1))) != fingerprint(dataset)
    assert time.process_time() - start < 3
    assert len(dataset.train_x) + len(dataset.val) + len(dataset.test) == 4_000


def test_the_engine_knows_no_data_set():
    code = (
        "import sys, dassl.data; from dassl.data.datasets import DATASET_REGISTRY as r;"
        "print(r.registered_names(), {'datasets', 'trainers', 'clip'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[] set()\n"
