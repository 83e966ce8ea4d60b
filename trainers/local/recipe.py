"""The published schedules as defaults, from the table in published.yaml: what the user sets explicitly wins."""
from __future__ import annotations

from collections.abc import Callable, Mapping
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


def recipe_of(method: str) -> Callable[[str, int], dict[str, Any]]:
    """Make the recipe of a method of the table: (data set's name, shots) -> {config key: value}.

    For a data set that was not published, the values that most have.
    """

    def looked_up(table: Mapping[str, Any], name: str, dataset_name: str) -> Any:
        return table.get(f"{name}_by_dataset", {}).get(dataset_name, table[name])

    def recipe(dataset_name: str, num_shots: int) -> dict[str, Any]:
        own = published()[method]
        settings = {key: looked_up(own, name, dataset_name) for name, key in KEYS.items() if name in own}
        return {"OPTIM.MAX_EPOCH": looked_up(published(), "epochs", dataset_name), **settings}

    return recipe
