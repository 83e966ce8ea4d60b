"""The original programs' values of every data set (published.yaml says what they are worth), and the search's grids."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

Pair = tuple[float, float]  # for beta, and for alpha


class Tuned(NamedTuple):
    """What upstream's config file of a data set says.

    Attributes
    ----------
    scale
        Upper ends of the grids, for beta and for alpha.
    steps
        Numbers of values of the grids, likewise.
    beta, alpha
        During training.
    epochs
        Of the training.
    """

    scale: Pair  # upper ends of the grids
    steps: tuple[int, int]
    beta: float  # during training
    alpha: float
    epochs: int


def _read_table(name: str) -> dict[str, Tuned]:
    """Read one of the tables in published.yaml: {data set: what its config file says}."""
    return {
        dataset: Tuned(tuple(row["scale"]), tuple(row["steps"]), row["beta"], row["alpha"], row["epochs"])
        for dataset, row in _PUBLISHED[name].items()
    }


_PUBLISHED = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
TIP_ADAPTER, PLOT_ADAPTER = _read_table("tip_adapter"), _read_table("plot_adapter")


def grid(scale: float, steps: int) -> list[float]:
    """List `steps` values from 0.1 upwards, ending one step below `scale`."""
    return [i * (scale - 0.1) / steps + 0.1 for i in range(steps)]


def tuned_for(table: dict[str, Tuned], dataset_name: str, key: str) -> Tuned:
    """Look up a data set.

    Parameters
    ----------
    table
        TIP_ADAPTER or PLOT_ADAPTER.
    dataset_name
        As registered.
    key
        The config key that asked, for the message.

    Raises
    ------
    ValueError
        For a data set that upstream had no values for.
    """
    if dataset_name not in table:
        raise ValueError(f"{key} is True, but upstream has no values for {dataset_name}; it has {', '.join(table)}")
    return table[dataset_name]


def epochs_for(table: dict[str, Tuned], dataset_name: str) -> int:
    """Epochs of a data set's training, or what upstream has for most."""
    return table[dataset_name].epochs if dataset_name in table else _PUBLISHED["other_epochs"]
