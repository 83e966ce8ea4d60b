"""The Folder data set: every layout it reads, and what it says about layouts that it cannot."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from dassl.data import check_images, fingerprint
from datasets.loaders.folder import Folder
from runs.writing import _describe_data
from tests.support.data import BAD_IMAGES, make_cfg, relative, triples, write_bad_images, write_class_folders

TEN = {"red_panda": 10, "Zebra": 10, "ant": 10}


def folder(root: Path, **options) -> Folder:
    keys = {
        f"DATASET__FOLDER__{key}" if key in ("PATH", "CSV", "TEST_CSV") else key: v
        for key, v in options.items()
    }
    return Folder(make_cfg(root, "Folder", **keys))


def sizes(dataset: Folder) -> list[int]:
    return [len(dataset.train_x), len(dataset.val or []), len(dataset.test)]


# --- class folders ---------------------------------------------------------------------------------------


def test_class_folders(tmp_path):
    write_class_folders(tmp_path, TEN)
    dataset = folder(tmp_path)
    assert dataset.classnames == ["Zebra", "ant", "red_panda"]
    assert sizes(dataset) == [15, 6, 9]
    paths = relative(dataset.train_x + dataset.val + dataset.test, tmp_path)
    assert sorted(paths) == sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg"))
    assert Counter(item.label for item in dataset.val) == {0: 2, 1: 2, 2: 2}


def test_what_counts_as_an_image(tmp_path):
    write_class_folders(tmp_path, {"a": 0, "b": 6})
    images = "1.JPG 2.jpeg 3.Png 4.webp 5.bmp 6.tif 7.gif 8.jfif 9.HEIC".split()
    for name in (*images, "deep/er/6.jpg", "with space/ü.jpg"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).touch()
    for name in (".7.jpg", "8.txt", "jpg", "Thumbs.db", ".hidden/9.jpg"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).touch()
    write_class_folders(tmp_path, {".git": 3, "__MACOSX": 1, "empty": 0})
    with pytest.warns(UserWarning, match="left out") as caught:
        dataset = folder(tmp_path)
    assert dataset.classnames == ["a", "b"] and sum(sizes(dataset)) == len(images) + 2 + 6
    (message,) = (str(warning.message) for warning in caught)
    assert message.endswith(
        "; class folders without an image (2): 'empty', '__MACOSX'; other files (2): 'a/8.txt', 'a/jpg'"
    )


def test_links_to_class_folders_are_followed(tmp_path):
    write_class_folders(tmp_path / "store", TEN)
    (tmp_path / "data").mkdir()
    for name in ("ant", "Zebra"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "store" / name)
    assert sizes(folder(tmp_path / "data")) == [10, 4, 6]


def test_the_split_is_stable(tmp_path):
    """Another seed, another place, or a new class leaves every class's split as it is."""
    write_class_folders(tmp_path / "one", TEN)
    write_class_folders(tmp_path / "two", TEN | {"bee": 8})
    first, second = folder(tmp_path / "one", SEED=1), folder(tmp_path / "two", SEED=2)
    kept = [path for path in relative(second.test, tmp_path / "two") if not path.startswith("bee")]
    assert relative(first.test, tmp_path / "one") == kept
    write_class_folders(tmp_path / "three", TEN)
    assert fingerprint(folder(tmp_path / "three")) == fingerprint(first)


def test_nothing_is_written(tmp_path):
    write_class_folders(tmp_path, TEN)
    before = sorted(tmp_path.rglob("*"))
    dataset = folder(tmp_path, DATASET__NUM_SHOTS=2, SEED=1)
    assert sizes(dataset) == [6, 6, 9]
    assert fingerprint(folder(tmp_path, DATASET__NUM_SHOTS=2, SEED=1)) == fingerprint(dataset)
    assert fingerprint(folder(tmp_path, DATASET__NUM_SHOTS=2, SEED=2)) != fingerprint(dataset)
    assert sorted(tmp_path.rglob("*")) == before


