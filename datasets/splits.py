"""Split files, splitting where there is none, and base/new classes.

A split file is CoOp's JSON: {"train": [...], "val": [...], "test": [...]}, each entry
[path relative to the image folder, label from 0, class name]. The order of the entries matters: few-shot
selection walks through the classes in the order in which they first appear.
"""

from __future__ import annotations

import hashlib
import json
import math
import os.path as osp
import random
import warnings
from collections.abc import Sequence
from typing import Any

from dassl.data.datasets import Datum
from dassl.utils import read_json, write_json

from .files import first_few, grouped, list_folders, list_images, relative_posix, require_files

PRIVATE_SEED = 1  # of generated splits, which must not depend on the seed of the run that comes first
SPLITS = ("train", "val", "test")

Items = list[Datum]


def new_datum(impath: str, label: int, classname: str) -> Datum:
    """Make a `Datum` without a look at the file system, for paths that were checked in bulk or just listed."""
    item = Datum.__new__(Datum)
    item._impath, item._label, item._domain, item._classname = impath, label, 0, classname
    return item


# --- split files -----------------------------------------------------------------------------------------


def read_split(filepath: str, path_prefix: str) -> tuple[Items, Items, Items]:
    """Read a split file.

    Parameters
    ----------
    filepath
        The file.
    path_prefix
        The folder that its paths are relative to.

    Returns
    -------
    tuple
        Train, val and test, in the file's order.

    Raises
    ------
    ValueError
        When the file is damaged.
    FileNotFoundError
        When images are missing.
    """
    print(f"Reading split from {filepath}")
    remedy = "delete it, and download it again if it came with the data set"
    try:
        content = read_json(filepath)
        lists = [[_read_entry(entry, path_prefix) for entry in content[split]] for split in SPLITS]
    except (KeyError, TypeError, ValueError) as error:  # damaged JSON is a ValueError
        raise ValueError(
            f"{filepath} is damaged or no split file ({type(error).__name__}: {error}); expected "
            f'{{"train": [[path, label, class name], ...], "val": ..., "test": ...}}; {remedy}'
        ) from error
    paths = [item.impath for items in lists for item in items]
    require_files(
        paths, osp.basename(filepath), f"unpack all images below {path_prefix}, or use the split file that fits them"
    )
    train, val, test = lists
    _warn_of_repeats(filepath, train, val, test)
    return train, val, test


def _warn_of_repeats(filepath: str, *lists: Items) -> None:
    """Warn where a split file names an image twice, and count the test images that are trained or chosen on.

    The published files that could be looked at repeat nothing; others are taken as they are, but not in silence.
    """
    splits_of: dict[str, list[str]] = {}
    for split, items in zip(SPLITS, lists, strict=True):
        for item in items:
            splits_of.setdefault(item.impath, []).append(split)
    repeated = {path: splits for path, splits in splits_of.items() if len(splits) > 1}
    if repeated:
        shown = [f"{path!r} ({' and '.join(splits)})" for path, splits in repeated.items()]
        leaks = sum("test" in splits and len(set(splits)) > 1 for splits in repeated.values())
        also = f"; {leaks} of them are test images that are also trained or chosen on" if leaks else ""
        warnings.warn(f"{filepath} names images more than once: {first_few(shown, 3)}{also}", stacklevel=4)


def _read_entry(entry: list, path_prefix: str) -> Datum:
    """Read one [path, label, class name]; TypeError or ValueError for anything else."""
    path, label, name = entry
    if not (isinstance(path, str) and path and isinstance(name, str) and int(label) == float(label)):
        raise TypeError(f"entry {entry!r}")
    return new_datum(osp.join(path_prefix, path), int(label), name)


def save_split(train: Items, val: Items, test: Items, filepath: str, path_prefix: str) -> None:
    """Write a split file with paths relative to `path_prefix`."""
    write_json(split_as_json(train, val, test, path_prefix), filepath)
    print(f"Saved split to {filepath}")


def split_as_json(train: Items, val: Items, test: Items, path_prefix: str) -> dict[str, list]:
    """Return the content of a split file, with paths relative to `path_prefix`."""
    return {
        split: [[relative_posix(item.impath, path_prefix), item.label, item.classname] for item in items]
        for split, items in zip(SPLITS, (train, val, test), strict=True)
    }


def split_digest(train: Items, val: Items, test: Items, path_prefix: str) -> str:
    """Return SHA-256 (hex) of the split file without its white space."""
    return json_digest(split_as_json(train, val, test, path_prefix))


def json_digest(content: Any) -> str:
    """Return SHA-256 (hex) of JSON without white space, so that it does not depend on how a file is laid out."""
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode("ascii")).hexdigest()


# --- splitting -------------------------------------------------------------------------------------------


def read_and_split_data(
    image_dir: str,
    p_trn: float = 0.5,
    p_val: float = 0.2,
    ignored: Sequence[str] = (),
    new_cnames: dict[str, str] | None = None,
) -> tuple[Items, Items, Items]:
    """Split a folder of class folders at random; the label is the position of the folder among the sorted ones.

    Parameters
    ----------
    image_dir
        The folder of class folders.
    p_trn, p_val
        Shares of train and val of each class; the rest is the test set.
    ignored
        Folders to leave out.
    new_cnames
        Folder -> class name, where they differ.

    Returns
    -------
    tuple
        Train, val and test, grouped by class.
    """
    names = [name for name in list_folders(image_dir) if name not in ignored]
    if not names:
        raise ValueError(f"{image_dir} holds no class folders; expected {osp.join(image_dir, '<class>', '*.jpg')}")
    classes = {}
    for label, name in enumerate(names):
        classname = (new_cnames or {}).get(name, name)
        paths = list_images(osp.join(image_dir, name))
        classes[name] = [new_datum(path, label, classname) for path in paths]
    print(f"Splitting {image_dir} into {p_trn:.0%} train, {p_val:.0%} val and {1 - p_trn - p_val:.0%} test")
    return split_classes(classes, p_trn, p_val)


