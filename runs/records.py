"""Run records: find the runs below a folder and read what they say about themselves.

A run is a folder that holds `result.json`, written last, or at least the beginnings of one (`config.yaml`,
`log.txt`).  Nothing here imports torch, so that reading a large tree starts at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dassl.plain.reading import COUNT, PERCENT, TEXT, WHOLE, wrong

from .config_file import load_config
from .effect import flatten
from .files import ResultsError, for_people
from .result_file import read_record
from .settings import UNTRAINED, of_method

NAME: Callable[[Any], bool] = lambda value: TEXT(value) and bool(value.strip())  # noqa: E731
NEEDED = {"trainer": NAME, "dataset": NAME, "shots": WHOLE, "seed": WHOLE, "accuracy": PERCENT}


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder; `problem` is empty exactly when the run is complete.

    Of an incomplete run the identifying fields come from its config.yaml, and are empty where there is none.
    `shots` is 0 for methods without training, -1 for training on everything; `seed` is -1 for unseeded runs.
    """

    folder: Path
    problem: str = ""
    trainer: str = ""
    dataset: str = ""
    classes: str = "all"  # all, base or new
    split: str = "test"
    shots: int = 0
    seed: int = -1
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)  # {"OPTIM.LR": 0.002, ...}
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def complete(self) -> bool:
        return not self.problem

    @property
    def accuracy(self) -> float:
        return float(self.record["accuracy"])

    @property
    def trained(self) -> bool:
        return self.trainer not in UNTRAINED

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The part of `config` in which runs of one method agree."""
        return of_method({**self.config, "TRAINER.NAME": self.trainer})


def find_runs(output: str | Path) -> list[Run]:
    """Every run at or below `output`, sorted by path.

    Raises ResultsError where there is no such folder, or no run in it.
    """
    output = Path(output)
    if not output.is_dir():
        reason = "is a file, not a folder" if output.exists() else "does not exist"
        raise ResultsError(f"{output} {reason}; give the output folder of finished runs")
    runs = [read_run(folder) for folder in _run_folders(output)]
    if not runs:
        raise ResultsError(
            f"no run found in {output}: no folder in it holds a result.json "
            "(logs of other programs are read by `python -m results parse`)"
        )
    return runs


def _run_folders(output: Path) -> Iterator[Path]:
    for folder, children, files in os.walk(output):
        children[:] = sorted(child for child in children if not child.startswith("."))
        if {"result.json", "config.yaml", "log.txt"} & set(files):
            yield Path(folder)


def read_run(folder: Path) -> Run:
    """Never raises for what a file holds: a torn or foreign file makes an incomplete run that names it."""
    record, problem = _read_result(folder / "result.json")
    if problem:
        return _from_config(folder, problem)
    config = flatten(record.get("config") or {})
    return Run(
        folder,
        "",
        record["trainer"],
        record["dataset"],
        config=config,
        record=record,
        **_place(
            record["trainer"],
            record.get("subsample_classes"),
            record.get("split"),
            record["shots"],
            record["seed"],
        ),
    )


def _read_result(path: Path) -> tuple[dict[str, Any], str]:
    """(record, "") or ({}, what is wrong)."""
    record, problem = read_record(path)
    if problem:
        return {}, problem
    if record.get("complete") is not True:
        return {}, f"{path.name} says that the run is not complete"
    bad = wrong(record, NEEDED)
    return ({}, f"{path.name} has no valid {bad}") if bad else (for_people(record), "")


def _from_config(folder: Path, problem: str) -> Run:
    """An incomplete run, with what its config.yaml tells."""
    try:
        tree = for_people(load_config(folder / "config.yaml"))
    except FileNotFoundError:
        return Run(folder, problem)
    except (OSError, ValueError) as error:
        return Run(folder, f"{problem}; config.yaml cannot be read ({error})")
    config = flatten(tree) if isinstance(tree, dict) else {}
    trainer, dataset = str(config.get("TRAINER.NAME") or ""), str(config.get("DATASET.NAME") or "")
    place = _place(
        trainer,
        config.get("DATASET.SUBSAMPLE_CLASSES"),
        config.get("TEST.SPLIT"),
        config.get("DATASET.NUM_SHOTS", -1),
        config.get("SEED", -1),
    )
    return Run(folder, problem, trainer, dataset, config=config, **place)


def _place(trainer: str, classes: Any, split: Any, shots: Any, seed: Any) -> dict[str, Any]:
    untrained = trainer in UNTRAINED
    shots = 0 if untrained else (shots if COUNT(shots) and shots > 0 else -1)
    seed = seed if COUNT(seed) and not untrained else -1
    return {"classes": str(classes or "all"), "split": str(split or "test"), "shots": shots, "seed": seed}


def relative_to(folder: Path, output: Path) -> str:
    """What a run below `output` is called there; `output` itself by its own name."""
    name = folder.relative_to(output).as_posix()
    return folder.name if name == "." else name