def test_path_below_the_root_or_anywhere(tmp_path):
    write_class_folders(tmp_path / "pets" / "images", TEN)
    assert folder(tmp_path, PATH="pets/images").dataset_dir == str(tmp_path / "pets" / "images")
    assert sizes(folder("", PATH=str(tmp_path / "pets" / "images"), OUTPUT_DIR=str(tmp_path))) == [15, 6, 9]


def test_a_configuration_without_our_keys(tmp_path):
    write_class_folders(tmp_path, TEN)
    cfg = make_cfg(tmp_path, "Folder")
    del cfg.DATASET["FOLDER"], cfg.DATASET["SUBSAMPLE_CLASSES"]
    assert sizes(Folder(cfg)) == [15, 6, 9]


def test_stray_images_are_mentioned(tmp_path):
    write_class_folders(tmp_path, TEN | {".": 2})
    with pytest.warns(UserWarning, match=r"images in no class folder \(2\): '000.jpg', '001.jpg'"):
        assert sizes(folder(tmp_path)) == [15, 6, 9]


# --- split folders ---------------------------------------------------------------------------------------


def test_split_folders(tmp_path):
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        write_class_folders(tmp_path / split, dict.fromkeys(TEN, count))
    dataset = folder(tmp_path)
    assert sizes(dataset) == [15, 6, 9] and dataset.classnames == ["Zebra", "ant", "red_panda"]
    assert triples(dataset.val, tmp_path)[2:4] == [
        ["val/ant/000.jpg", 1, "ant"],
        ["val/ant/001.jpg", 1, "ant"],
    ]


def test_split_folders_without_val(tmp_path):
    write_class_folders(tmp_path / "Train", {"cat": 1, "dog": 2})
    write_class_folders(tmp_path / "Test", {"dog": 2})
    dataset = folder(tmp_path)
    assert sizes(dataset) == [3, 0, 2] and [item.label for item in dataset.test] == [1, 1]
    write_class_folders(tmp_path / "annotations", {"xml": 0})
    assert sizes(folder(tmp_path)) == [3, 0, 2]


def test_split_folders_without_test(tmp_path, capsys):
    write_class_folders(tmp_path / "train", TEN)
    assert sizes(folder(tmp_path)) == [15, 6, 9]
    assert "has no test/: splitting its train/" in capsys.readouterr().out
    write_class_folders(tmp_path / "validation", TEN)
    assert sizes(folder(tmp_path)) == [30, 0, 30]
    assert "its validation/ is the test set, and there is no val set" in capsys.readouterr().out


def test_train_as_a_class(tmp_path):
    write_class_folders(tmp_path, {"bus": 10, "train": 10})
    assert folder(tmp_path).classnames == ["bus", "train"]
    write_class_folders(tmp_path, {"train/steam": 2, "plane/jet": 2})
    for path in (tmp_path / "train").glob("*.jpg"):
        path.rename(tmp_path / "train" / "steam" / f"moved_{path.name}")
    with pytest.raises(ValueError, match=r"ambiguous: is train/ a split or a class like 'bus', 'plane'\?"):
        folder(tmp_path)


def test_split_folders_are_no_classes(tmp_path):
    """Whatever they are called, and with an image beside the class folders: else test images would be trained on."""
    for names in (("train", "test"), ("training", "testing")):
        root = tmp_path / "_".join(names)
        for name in names:
            write_class_folders(root / name, dict.fromkeys(TEN, 2))
        (root / names[0] / "all of them.jpg").touch()
        with pytest.warns(UserWarning, match=r"images in no class folder \(1\): 'all of them.jpg'"):
            dataset = folder(root)
        assert sizes(dataset) == [6, 0, 6] and dataset.classnames == ["Zebra", "ant", "red_panda"]


