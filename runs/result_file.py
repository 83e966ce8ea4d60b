"""result.json as everybody reads it: what it may hold, and that nothing else gets through."""
from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

from dassl.plain.reading import COUNT, NUMBER, PERCENT, TEXT, WHOLE, Each, Maybe, load_json, wrong

__all__ = ["RESULT", "SCHEMA", "read_record"]

SCHEMA = 1
CLASS = {"label": COUNT, "name": TEXT, "total": COUNT, "correct": Maybe(COUNT), "accuracy": PERCENT}
PAIR = {"true": COUNT, "predicted": COUNT, "true_name": TEXT, "predicted_name": TEXT, "count": COUNT}
EPOCH = {  # numbers that were not finite are null
    "epoch": COUNT,
    "loss": Maybe(NUMBER),
    "acc": Maybe(NUMBER),
    "lr": Maybe(NUMBER),
    "prompt_cosine": Maybe([Maybe(NUMBER)]),
}
RESULT = {
    "mode": Maybe(TEXT),
    "trainer": Maybe(TEXT),
    "dataset": Maybe(TEXT),
    "backbone": Maybe(TEXT),
    "shots": Maybe(WHOLE),
    "seed": Maybe(WHOLE),
    "subsample_classes": Maybe(TEXT),
    "split": Maybe(TEXT),
    "accuracy": Maybe(PERCENT),
    "error_rate": Maybe(NUMBER),
    "macro_f1": Maybe(NUMBER),
    "total": Maybe(COUNT),
    "correct": Maybe(COUNT),
    "per_class": Maybe([CLASS]),
    "confusions": Maybe([PAIR]),
    "epochs": Maybe(COUNT),
    "checkpoint": Maybe(TEXT),
    "checkpoints_sha256": Maybe(Each(TEXT)),
    "protocol": Maybe(TEXT),
    "warnings": Maybe([TEXT]),
    "selection": Maybe(lambda value: isinstance(value, dict)),
    "transport": Maybe(lambda value: isinstance(value, dict)),
    "history": Maybe([EPOCH]),
    "seconds": Maybe(Each(Maybe(NUMBER))),
    "peak_memory_mb": Maybe(NUMBER),
    "peak_cuda_memory_mb": Maybe(NUMBER),
    "data": Maybe({"fingerprint": Maybe(TEXT), "classes": Maybe(COUNT), "classnames": Maybe([TEXT])}),
    "config": Maybe(lambda value: isinstance(value, dict)),
    "config_digest": Maybe(TEXT),
    "versions": Maybe(Each(Maybe(TEXT))),
    "argv": Maybe([TEXT]),
    "finished": Maybe(TEXT),
}


def read_record(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """(the record, "") or ({}, what is wrong with the file); whether the run is complete is not asked."""
    path = Path(path)
    if not path.exists():
        return {}, f"no {path.name}: not finished"
    try:
        record = load_json(path)
    except (OSError, ValueError) as error:
        return {}, f"{path.name} cannot be read ({error}); run it again"
    if not isinstance(record, dict):
        return {}, f"{path.name} holds no record"
    if record.get("schema", SCHEMA) != SCHEMA:
        return {}, f"{path.name} has schema {reprlib.repr(record['schema'])}, this program reads {SCHEMA}"
    bad = wrong(record, RESULT)
    return ({}, f"{path.name} has no valid {bad}") if bad else (record, "")
