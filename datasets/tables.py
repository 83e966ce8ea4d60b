"""CSV tables of images, for pictures of one's own: the columns `path` and `label`, and optionally `split`, `classname`.

Every mistake is reported with the table's name and line, and with what the first contradicting row says.
"""

from __future__ import annotations

import csv
import os.path as osp
from collections.abc import Callable
from typing import Any, NamedTuple

from .files import grouped, require_files
from .splits import Items, new_datum, split_classes

SPLIT_NAMES = {  # what tables and folders may call a split
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip

Inspect = Callable[[Items], Items]


class _Row(NamedTuple):
    """One image of a table."""

    path: str
    label: str
    split: str  # "train", "val", "test", or "" where the table does not say
    classname: str
    place: str  # "table.csv, line 7", for messages


def split_from_tables(folder: str, table: str, test_table: str, inspect: Inspect) -> tuple[Items, Items, Items]:
    """Read a CSV table.

    Parameters
    ----------
    folder
        Relative paths, also that of the table, are relative to it.
    table
        The table. Without a column `split` its images are split at random: 50/20/30, the same in every run.
    test_table
        A second table with the test images; "" for none.
    inspect
        All images go through it before they are split; it may leave some out.

    Returns
    -------
    tuple
        Train, val and test. Labels are numbered in the order of the table's labels: numbers by value, then text.

    Raises
    ------
    FileNotFoundError
        Where a table or an image is missing.
    ValueError
        For a table that cannot be understood, or contradicts itself.
    """
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
    split_of = {row.path: row.split for row in rows}
    items = inspect([new_datum(row.path, labels[row.label], row.classname) for row in rows])
    parts: dict[str, Items] = {"": [], "train": [], "val": [], "test": []}
    parts |= grouped(items, lambda item: split_of[item.impath])
    if not parts[""]:
        if not parts["test"] and parts["val"]:
            print(f"Note: {table} has no test rows: its val rows are the test set; there is no val set")
            parts["test"], parts["val"] = parts["val"], []
        if parts["test"]:
            return parts["train"], parts["val"], parts["test"]
        parts[""] = parts["train"]
    items = sorted(parts[""], key=lambda item: (item.label, item.impath))
    return split_classes(grouped(items, lambda item: item.classname))


def _read_table(path: str, folder: str) -> list[_Row]:
    """Read all rows of a table; either all have a split or none."""
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
        without = next(row for row in rows if not row.split)
        raise ValueError(f"{without.place}: no split, although other rows have one")
    return rows


def _read_row(cells: dict[str, Any], place: str, folder: str) -> _Row:
    """Check one row's cells; without `classname` the label is the name."""
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
    """Raise ValueError when an image has two labels or splits, a label two names, or a name two labels."""
    first: dict[tuple[str, str], _Row] = {}  # the first row with a path, a label, and a name as CLIP reads it
    for row in rows:
        keys = (("path", row.path), ("label", row.label), ("name", as_clip_reads(row.classname)))
        same_path, same_label, same_name = (first.setdefault(key, row) for key in keys)
        if same_path is not row:
            what = "label" if row.label != same_path.label else "split" if row.split != same_path.split else "row"
            raise ValueError(f"{row.place}: {row.path!r} has a second {what}; the first is in {same_path.place}")
        if same_label.classname != row.classname:
            names = f"called {row.classname!r}, but {same_label.classname!r} in {same_label.place}"
            raise ValueError(f"{row.place}: label {row.label} is {names}")
        if same_name.label != row.label:
            labels = f"has label {row.label}, but {same_name.label} in {same_name.place}"
            remedy = "CLIP cannot tell classes of one name apart"
            raise ValueError(f"{row.place}: class {row.classname!r} {labels}; {remedy}")


def as_clip_reads(name: str) -> str:
    """Return what is left of a class name in a prompt: "_" is a space, capitals and repeated spaces are lost."""
    return " ".join(name.replace("_", " ").lower().split())


def _label_order(label: str) -> tuple[bool, int, str]:
    """Sort whole numbers first, by value; then text by code point."""
    try:
        return False, int(label), label
    except ValueError:
        return True, 0, label