WRONG_FOLDERS = {
    "empty": ({}, "no class folders in .*expected .*<class>"),
    "one class": ({"only": 9}, "one class only, 'only'; is it the folder above the one"),
    "no image": ({"a": 0, "b": 0}, r"no class folders in .*; class folders without an image \(2\): 'a', 'b'"),
    "one class left": ({"a": 9, "b": 0}, "one class only, 'a'"),
    "too small": ({"a": 9, "b": 3}, "a class needs 4 images or more .*'b' has 3"),
    "class only in test": (
        {"train/cats": 2, "train/dogs": 2, "test/cat": 2},
        r"'cat' of test/ .*did you mean 'cats'",
    ),
    "empty in train": ({"train/a": 2, "train/b": 2, "train/c": 0, "test/c": 2}, "class 'c' of test/ has no folder in"),
    "one name": ({"Guinea_pig": 9, "dog": 9, "guinea pig": 9}, "classes 'Guinea_pig' and 'guinea pig'; CLIP cannot"),
    "two vals": ({"train/a": 2, "val/a": 2, "valid/a": 2}, "two folders for val: 'val' and 'valid'"),
}


@pytest.mark.parametrize("case", WRONG_FOLDERS)
def test_folders_that_cannot_be_read(tmp_path, case):
    counts, message = WRONG_FOLDERS[case]
    write_class_folders(tmp_path, counts)
    with pytest.raises(ValueError, match=message):
        folder(tmp_path)


def test_no_place_given(tmp_path):
    with pytest.raises(ValueError, match="where are the images"):
        folder("", OUTPUT_DIR=str(tmp_path))
    with pytest.raises(ValueError, match=r"FOLDER\.CSV must name the training table"):
        folder(tmp_path, TEST_CSV="test.csv")
    (tmp_path / "file").touch()
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*file .*must be the folder that holds the images"
    ):
        folder(tmp_path / "file")


# --- tables ----------------------------------------------------------------------------------------------


def write_table(path: Path, rows: list[str], files: bool = True) -> None:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    for row in rows[1:] if files else []:
        image = path.parent / row.split(",")[0].strip(' "')
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()


def test_a_table_with_splits_and_names(tmp_path):
    rows = [
        " Path ,LABEL,split,classname",
        "i/1.jpg,10,train,ten",
        "i/2.jpg,9,train,nine",
        "i/3.jpg,10,valid,ten",
        "i/4.jpg,9,TEST,nine",
        '"i/5.jpg",10, test ,ten',
    ]
    write_table(tmp_path / "all.csv", rows)
    dataset = folder(tmp_path, CSV="all.csv")
    assert dataset.classnames == ["nine", "ten"]  # numbers by value
    assert triples(dataset.train_x, tmp_path) == [["i/1.jpg", 1, "ten"], ["i/2.jpg", 0, "nine"]]
    assert triples(dataset.val, tmp_path) == [["i/3.jpg", 1, "ten"]]
    assert triples(dataset.test, tmp_path) == [["i/4.jpg", 0, "nine"], ["i/5.jpg", 1, "ten"]]


def test_a_table_without_splits(tmp_path):
    rows = [f"{name}/{k}.png,{name}" for k in range(10) for name in ("red panda", "Zebra")]
    write_table(tmp_path / "all.csv", ["path,label", *rows])
    dataset = folder(tmp_path, CSV="all.csv")
    assert dataset.classnames == ["Zebra", "red panda"] and sizes(dataset) == [10, 4, 6]
    write_table(
        tmp_path / "again.csv",
        ["label,path", *(",".join(reversed(row.split(","))) for row in reversed(rows))],
        files=False,
    )
    assert fingerprint(folder(tmp_path, CSV="again.csv")) == fingerprint(
        dataset
    )  # the rows' order plays no part


def test_a_second_table_for_test(tmp_path):
    write_table(tmp_path / "train.csv", ["path,label", "1.jpg,a", "2.jpg,b"])
    write_table(tmp_path / "test.csv", ["path,label", "3.jpg,b"])
    dataset = folder(tmp_path, CSV="train.csv", TEST_CSV="test.csv")
    assert triples(dataset.test, tmp_path) == [["3.jpg", 1, "b"]] and sizes(dataset) == [2, 0, 1]
    write_table(tmp_path / "train.csv", ["path,label,split", "1.jpg,a,train", "2.jpg,b,train", "4.jpg,b,val"])
    assert sizes(folder(tmp_path, CSV=str(tmp_path / "train.csv"), TEST_CSV="test.csv")) == [2, 1, 1]
    write_table(tmp_path / "train.csv", ["path,label,split", "1.jpg,a,train", "2.jpg,b,test"])
    with pytest.raises(ValueError, match=r"train\.csv, line 3: a test image"):
        folder(tmp_path, CSV="train.csv", TEST_CSV="test.csv")


