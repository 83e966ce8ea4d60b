"""Which check serves which file."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.golden_data import read_npz

from .compare import Comparison
from .local import check_local
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
        return any(path.glob("parse_*.expected.txt"))
    if path.suffix == ".npz":
        return path.parent.name not in ("inputs", "models")
    return path.suffix == ".json" and _json_check(path) is not None


def _json_check(path: Path) -> Callable[[Any], Iterator[Comparison]] | None:
    """The check for a JSON file, by the keys that its kind has; None for JSON that records no result."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    sample = record[0] if isinstance(record, list) and record else record
    return next((run for key, run in JSON_CHECKS.items() if isinstance(sample, dict) and key in sample), None)


JSON_CHECKS: dict[str, Callable[[Any], Iterator[Comparison]]] = {
    "lr_during_epoch": check_schedules,
    "ids": check_tokens,
    "shots": check_fewshot,
}


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
        if "topk" in meta:
            return check_local(arrays, meta, path)
        if method in METHODS:
            return METHODS[method](arrays, meta, path)
        if method:
            raise Unsupported(f"no trainer {method} yet")
    elif path.suffix == ".json" and (run := _json_check(path)):
        return run(json.loads(path.read_text(encoding="utf-8")))
    raise ValueError(f"{path} is none of the recorded kinds")
