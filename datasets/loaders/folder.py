"""Your own images: a folder of class folders, or a CSV table.

Below DATASET.ROOT joined with DATASET.FOLDER.PATH, one of

    <class>/*.jpg                      split 50/20/30 into train, val and test: the same way in every run
    train/<class>/*.jpg  test/<class>/*.jpg  [val/<class>/*.jpg]       taken as it is

or DATASET.FOLDER.CSV, a table with the columns `path` and `label`, and optionally `split` (train, val or
test) and `classname`; DATASET.FOLDER.TEST_CSV may name a second table with the test images. Relative paths
are relative to the folder. Without `classname` the label is the class's name.

Images are .jpg, .jpeg, .png, .webp or .bmp, at any depth below their class folder; names that start with a
dot are ignored. Class names are the folders' names as they are (trainers read "_" as a space), labels their
sorted order. Few-shot picks and base/new classes work as for every data set; nothing is written into your
folder.

All images are looked at before a run, also those that it does not use. With DATASET.SKIP_BAD those that cannot be
read count as if they were not there: splits and picks are those of the others. `python -m datasets check FOLDER
folder` names them, and files that are there twice.
"""

from __future__ import annotations

import csv
import os.path as osp
import shlex
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

from dassl.data.datasets import DATASET_REGISTRY

from ..base import SplitDataset
from ..files import IMAGE_SUFFIXES, first_few, list_folders, list_images, require_files
from ..splits import Items, new_datum, split_classes

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip


@DATASET_REGISTRY.register()
class Folder(SplitDataset):
    """Pictures of one's own: the only data set whose images may be others at the next run."""

    config = "folder"
    own_pictures = True
    keep_picks = False  # drawing again costs nothing, and your folder stays yours

    def __init__(self, cfg: Any) -> None:
        options = cfg.DATASET.get("FOLDER", {})
        self.csv = options.get("CSV", "")
        self.test_csv = options.get("TEST_CSV", "")
        self.dataset_dir = osp.expanduser(options.get("PATH", ""))
        if not (cfg.DATASET.ROOT or self.dataset_dir):
            raise ValueError("where are the images? set DATASET.ROOT (--root) or DATASET.FOLDER.PATH")
        if self.test_csv and not self.csv:
            raise ValueError("DATASET.FOLDER.TEST_CSV is set; then DATASET.FOLDER.CSV must name the training table")
        super().__init__(cfg)

    def load_split(self, cfg: Any) -> tuple[Items, Items, Items]:
        if self.csv:
            split = split_from_tables(self.dataset_dir, self.csv, self.test_csv, self._looked_at)
            place, remedy = self.csv, "there is nothing to tell apart"
        else:
            split = split_from_folders(self.dataset_dir, self._looked_at)
            place, remedy = self.dataset_dir, "is it the folder above the one that holds the class folders?"
        names = {item.classname for item in split[0]}
        if len(names) == 1:
            raise ValueError(f"{place} has one class only, {names.pop()!r}; {remedy}")
        return split

    def _looked_at(self, items: Items) -> Items:
        """All images, before they are split: what is skipped counts as if it were not there."""
        (items,) = self.leave_out_bad(items)
        self.all_images = [*self.all_images, *(item.impath for item in items)]
        return items

    def check_command(self) -> str:
        tables = zip(("--csv", "--test-csv"), (self.csv, self.test_csv), strict=True)
        words = [self.dataset_dir, "folder", *(word for flag, table in tables if table for word in (flag, table))]
        return f"python -m datasets check {shlex.join(words)}"


LookedAt = Callable[[Items], Items]


# --- folders ---------------------------------------------------------------------------------------------


def split_from_folders(folder: str, looked_at: LookedAt) -> tuple[Items, Items, Items]:
    """(train, val, test) of a folder of class folders, or of split folders that hold class folders.

    All images go through `looked_at`, which may leave some out, before they are split.
    """
    splits = _split_folders(folder)
    if not splits:
        return split_classes(_read_classes(folder, looked_at))
    train = _read_classes(splits["train"], looked_at)
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
        name = osp.basename(splits["test"])
        print(f"Note: {folder} has no test/: its {name}/ is the test set, and there is no val set")
    if "test" not in splits:
        print(f"Note: {folder} has no test/: splitting its train/ into train, val and test")
        return split_classes(train)
    others = [
        _like_train(_read_classes(splits[name], looked_at), train, name) if name in splits else []
        for name in ("val", "test")
    ]
    return [item for items in train.values() for item in items], others[0], others[1]