def split_classes(classes: dict[str, Items], p_trn: float = 0.5, p_val: float = 0.2) -> tuple[Items, Items, Items]:
    """Split every class at random: of n items round(p_trn n) are for train, round(p_val n) for val, the rest for test.

    The choice depends on nothing but a class's name and its items, so it is the same in every run, and adding a class
    or an image leaves the other classes as they were.

    Raises
    ------
    ValueError
        When a class is too small for one image in every part.
    """
    train: Items = []
    val: Items = []
    test: Items = []
    too_small = []
    for name, items in classes.items():
        n_train, n_val = round(p_trn * len(items)), round(p_val * len(items))
        if min(n_train, n_val, len(items) - n_train - n_val) < 1:
            too_small.append(f"{name!r} has {len(items)}")
            continue
        items = list(items)
        random.Random(f"{PRIVATE_SEED} {name}").shuffle(items)
        train += items[:n_train]
        val += items[n_train : n_train + n_val]
        test += items[n_train + n_val :]
    if too_small:
        needed = _smallest_class(p_trn, p_val)
        raise ValueError(
            f"a class needs {needed} images or more to be split into train, val and test, but "
            f"{first_few(too_small)}; add images, leave these classes out, or say yourself which image "
            "belongs to which split"
        )
    return train, val, test


def _smallest_class(p_trn: float, p_val: float) -> int:
    """Find the fewest images of which each part gets one."""
    sizes = ((n, round(p_trn * n), round(p_val * n)) for n in range(1, 10_000))
    return next(n for n, n_train, n_val in sizes if min(n_train, n_val, n - n_train - n_val) >= 1)


def split_trainval(trainval: Items, p_val: float = 0.2) -> tuple[Items, Items]:
    """Split off a validation set: of each class, in order of first appearance, round(p_val n) random items.

    Returns
    -------
    tuple
        Train and val.

    Raises
    ------
    ValueError
        When a class is too small for one image in val.
    """
    rng = random.Random(PRIVATE_SEED)
    train: Items = []
    val: Items = []
    for items in grouped(trainval, lambda item: item.label).values():
        n_val = round(p_val * len(items))
        if n_val < 1:
            raise ValueError(f"class {items[0].classname!r} has {len(items)} images, too few for {p_val:.0%} val")
        rng.shuffle(items)
        val += items[:n_val]
        train += items[n_val:]
    return train, val


# --- classes ---------------------------------------------------------------------------------------------


def check_labels(train: Items, val: Items | None, test: Items | None, source: str) -> None:
    """Raise ValueError unless train has every label 0..C-1, and a label has one name in all splits."""
    if not train or not test:
        raise ValueError(f"{source}: there is no {'test' if train else 'training'} image")
    names: dict[int, str] = {}
    for split, items in zip(SPLITS, (train, val, test), strict=True):
        for item in items or []:
            known = names.setdefault(item.label, item.classname) if split == "train" else names.get(item.label)
            if known is None:
                raise ValueError(
                    f"{source}: label {item.label} ({item.classname!r}, {item.impath!r}) occurs in {split} "
                    "but not in train; every class needs training images"
                )
            if known != item.classname:
                raise ValueError(
                    f"{source}: label {item.label} is called {known!r} and also {item.classname!r} "
                    f"({split}: {item.impath!r}); every label needs exactly one name"
                )
    if unused := sorted(set(range(max(names) + 1)) - set(names)):
        raise ValueError(f"{source}: labels go up to {max(names)}, but no training image has {first_few(unused)}")
    if min(names) < 0:
        raise ValueError(f"{source}: labels start at 0, but there is {min(names)}")


def subsample_classes(*lists: Items | None, subsample: str = "all") -> Any:
    """Keep the first ("base") or second ("new") half of the classes, by label, and number them from 0 again.

    Parameters
    ----------
    *lists
        Lists of images, or None. The classes are those of the first list; with an odd number the base half has one
        more.
    subsample
        DATASET.SUBSAMPLE_CLASSES; "all" changes nothing.

    Returns
    -------
    tuple or list
        The given tuple for "all", else a list of lists.

    Raises
    ------
    ValueError
        For another value, and where a half would have fewer than two classes.
    """
    if subsample == "all":
        return lists
    if subsample not in ("base", "new"):
        raise ValueError(f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}; it must be 'all', 'base' or 'new'")
    labels = sorted({item.label for item in lists[0] or []})
    middle = math.ceil(len(labels) / 2)
    chosen = labels[:middle] if subsample == "base" else labels[middle:]
    if len(chosen) < 2:
        raise ValueError(
            f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}, which leaves {len(chosen)} of {len(labels)}: with fewer than "
            "2 there is nothing to tell apart, and every prediction is right; use 'all', or a data set of 4 classes"
        )
    print(f"SUBSAMPLE {subsample.upper()} CLASSES!")
    new_label = {label: position for position, label in enumerate(chosen)}
    return [
        None
        if items is None
        else [
            new_datum(item.impath, new_label[item.label], item.classname) for item in items if item.label in new_label
        ]
        for items in lists
    ]
