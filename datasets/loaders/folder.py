"""Your own images: a folder of class folders, or a CSV table.

Below DATASET.ROOT joined with DATASET.FOLDER.PATH, one of

    <class>/*.jpg                      split 50/20/30 into train, val and test: the same way in every run
    train/<class>/*.jpg  test/<class>/*.jpg  [val/<class>/*.jpg]       taken as it is

or DATASET.FOLDER.CSV, a table with the columns `path` and `label`, and optionally `split` (train, val or
test) and `classname`; DATASET.FOLDER.TEST_CSV may name a second table with the test images. Relative paths
are relative to the folder. Without `classname` the label is the class's name.

Images are files with the suffix of a format that is read anywhere here (.jpg, .png, .webp, .tif, .gif, .heic, ...), at
any depth below their class folder; names that start with a dot are ignored. What is no image, or lies in no class
folder, is named once and left out; so are class folders without an image and those that operating systems make. Class
names are the folders' names as they are (trainers read "_" as a space), labels their sorted order. Few-shot picks and
base/new classes work as for every data set; nothing is written into your folder.

Pictures are read as a person sees them (INPUT.EXIF_ORIENTATION and INPUT.ALPHA, which configs/datasets/folder.yaml
sets). All are looked at before a run, also those that it does not use. With DATASET.SKIP_BAD those that cannot be read
count as if they were not there: splits and picks are those of the others. `python -m datasets check FOLDER folder`
names them, and files that are there twice.
"""

from __future__ import annotations

import os
import os.path as osp
import shlex
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY

from ..base import SplitDataset
from ..files import first_few, grouped, is_image_name, list_folders, list_images, relative_posix
from ..splits import Items, new_datum, split_classes
from ..tables import SPLIT_NAMES, Inspect, as_clip_reads, split_from_tables

SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}  # in lower case
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


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
    folders = [name for name in list_folders(folder) if name.lower() not in SYSTEM_FOLDERS]
    paths = {name: list_images(osp.join(folder, name), nested=True) for name in folders}
    names = [name for name in folders if paths[name]]
    if not names:
        expected = osp.join(folder, "<class>", "*.jpg")
        raise ValueError(f"no class folders in {folder}; expected {expected}{_left_out(folder, folders)}")
    of_name: dict[str, str] = {}
    for name in names:
        seen = of_name.setdefault(as_clip_reads(name), name)
        if seen != name:
            raise ValueError(f"{folder} has the classes {seen!r} and {name!r}; CLIP cannot tell them apart")
    if left_out := _left_out(folder, [name for name in folders if not paths[name]]):
        warnings.warn(f"{folder} holds what is left out{left_out}", stacklevel=2)
    classes = {name: [new_datum(path, label, name) for path in paths[name]] for label, name in enumerate(names)}
    left = grouped(inspect([item for items in classes.values() for item in items]), lambda item: item.classname)
    return {name: left.get(name, []) for name in names}


def _left_out(folder: str, empty: Sequence[str]) -> str:
    """Say what of a folder of class folders is not used, and why: by name and number; "" where there is nothing.

    Parameters
    ----------
    folder
        The folder.
    empty
        Its sub-folders that hold no image.
    """
    loose = [osp.basename(path) for path in list_images(folder)]
    others = [
        relative_posix(osp.join(here, name), folder)
        for here, _, names in os.walk(folder)
        if here != folder and not _is_hidden(osp.relpath(here, folder))
        for name in sorted(names)
        if not (name.startswith(".") or is_image_name(name) or name.lower() in SYSTEM_FILES)
    ]
    system = [name for name in list_folders(folder) if name.lower() in SYSTEM_FOLDERS]
    kinds = {
        "class folders without an image": [*empty, *system],
        "images in no class folder": loose,
        "other files": others,
    }
    return "".join(f"; {kind} ({len(names)}): {first_few(map(repr, names))}" for kind, names in kinds.items() if names)


def _is_hidden(path: str) -> bool:
    """Whether a relative path leads through a hidden folder, or through one that an operating system makes."""
    return any(part.startswith(".") and part != "." or part.lower() in SYSTEM_FOLDERS for part in path.split(os.sep))


def _like_train(classes: dict[str, Items], train: dict[str, Items], split: str) -> Items:
    """Give the images of another split the labels that train gives their classes."""
    labels = {name: items[0].label for name, items in train.items()}
    for name in classes:
        if name not in labels:
            near = get_close_matches(name, labels, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"class {name!r} of {split}/ has no folder in train/{hint}")
    return [new_datum(item.impath, labels[name], name) for name, items in classes.items() for item in items]
