"""The published schedule as defaults, from the table in published.yaml: what the user sets explicitly wins."""
from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def published() -> dict[str, Any]:
    """Read the table, as it stands in the file."""
    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))


def epochs(dataset_name: str, num_shots: int) -> int:
    """Look up the epochs of PLOT or PLOT++; a data set with an entry of its own has it for all shots."""
    table = published()
    otherwise = table["epochs_by_shots"].get(num_shots, table["epochs"])
    return table["epochs_by_dataset"].get(dataset_name, otherwise)


def recipe(dataset_name: str, num_shots: int) -> dict[str, Any]:
    """Look up the schedule of a run of PLOT.

    Parameters
    ----------
    dataset_name
        As registered.
    num_shots
        Training images of a class; -1, for all, counts as "many".

    Returns
    -------
    dict
        {config key: value}.
    """
    table = published()
    return {
        "OPTIM.MAX_EPOCH": epochs(dataset_name, num_shots),
        "DATALOADER.TRAIN_X.BATCH_SIZE": table["train_batch_by_dataset"].get(dataset_name, table["train_batch"]),
    }