def _split_folders(folder: str) -> dict[str, str]:
    """split -> its folder, or {} where the folders are classes.

    `train` may also be a class of vehicles: beside other classes it is a split when it holds folders and no images.
    """
    names = list_folders(folder)
    splits: dict[str, str] = {}
    for name in names:
        split = SPLIT_NAMES.get(name.lower())
        if split and splits.setdefault(split, osp.join(folder, name)) != osp.join(folder, name):
            raise ValueError(f"{folder} has two folders for {split}: {osp.basename(splits[split])!r} and {name!r}")
    others = [name for name in names if name.lower() not in SPLIT_NAMES]
    if "train" not in splits or not list_folders(splits["train"]) or (others and list_images(splits["train"])):
        return {}
    classes = [name for name in others if list_images(osp.join(folder, name), nested=True)]
    if classes:
        raise ValueError(
            f"{folder} is ambiguous: is train/ a split or a class like {first_few(map(repr, classes))}? "
            "If it is a class, put its images directly into it; otherwise move the other folders away"
        )
    return splits


def _read_classes(folder: str, looked_at: LookedAt) -> dict[str, Items]:
    """class name -> its images, sorted by path; labels follow the sorted names."""
    names = list_folders(folder)
    if not names:
        raise ValueError(f"no class folders in {folder}; expected {osp.join(folder, '<class>', '*.jpg')}")
    of_name: dict[str, str] = {}
    for name in names:
        seen = of_name.setdefault(_as_clip_reads(name), name)
        if seen != name:
            raise ValueError(f"{folder} has the classes {seen!r} and {name!r}; CLIP cannot tell them apart")
    classes = {}
    for label, name in enumerate(names):
        paths = list_images(osp.join(folder, name), nested=True)
        classes[name] = [new_datum(path, label, name) for path in paths]
    if empty := [name for name, items in classes.items() if not items]:
        raise ValueError(
            f"no image in class folder {first_few(map(repr, empty))} of {folder} (images are "
            f"{', '.join(IMAGE_SUFFIXES)}); add some or move the folder away"
        )
    if stray := list_images(folder):
        warnings.warn(f"{len(stray)} images lie directly in {folder}, in no class folder; ignored", stacklevel=2)
    left: dict[str, Items] = {name: [] for name in names}
    for item in looked_at([item for items in classes.values() for item in items]):
        left[item.classname].append(item)
    return left


def _like_train(classes: dict[str, Items], train: dict[str, Items], split: str) -> Items:
    """The images of another split with the labels that train gives their classes."""
    labels = {name: items[0].label for name, items in train.items()}
    for name in classes:
        if name not in labels:
            near = get_close_matches(name, labels, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"class {name!r} of {split}/ has no folder in train/{hint}")
    return [new_datum(item.impath, labels[name], name) for name, items in classes.items() for item in items]


# --- tables ----------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    path: str
    label: str
    split: str  # "train", "val", "test", or "" where the table does not say
    classname: str
    place: str  # "table.csv, line 7", for messages


def split_from_tables(folder: str, table: str, test_table: str, looked_at: LookedAt) -> tuple[Items, Items, Items]:
    """(train, val, test) of a CSV table, with the rows of `test_table` (if any) as test; `looked_at` as above."""
    rows = _read_table(osp.join(folder, osp.expanduser(table)), folder)
    if test_table:
        if wrong := [row for row in rows if row.split == "test"]:
            raise ValueError(f"{wrong[0].place}: a test image, although TEST_CSV names the test images")
        rows = [row._replace(split=row.split or "train") for row in rows]
        tests = _read_table(osp.join(folder, osp.expanduser(test_table)), folder)
        rows += [row._replace(split="test") for row in tests]
    _refuse_contradictions(rows)
    require_files([row.path for row in rows], table, f"relative paths are relative to {folder}")

    labels = {label: position for position, label in enumerate(sorted({row.label for row in rows}, key=_label_order))}
    parts: dict[str, Items] = {"": [], "train": [], "val": [], "test": []}
    split_of = {row.path: row.split for row in rows}
    for item in looked_at([new_datum(row.path, labels[row.label], row.classname) for row in rows]):
        parts[split_of[item.impath]].append(item)
    if not parts[""]:
        if not parts["test"] and parts["val"]:
            print(f"Note: {table} has no test rows: its val rows are the test set; there is no val set")
            parts["test"], parts["val"] = parts["val"], []
        if parts["test"]:
            return parts["train"], parts["val"], parts["test"]
        parts[""] = parts["train"]
    classes: dict[str, Items] = {}
    for item in sorted(parts[""], key=lambda item: (item.label, item.impath)):
        classes.setdefault(f"{item.classname}", []).append(item)
    return split_classes(classes)