def test_tables_with_some_splits_only(tmp_path, capsys):
    rows = [f"{name}{k}.jpg,{name},train" for k in range(10) for name in "ab"]
    write_table(tmp_path / "t.csv", ["path,label,split", *rows])
    assert sizes(folder(tmp_path, CSV="t.csv")) == [10, 4, 6]
    write_table(tmp_path / "t.csv", ["path,label,split", *rows, "x.jpg,a,val"])
    assert sizes(folder(tmp_path, CSV="t.csv")) == [20, 0, 1]
    assert "its val rows are the test set" in capsys.readouterr().out


def test_absolute_paths_and_a_byte_order_mark(tmp_path):
    write_class_folders(tmp_path / "else where", {"a": 4, "b": 4})
    rows = [f"{path},{path.parent.name}" for path in sorted((tmp_path / "else where").rglob("*.jpg"))]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "t.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8-sig")
    assert sum(sizes(folder(tmp_path / "data", CSV="t.csv"))) == 8


WRONG_TABLES = {
    "no column": (
        ["file,label", "1.jpg,a"],
        r"needs the columns path and label .*its first line has: file, label",
    ),
    "semicolons": (["path;label", "1.jpg;a"], "separated by commas; its first line has: path;label"),
    "nothing": ([""], "its first line has: nothing"),
    "only a head": (["path,label"], "has no rows"),
    "empty label": (["path,label", "1.jpg,a", "2.jpg,"], r"t\.csv, line 3: empty label"),
    "empty path": (["path,label", ",a"], r"t\.csv, line 2: empty path"),
    "too many cells": (["path,label", "1.jpg,a,b"], r"t\.csv, line 2: the number of cells"),
    "too few cells": (["path,label,split", "1.jpg,a"], r"t\.csv, line 2: the number of cells"),
    "unknown split": (
        ["path,label,split", "1.jpg,a,dev"],
        r"line 2: split is 'dev'; it must be train, val or test",
    ),
    "some splits": (
        ["path,label,split", "1.jpg,a,train", "2.jpg,a,"],
        "line 3: no split, although other rows",
    ),
    "two labels": (
        ["path,label", "1.jpg,a", "./1.jpg,b"],
        r"line 3: .*1\.jpg' has a second label; .* in t\.csv, line 2",
    ),
    "two splits": (["path,label,split", "1.jpg,a,train", "1.jpg,a,test"], "line 3: .*has a second split"),
    "two rows": (["path,label", "1.jpg,a", "1.jpg,a"], "line 3: .*has a second row"),
    "two names": (
        ["path,label,classname", "1.jpg,0,a", "2.jpg,0,b"],
        "line 3: label 0 is called 'b', but 'a' in t.csv",
    ),
    "one name": (
        ["path,label,classname", "1.jpg,0,a", "2.jpg,1,a"],
        "line 3: class 'a' has label 1, but 0 in",
    ),
    "one name to CLIP": (
        ["path,label", "1.jpg,Cat", "2.jpg,dog", "3.jpg,cat"],
        "line 4: class 'cat' has label cat, but Cat in t.csv, line 2; CLIP cannot",
    ),
    "one class": (["path,label,split", "1.jpg,a,train", "2.jpg,a,test"], "one class only"),
    "only test": (["path,label,split", "1.jpg,a,test", "2.jpg,b,test"], "no training image"),
    "class only in test": (
        ["path,label,split", "1.jpg,a,train", "2.jpg,c,train", "3.jpg,b,test"],
        "in test but not in",
    ),
    "too small": (["path,label", "1.jpg,a", "2.jpg,b"], "'a' has 1, 'b' has 1"),
}


@pytest.mark.parametrize("case", WRONG_TABLES)
def test_tables_that_cannot_be_read(tmp_path, case):
    rows, message = WRONG_TABLES[case]
    write_table(tmp_path / "t.csv", rows, files=False)
    for number in range(4):
        (tmp_path / f"{number}.jpg").touch()
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, CSV="t.csv")


