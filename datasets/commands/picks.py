"""The few-shot images of a seed: `python -m datasets picks`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os.path as osp
import sys
from typing import Any

from dassl.plain.text import printable
from dassl.plain.writing import atomic_write

from ..base import SplitDataset
from ..catalogue import UsageError, declared, find_kind
from ..checking.check import build_quietly
from ..draws import PER_CLASS
from ..files import relative_posix
from ..published import picks_digest


def run(options: argparse.Namespace) -> int:
    """Print or write the picks; returns the exit status."""
    kind = find_kind(options.name, declared())  # the demo's and plugins' as well
    if kind.eval_only:
        raise UsageError(f"{kind.__name__} is for evaluation only: no run trains on it, so nothing is picked")
    dataset = build_quietly(kind, options.root, options.shots, options.seed, warn=True, DRAW=options.draw)
    content = picks_of(dataset, kind, options.shots, options.seed, options.draw)
    text = {"text": as_text, "json": as_json, "csv": as_csv}[options.format](content)
    if options.out:
        with atomic_write(osp.expanduser(options.out)) as file:
            file.write(text)
        print(f"{len(content['train'])} train and {len(content['val'])} val images -> {options.out}")
    else:
        sys.stdout.write(text)
    return 0


def picks_of(
    dataset: Any, kind: type[SplitDataset], shots: int, seed: int, draw: str = PER_CLASS
) -> dict[str, Any]:
    """Collect what is exported; paths are relative to the data set's image folder.

    `check` holds the digests of both lists, and `published` says whether they are the known ones (None: none is known,
    as of every draw but CoOp's).
    """
    own_val = (dataset.val or []) if dataset.val is not dataset.test else []
    folder = dataset.image_dir
    content: dict[str, Any] = {"dataset": kind.__name__, "shots": shots, "draw": draw, "seed": seed}
    content["image_folder"] = folder
    checks = {}
    for part, items in (("train", dataset.train_x), ("val", own_val)):
        rows = [(relative_posix(item.impath, folder), item.label, item.classname) for item in items]
        checks[part] = picks_digest([(label, path) for path, label, _ in rows])
        content[part] = [dict(zip(("path", "label", "classname"), row, strict=True)) for row in rows]
    expected = kind.published.picks.get((shots, seed)) if kind.published and draw == PER_CLASS else None
    return content | {"check": checks, "published": expected and expected == tuple(checks.values())}


def as_text(content: dict[str, Any]) -> str:
    """Format lines of part, label, class name and path, separated by tabs, below lines of comment."""
    known = {None: "no published value to compare with", True: "as published", False: "not as published"}
    draw = "" if content["draw"] == PER_CLASS else f", {content['draw']} draw"
    lines = [
        f"# {content['dataset']}, {content['shots']}-shot{draw}, seed {content['seed']}, below "
        f"{content['image_folder']}",
        f"# check values: train {content['check']['train']}, val {content['check']['val']} "
        f"({known[content['published']]})",
    ]
    lines += ["\t".join(map(printable, row)) for row in _rows(content)]
    return "\n".join(lines) + "\n"


def as_json(content: dict[str, Any]) -> str:
    """Format the whole content as one JSON object."""
    return json.dumps(content, indent=2) + "\n"


def as_csv(content: dict[str, Any]) -> str:
    """Format a table with the columns that the data set Folder reads; paths are relative to the image folder."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([("split", "label", "classname", "path"), *_rows(content)])
    return file.getvalue()


def _rows(content: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    return [
        (part, item["label"], item["classname"], item["path"]) for part in ("train", "val") for item in content[part]
    ]
