"""Few-shot picks equal the published protocol's, and the files that keep them are safe."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import warnings
from pathlib import Path

import pytest

from dassl.data.datasets import DatasetBase, Datum
from datasets.fewshot import few_shot
from datasets.legacy import read_datum_pickle
from datasets.loaders.caltech101 import Caltech101
from datasets.splits import new_datum, subsample_classes
from tests.support.data import make_cfg, relative, triples
from tests.support.golden_data import GOLDEN, write_fewshot_tree

RECORDED = json.loads((GOLDEN / "fewshot" / "fewshot_a.json").read_text())
pytestmark = pytest.mark.filterwarnings("ignore:fewer than")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    write_fewshot_tree(root)
    return root


@pytest.fixture
def own_tree(tmp_path) -> Path:
    write_fewshot_tree(tmp_path)
    return tmp_path


def caltech(root: Path, shots: int, seed: int, subset: str = "all") -> Caltech101:
    cfg = make_cfg(root, DATASET__NUM_SHOTS=shots, DATASET__SUBSAMPLE_CLASSES=subset, SEED=seed)
    return Caltech101(cfg)


def picks(dataset: Caltech101) -> dict[str, list[str]]:
    return {
        "train": relative(dataset.train_x, dataset.image_dir),
        "val": relative(dataset.val, dataset.image_dir),
    }


# --- the picks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_recorded_picks(tree, shots, seed, capsys):
    expected = RECORDED["shots"][str(shots)][str(seed)]
    expected = {split: expected[split] for split in ("train", "val")}
    drawn = picks(caltech(tree, shots, seed))
    assert drawn == expected
    out = capsys.readouterr().out
    assert f"Creating a {shots}-shot dataset\nCreating a {min(shots, 4)}-shot dataset\n" in out
    path = tree / "caltech-101" / "split_fewshot" / f"shot_{shots}-seed_{seed}.json"
    assert f"Saving preprocessed few-shot data to {path}" in out
    assert picks(caltech(tree, shots, seed)) == expected
    out = capsys.readouterr().out
    assert f"Loading preprocessed few-shot data from {path}" in out and "Creating" not in out


@pytest.mark.parametrize("case", RECORDED["subsample"])
def test_recorded_base_and_new(tree, case):
    subset, shots, seed = case.split("_")
    dataset = caltech(tree, int(shots[5:]), int(seed[4:]), subset)
    expected = RECORDED["subsample"][case]
    assert dataset.classnames == expected["classnames"]
    assert dataset.num_classes == expected["num_classes"]
    assert {str(label): name for label, name in dataset.lab2cname.items()} == expected["lab2cname"]
    for split, items in (("train", dataset.train_x), ("val", dataset.val), ("test", dataset.test)):
        assert len(items) == expected["n"][split]
        if expected[split] is not None:
            assert triples(items, dataset.image_dir) == expected[split]


def test_base_and_new_share_the_picks_of_all(tree):
    everything = {path for path, *_ in triples(caltech(tree, 4, 1).train_x, tree)}
    base, new = (
        {path for path, *_ in triples(caltech(tree, 4, 1, half).train_x, tree)} for half in ("base", "new")
    )
    assert base | new == everything and not base & new


def test_subsample_classes_rules():
    items = [new_datum("x", label, f"class {label}") for label in (7, 3, 3, 9, 12)]
    assert subsample_classes(items, None, subsample="all") == (items, None)
    base, nothing, test = subsample_classes(items, None, items[:1], subsample="base")
    assert [(item.label, item.classname) for item in base] == [(1, "class 7"), (0, "class 3"), (0, "class 3")]
    assert nothing is None and [item.label for item in test] == [1]
    assert [item.label for item in subsample_classes(items, subsample="new")[0]] == [0, 1]
    with pytest.raises(ValueError, match="SUBSAMPLE_CLASSES is 'both'; it must be"):
        subsample_classes(items, subsample="both")


def test_a_small_class_is_taken_whole_with_one_warning(tree):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = caltech(tree, 4, 5)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1 and messages[0].startswith("fewer than 4 training images")
    for label, count in RECORDED["counts"]["train"].items():
        name = dataset.classnames[int(label)]
        assert (f"'{name}' ({count})" in messages[0]) == (count < 4)
        assert len(dataset.split_dataset_by_label(dataset.train_x)[int(label)]) == min(count, 4)


def test_random_numbers_afterwards_do_not_depend_on_the_file(own_tree):
    random.seed(8)
    first, after = picks(caltech(own_tree, 2, 3)), random.random()
    random.seed(8)
    second, after_reading = picks(caltech(own_tree, 2, 3)), random.random()
    random.seed(8)
    assert first == second and after == after_reading == random.random()


# --- the files that keep them ----------------------------------------------------------------------------


def files_in(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*shot_*") if path.is_file())


def test_without_a_seed_nothing_is_kept_or_read(own_tree):
    legacy = own_tree / "caltech-101" / "split_fewshot" / "shot_1-seed_-1.pkl"
    legacy.parent.mkdir()
    legacy.write_bytes(b"junk")
    random.seed(1)
    first = picks(caltech(own_tree, 1, -1))
    second = picks(caltech(own_tree, 1, -1))
    assert first != second
    assert (
        first["train"] == RECORDED["shots"]["1"]["1"]["train"]
    )  # the global state is used, and here it is seeded
    assert files_in(own_tree) == ["caltech-101/split_fewshot/shot_1-seed_-1.pkl"]


def test_without_shots_nothing_is_drawn(own_tree, capsys):
    split = write_fewshot_tree(own_tree)
    dataset = caltech(own_tree, -1, 1)
    assert triples(dataset.train_x, dataset.image_dir) == split["train"]
    assert triples(dataset.test, dataset.image_dir) == split["test"]
    assert files_in(own_tree) == [] and "-shot" not in capsys.readouterr().out


def test_the_file_is_plain_and_movable(own_tree, tmp_path_factory):
    expected = picks(caltech(own_tree, 4, 2))
    path = own_tree / "caltech-101" / "split_fewshot" / "shot_4-seed_2.json"
    content = json.loads(path.read_text())
    assert [f"101_ObjectCategories/{name}" for name in expected["train"]] == [
        entry[0] for entry in content["train"]
    ]
    assert (content["shots"], content["seed"]) == (4, 2)
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    own_tree.rename(moved)
    assert picks(caltech(moved, 4, 2)) == expected
    assert files_in(moved) == ["caltech-101/split_fewshot/shot_4-seed_2.json"]
    own_tree.mkdir()


@pytest.mark.parametrize("damage", ["cut", "other seed", "unknown image", "not a table", "list"])
def test_an_unusable_file_is_drawn_again(own_tree, damage):
    expected = picks(caltech(own_tree, 2, 1))
    path = own_tree / "caltech-101" / "split_fewshot" / "shot_2-seed_1.json"
    good = path.read_text()
    content = json.loads(good)
    if damage == "cut":
        path.write_text(good[: len(good) // 2])
    elif damage == "other seed":
        path.write_text(json.dumps(content | {"seed": 2}))
    elif damage == "unknown image":
        path.write_text(good.replace("chandelier/train", "chandelier/tram"))
    else:
        path.write_text(json.dumps([] if damage == "list" else content | {"train": [1, 2]}))
    with pytest.warns(UserWarning, match=r"shot_2-seed_1\.json is not used .*drawing again"):
        assert picks(caltech(own_tree, 2, 1)) == expected
    assert path.read_text() == good


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("form", ["json", "pickle"])
def test_picks_that_nobody_drew_are_refused(own_tree, form, part):
    caltech(own_tree, 2, 1)
    path = own_tree / "caltech-101" / "split_fewshot" / "shot_2-seed_1.json"
    good = json.loads(path.read_text())

    def put(entries: list) -> None:
        content = good | {part: entries}
        if form == "json":
            path.write_text(json.dumps(content))
        else:
            below = {split: [[p.partition("/")[2], *rest] for p, *rest in content[split]] for split in ("train", "val")}
            write_pickle(own_tree, below)

    put([*good[part], good[part][0]])
    says = rf"shot_2-seed_1\.\w+: {part} has more than once '.*{good[part][0][0]}'; delete"
    with pytest.raises(ValueError, match=says):
        caltech(own_tree, 2, 1)
    _, label, name = good[part][-1]
    put([entry for entry in good[part] if entry[1] != label])
    with pytest.raises(ValueError, match=rf"{part} has no image of class '{name}'; delete the file"):
        caltech(own_tree, 2, 1)


def test_a_changed_split_is_noticed(own_tree):
    caltech(own_tree, 2, 1)
    path = own_tree / "caltech-101" / "split_zhou_Caltech101.json"
    split = json.loads(path.read_text())
    split["train"].reverse()
    path.write_text(json.dumps(split))
    with pytest.warns(UserWarning, match="split has changed since"):
        changed = picks(caltech(own_tree, 2, 1))
    assert changed["train"] != RECORDED["shots"]["2"]["1"]["train"]
    assert picks(caltech(own_tree, 2, 1)) == changed


def test_a_data_folder_that_cannot_be_written(own_tree, capsys):
    """A file where the folder would be stands for a read-only disk (permissions do not stop root)."""
    (own_tree / "caltech-101" / "split_fewshot").write_text("in the way")
    expected = RECORDED["shots"]["2"]["1"]["train"]
    assert picks(caltech(own_tree, 2, 1))["train"] == expected
    kept = own_tree / "output" / "split_fewshot" / "Caltech101" / "shot_2-seed_1.json"
    assert json.loads(kept.read_text())["seed"] == 1
    assert picks(caltech(own_tree, 2, 1))["train"] == expected
    assert f"Loading preprocessed few-shot data from {kept}" in capsys.readouterr().out
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("in the way too")
    with pytest.warns(UserWarning, match="could not be saved, going on without"):
        assert picks(caltech(own_tree, 2, 1))["train"] == expected


def _build_many(root: Path, seeds: range) -> list[dict]:
    warnings.simplefilter("ignore")
    return [picks(caltech(root, 2, seed)) for seed in seeds]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads; spawning takes long
def test_two_processes_at_once(own_tree):
    seeds = range(1, 9)
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.starmap(_build_many, [(own_tree, seeds)] * 2)
    folder = own_tree / "caltech-101" / "split_fewshot"
    assert results[0] == results[1] == _build_many(own_tree, seeds)
    assert sorted(os.listdir(folder)) == sorted(f"shot_2-seed_{seed}.json" for seed in seeds)


# --- upstream's pickles ----------------------------------------------------------------------------------


def write_pickle(own_tree: Path, items: dict[str, list], prefix: str = "/data/elsewhere/caltech-101") -> Path:
    """As upstream writes them: Datum objects with absolute paths of another machine."""
    content = {
        split: [
            new_datum(f"{prefix}/101_ObjectCategories/{path}", label, name) for path, label, name in entries
        ]
        for split, entries in items.items()
    }
    path = own_tree / "caltech-101" / "split_fewshot" / "shot_2-seed_1.pkl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))
    return path


@pytest.mark.parametrize(
    "prefix",
    [
        "/data/caltech-101",
        "/caltech-101/backup/caltech-101",
        r"C:\data\caltech-101",
        "/a/caltech-101/caltech-101",
        "/data/under another name",
    ],
)
def test_a_pickle_of_upstream_is_honoured(own_tree, prefix, capsys):
    dataset = caltech(own_tree, -1, 1)
    parts = {"train": dataset.train_x, "val": dataset.val}
    chosen = {}
    for part, items in parts.items():  # the last two of each class, which no seed draws for all
        of_class = dataset.split_dataset_by_label(items).values()
        chosen[part] = [entry for group in of_class for entry in triples(group[-2:], dataset.image_dir)]
    path = write_pickle(own_tree, chosen, prefix)
    few = caltech(own_tree, -1, 1)
    cfg = make_cfg(own_tree, DATASET__NUM_SHOTS=2, SEED=1)
    train, val = few_shot(few, cfg, few.train_x, few.val)
    assert [triples(items, few.image_dir) for items in (train, val)] == [chosen["train"], chosen["val"]]
    assert capsys.readouterr().out.endswith(f"Loading preprocessed few-shot data from {path}\n")
    assert files_in(own_tree) == ["caltech-101/split_fewshot/shot_2-seed_1.pkl"]


@pytest.mark.parametrize(("half", "left", "classes"), [("base", 1, 1), ("new", 0, 1), ("base", 1, 2), ("new", 1, 3)])
def test_a_half_of_one_class_is_no_task(half, left, classes):
    items = [new_datum("a.jpg", label, f"class {label}") for label in range(classes)]
    with pytest.raises(ValueError, match=f"is '{half}', which leaves {left} of {classes}: with fewer than 2"):
        subsample_classes(items, subsample=half)


def test_a_pickle_of_another_split_is_not_used(own_tree):
    write_pickle(own_tree, {"train": [["cup/other.jpg", 27, "cup"]], "val": []})
    with pytest.warns(UserWarning, match="images that are not in this split"):
        assert picks(caltech(own_tree, 2, 1))["train"] == RECORDED["shots"]["2"]["1"]["train"]


def test_a_damaged_pickle_is_not_used(own_tree):
    path = write_pickle(own_tree, {"train": [["cup/train_0000.jpg", 27, "cup"]], "val": []})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="damaged"):
        assert picks(caltech(own_tree, 2, 1))["train"] == RECORDED["shots"]["2"]["1"]["train"]


class Command:
    """Unpickled without care, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("where", ["whole", "inside"])
