"""`python -m datasets check FOLDER folder`: what is wrong with pictures of one's own, all of it at once.

Where a data set of the field is compared with what was published, here is nothing to compare with: every file is
decoded, files of the same content are looked for, and the data set is built as a run would build it.
"""

from __future__ import annotations

import os
import os.path as osp
import warnings
from collections.abc import Sequence

from clip.loading.download import digest_of
from dassl.plain.text import printable

from ..files import grouped, list_images, relative_posix
from ..loaders.folder import Folder
from .check import Report, build_quietly, report_unreadable


def check_own(folder: str, table: str = "", test_table: str = "") -> Report:
    """Check pictures of one's own, all of them at once.

    Parameters
    ----------
    folder
        The folder of class folders, or the one that relative paths in the table start from.
    table
        DATASET.FOLDER.CSV; "" for class folders.
    test_table
        DATASET.FOLDER.TEST_CSV.

    Returns
    -------
    Report
        Its problems are what keeps the data set from being built, images that cannot be decoded, and files that are
        there more than once.
    """
    report = Report(Folder, folder)
    options = {"PATH": folder, "CSV": table, "TEST_CSV": test_table}
    classes: dict[str, str] = {}  # path -> name of its class
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = build_quietly(Folder, folder, warn=True, FOLDER=options)
    except (OSError, ValueError) as error:
        report.problems.append(f"{type(error).__name__}: {error}")
        paths = list_images(folder, nested=True)
    else:
        report.notes += [str(warning.message) for warning in caught]
        parts = {"train": dataset.train_x, "val": dataset.val or [], "test": dataset.test}
        counts = ", ".join(f"{len(items):,} {part}" for part, items in parts.items() if items)
        report.facts.append(f"{counts} images of {dataset.num_classes} classes")
        paths = sorted(dataset.all_images)
        classes = {item.impath: item.classname for items in parts.values() for item in items}
    remedy = "replace these files, move them away, or train with DATASET.SKIP_BAD True"
    bad = report_unreadable(report, paths, True, remedy)
    same = same_content([path for path in paths if path not in bad])
    if same:
        lines = "\n".join(_same_line(group, folder, classes) for group in same)
        report.problems.append(f"{len(same)} pictures are there more than once:\n{lines}")
        report.todo.append("keep one file of each: what is trained on would be tested on, or have two labels")
    elif paths:
        report.facts.append("no two files are the same")
    return report


def same_content(paths: Sequence[str]) -> list[list[str]]:
    """Return groups of files that hold the same bytes. Only files of one size are read."""
    same_size = [group for group in grouped(paths, os.path.getsize).values() if len(group) > 1]
    by_content = [group for paths in same_size for group in grouped(paths, digest_of).values()]
    return [group for group in by_content if len(group) > 1]


def _same_line(group: Sequence[str], folder: str, classes: dict[str, str]) -> str:
    """Name the files of a group in one line, and say whether they are of several classes."""
    names = {classes[path] for path in group if path in classes}
    line = " = ".join(printable(relative_posix(path, osp.abspath(folder))) for path in group)
    return line + (f" (of {len(names)} classes)" if len(names) > 1 else "")
