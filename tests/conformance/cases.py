"""Which check serves which file."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.golden_data import read_npz

from .compare import Comparison
from .models import METHODS, check_sinkhorn
from .runs import (
    check_evaluation,
    check_fewshot,
    check_parsing,
    check_schedules,
    check_tokens,
    check_training,
)


class Unsupported(Exception):
    """The file is well formed, but records something that the project does not offer yet."""


def is_case(path: Path) -> bool:
    """Files that record results; inputs, models and notes are not cases."""
    if path.is_dir():
        return (path / "parse_train.expected.txt").exists()
    if path.suffix == ".npz":
        return path.parent.name not in ("inputs", "models")
    return path.suffix == ".json" and any(key in _head(path) for key in ('"ids"', '"shots"', '"lr_during_epoch"'))


def _head(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(20_000)


def check(path: Path) -> Iterator[Comparison]:
    """Run the project on one case; raises Unsupported, or ValueError where the file is none of the known kinds."""
    if path.is_dir():
        return check_parsing(path)
    if path.suffix == ".npz":
        arrays, meta = read_npz(path)
        if "K" in arrays:
            return check_sinkhorn(arrays, meta, path)
        if "first_images" in arrays:
            return check_evaluation(arrays, meta, path)
        method = meta.get("method")
        if "batches_per_epoch" in meta:
            return check_training(arrays, meta, path)
        if method in METHODS:
            return METHODS[method](arrays, meta, path)
        if method:
            raise Unsupported(f"no trainer {method} yet")
    elif path.suffix == ".json":
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, list):
            return check_schedules(record)
        if "ids" in record:
            return check_tokens(record)
        if "shots" in record:
            return check_fewshot(record)
    raise ValueError(f"{path} is none of the recorded kinds")