def test_a_pickle_with_anything_else_is_refused(own_tree, where):
    target = own_tree / "executed"
    command = Command(target)
    path = write_pickle(own_tree, {"train": [], "val": []})
    path.write_bytes(pickle.dumps(command if where == "whole" else {"train": [command], "val": []}))
    with pytest.raises(
        ValueError, match=r"refused to load .*shot_2-seed_1\.pkl: it asks for (posix|nt)\.system"
    ):
        caltech(own_tree, 2, 1)
    assert not target.exists()


@pytest.mark.parametrize("content", [{"train": [1]}, [1, 2], {"train": 5}])
def test_a_pickle_of_something_else_is_refused(own_tree, content):
    path = write_pickle(own_tree, {"train": [], "val": []})
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="is not a few-shot file"):
        caltech(own_tree, 2, 1)


def test_a_pickle_leaves_nothing_behind_in_this_process(tmp_path):
    """One that gives the class of its items attributes, and one whose item has none of its own."""
    item = b"cdassl.data.datasets.base_dataset\nDatum\n"
    text = b"X\x07\x00\x00\x00_impathX\x01\x00\x00\x00aX\x06\x00\x00\x00_labelK\x01"
    spoils = item + b"N}(" + text + b"X\x0a\x00\x00\x00_classnameX\x01\x00\x00\x00bu\x86b0}."
    (tmp_path / "spoils.pkl").write_bytes(b"\x80\x02" + spoils)
    (tmp_path / "bare.pkl").write_bytes(b"\x80\x02}X\x05\x00\x00\x00train]" + item + b")\x81as.")
    assert read_datum_pickle(str(tmp_path / "spoils.pkl")) == {}
    with pytest.raises(ValueError, match="_impath"):
        read_datum_pickle(str(tmp_path / "bare.pkl"))


def test_a_data_set_without_validation(tmp_path):
    """Few-shot files then hold training images only, as for ImageNet."""
    items = [new_datum(str(tmp_path / f"data/{k}.jpg"), k % 2, f"class {k % 2}") for k in range(8)]
    dataset = DatasetBase(items)
    dataset.dataset_dir = str(tmp_path / "data")
    cfg = make_cfg(tmp_path, DATASET__NUM_SHOTS=2, SEED=1)
    first = few_shot(dataset, cfg, items, None)
    assert len(first[0]) == 4 and first[1] is None and isinstance(first[0][0], Datum)
    assert few_shot(dataset, cfg, items, None) == first
