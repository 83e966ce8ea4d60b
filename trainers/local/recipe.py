"""The published schedules as defaults, from the table in published.yaml: what the user sets explicitly wins."""
from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

KEYS = {
    "rate": "OPTIM.LR",
    "batch": "DATALOADER.TRAIN_X.BATCH_SIZE",
    "local_prompts": "TRAINER.SOTGLP.N_LOCAL",
}


@cache
def published() -> dict[str, Any]:
    """Read the table, as it stands in the file."""
    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))


def recipe(method: str, dataset_name: str) -> dict[str, Any]:
    """Look up {config key: value} of a method of the table; for a data set that it lacks, the values that most have."""
    own = published()[method]
    settings = {key: _of(own, name, dataset_name) for name, key in KEYS.items() if name in own}
    return {"OPTIM.MAX_EPOCH": _of(published(), "epochs", dataset_name), **settings}


def _of(table: Mapping[str, Any], name: str, dataset_name: str) -> Any:
    return table.get(f"{name}_by_dataset", {}).get(dataset_name, table[name])