def test_tables_and_images_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no table .*t\.csv; .*relative to"):
        folder(tmp_path, CSV="t.csv")
    write_table(tmp_path / "t.csv", ["path,label,split", "1.jpg,a,train", "2.jpg,b,test"], files=False)
    with pytest.raises(FileNotFoundError, match=r"2 of the 2 image files named by t\.csv do not exist"):
        folder(tmp_path, CSV="t.csv")
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(ValueError, match=r"t\.csv is not a CSV table in UTF-8"):
        folder(tmp_path, CSV="t.csv")


# --- pictures that cannot be read ------------------------------------------------------------------------


def write_photos(root: Path, bad: bool = True) -> None:
    write_class_folders(root, TEN, suffix=".png", real=True)
    if bad:
        write_bad_images(root / "ant")


def test_all_bad_pictures_are_found_at_once_whatever_a_run_uses(tmp_path):
    write_photos(tmp_path)
    dataset = folder(tmp_path, DATASET__NUM_SHOTS=1, SEED=1)
    for splits in (["train_x", "test"], ["test"], ["val"]):
        with pytest.raises(ValueError, match=r"^7 of 37 image files cannot be read") as caught:
            check_images(dataset, progress=False, splits=splits)
        message = str(caught.value)
        assert all(f"{tmp_path}/ant/{name}: " in message for name in BAD_IMAGES)
        assert f"python -m datasets check {tmp_path} folder finds all of them" in message
        assert "DATASET.SKIP_BAD True" in message
    (tmp_path / "t.csv").write_text("path,label\n")
    table = Folder.check_command(SimpleNamespace(dataset_dir="a b", csv="t.csv", test_csv=""))
    assert table == "python -m datasets check 'a b' folder --csv t.csv"


@pytest.mark.parametrize("layout", ["class folders", "split folders", "table"])
def test_skipped_pictures_count_as_if_they_were_not_there(tmp_path, layout, capsys):
    datasets = []
    for name in ("clean", "bad"):
        root = tmp_path / name
        if layout == "split folders":
            write_class_folders(root / "test", TEN, suffix=".png", real=True)
            write_photos(root / "train", bad=name == "bad")
        else:
            write_photos(root, bad=name == "bad")
        paths = sorted(path for path in root.rglob("*.*g"))
        rows = [f"{path.relative_to(root)},{path.parent.name}" for path in paths]
        (root / "t.csv").write_text("\n".join(["path,label", *rows]) + "\n")
        keys = {"DATASET__SKIP_BAD": True, "DATASET__NUM_SHOTS": 2, "SEED": 1}
        build = partial(folder, root, CSV="t.csv" if layout == "table" else "", **keys)
        if name == "bad":
            with pytest.warns(UserWarning, match=r"skipped: 7 of \d+ images cannot be read"):
                datasets.append(build())
        else:
            datasets.append(build())
    clean, skipping = datasets
    assert fingerprint(clean) == fingerprint(skipping)  # the same split, and the same few-shot picks
    where = "train/ant" if layout == "split folders" else "ant"
    assert sorted(skipping.skipped) == sorted(f"{where}/{name}" for name in BAD_IMAGES) and clean.skipped == ()
    said = capsys.readouterr().out
    assert "7 images that cannot be read" in said and all(name in said for name in BAD_IMAGES)
    check_images(skipping)
    assert _describe_data(SimpleNamespace(dm=SimpleNamespace(dataset=skipping)))["skipped"]["count"] == 7


def test_a_class_of_which_nothing_is_left_is_named(tmp_path):
    write_photos(tmp_path, bad=False)
    (tmp_path / "yak").mkdir()
    write_bad_images(tmp_path / "yak")
    with pytest.raises(ValueError, match="none of the images of class 'yak' can be read"), pytest.warns(UserWarning):
        folder(tmp_path, DATASET__SKIP_BAD=True)


def test_a_table_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"t\.csv is a folder, pipe or device"):
        folder(tmp_path, CSV="t.csv")
