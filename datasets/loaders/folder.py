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

import os.path as osp
import shlex
import warnings
from difflib import get_close_matches
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY

from ..base import SplitDataset
from ..files import IMAGE_SUFFIXES, first_few, grouped, list_folders, list_images
from ..splits import Items, new_datum, split_classes
from ..tables import SPLIT_NAMES, Inspect, as_clip_reads, split_from_tables


@DATASET_REGISTRY.register()
class Folder(SplitDataset):
    """Pictures of one's own: the only data set whose images may be others at the next run.

    Reads DATASET.FOLDER.PATH, CSV and TEST_CSV of the config, which are explained above.
    """

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
        """Return (train, val, test) of the tables, if the config names any, else of the folders."""
        if self.csv:
            split = split_from_tables(self.dataset_dir, self.csv, self.test_csv, self._inspect)
            place, remedy = self.csv, "there is nothing to tell apart"
        else:
            split = split_from_folders(self.dataset_dir, self._inspect)
            place, remedy = self.dataset_dir, "is it the folder above the one that holds the class folders?"
        names = {item.classname for item in split[0]}
        if len(names) == 1:
            raise ValueError(f"{place} has one class only, {names.pop()!r}; {remedy}")
        return split

    def _inspect(self, items: Items) -> Items:
        """Look at all images before they are split: what is skipped counts as if it were not there."""
        (items,) = self.leave_out_bad(items)
        self.all_images = [*self.all_images, *(item.impath for item in items)]
        return items

    def check_command(self) -> str:
        """Return the command that looks at every image, with the same tables."""
        tables = zip(("--csv", "--test-csv"), (self.csv, self.test_csv), strict=True)
        words = [self.dataset_dir, "folder", *(word for flag, table in tables if table for word in (flag, table))]
        return f"python -m datasets check {shlex.join(words)}"


def split_from_folders(folder: str, inspect: Inspect) -> tuple[Items, Items, Items]:
    """Read a folder of class folders, or of split folders that hold class folders.

    Parameters
    ----------
    folder
        The folder. Without folders named after splits, its images are split at random: 50/20/30, the same in every run.
    inspect
        All images go through it before they are split; it may leave some out.

    Returns
    -------
    tuple
        Train, val and test. Without a test folder the val folder is the test set.

    Raises
    ------
    ValueError
        For a folder without classes, classes without images, names that CLIP cannot tell apart, and where it is not
        clear whether a folder is a class or a split.
    """
    splits = _split_folders(folder)
    if not splits:
        return split_classes(_read_classes(folder, inspect))
    train = _read_classes(splits["train"], inspect)
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
        name = osp.basename(splits["test"])
        print(f"Note: {folder} has no test/: its {name}/ is the test set, and there is no val set")
    if "test" not in splits:
        print(f"Note: {folder} has no test/: splitting its train/ into train, val and test")
        return split_classes(train)
    others = [
        _like_train(_read_classes(splits[name], inspect), train, name) if name in splits else []
        for name in ("val", "test")
    ]
    return [item for items in train.values() for item in items], others[0], others[1]


def _split_folders(folder: str) -> dict[str, str]:
    """Map every split to its folder; {} where the folders are classes.

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


def _read_classes(folder: str, inspect: Inspect) -> dict[str, Items]:
    """Map every class name to its images, sorted by path; labels follow the sorted names."""
    names = list_folders(folder)
    if not names:
        raise ValueError(f"no class folders in {folder}; expected {osp.join(folder, '<class>', '*.jpg')}")
    of_name: dict[str, str] = {}
    for name in names:
        seen = of_name.setdefault(as_clip_reads(name), name)
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
    left = grouped(inspect([item for items in classes.values() for item in items]), lambda item: item.classname)
    return {name: left.get(name, []) for name in names}


def _like_train(classes: dict[str, Items], train: dict[str, Items], split: str) -> Items:
    """Give the images of another split the labels that train gives their classes."""
    labels = {name: items[0].label for name, items in train.items()}
    for name in classes:
        if name not in labels:
            near = get_close_matches(name, labels, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"class {name!r} of {split}/ has no folder in train/{hint}")
    return [new_datum(item.impath, labels[name], name) for name, items in classes.items() for item in items]