def _read_table(path: str, folder: str) -> list[_Row]:
    name = osp.basename(path)
    if osp.exists(path) and not osp.isfile(path):
        raise ValueError(f"{path} is a folder, pipe or device; the table must be a file")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [(column or "").strip().lower() for column in reader.fieldnames or []]
            if not {"path", "label"} <= set(columns):
                raise ValueError(
                    f"{path} needs the columns path and label (and may have split, classname), separated by "
                    f"commas; its first line has: {', '.join(columns) or 'nothing'}"
                )
            reader.fieldnames = columns
            rows = [_read_row(cells, f"{name}, line {reader.line_num}", folder) for cells in reader]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no table {path}; DATASET.FOLDER.CSV and TEST_CSV are relative to {folder}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV table in UTF-8: {error}") from error
    if not rows:
        raise ValueError(f"{path} has no rows below its first line")
    if len({bool(row.split) for row in rows}) > 1:
        unsaid = next(row for row in rows if not row.split)
        raise ValueError(f"{unsaid.place}: no split, although other rows have one")
    return rows


def _read_row(cells: dict[str, Any], place: str, folder: str) -> _Row:
    if None in cells or None in cells.values():
        raise ValueError(f"{place}: the number of cells differs from the first line's; quote names with commas")
    cells = {column: cell.strip() for column, cell in cells.items()}
    if not (cells["path"] and cells["label"]):
        raise ValueError(f"{place}: empty {'path' if not cells['path'] else 'label'}")
    split = cells.get("split", "").lower()
    if split and split not in SPLIT_NAMES:
        raise ValueError(f"{place}: split is {cells['split']!r}; it must be train, val or test")
    path = osp.normpath(osp.join(folder, osp.expanduser(cells["path"])))
    classname = cells.get("classname") or cells["label"]
    return _Row(path, cells["label"], SPLIT_NAMES.get(split, ""), classname, place)


def _refuse_contradictions(rows: list[_Row]) -> None:
    """Raise ValueError when an image has two labels or splits, or a label two names."""
    of_path: dict[str, _Row] = {}
    of_label: dict[str, _Row] = {}
    of_name: dict[str, _Row] = {}
    for row in rows:
        seen = of_path.setdefault(row.path, row)
        if seen is not row:
            difference = "label" if seen.label != row.label else "split" if seen.split != row.split else "row"
            raise ValueError(f"{row.place}: {row.path!r} has a second {difference}; the first is in {seen.place}")
        seen = of_label.setdefault(row.label, row)
        if seen.classname != row.classname:
            raise ValueError(
                f"{row.place}: label {row.label} is called {row.classname!r}, but {seen.classname!r} in {seen.place}"
            )
        seen = of_name.setdefault(_as_clip_reads(row.classname), row)
        if seen.label != row.label:
            raise ValueError(
                f"{row.place}: class {row.classname!r} has label {row.label}, "
                f"but {seen.label} in {seen.place}; CLIP cannot tell classes of one name apart"
            )


def _as_clip_reads(name: str) -> str:
    """What is left of a class name in a prompt: "_" is a space there, and capitals and repeated spaces are lost."""
    return " ".join(name.replace("_", " ").lower().split())


def _label_order(label: str) -> tuple[bool, int, str]:
    """Whole numbers first, by value; then text by code point."""
    try:
        return False, int(label), label
    except ValueError:
        return True, 0, label
