"""The record of a run, as every tool reads it: result.json, config.yaml, and what they say of the method.

A run is a folder.  `config.yaml` is written when it starts, `result.json` as its very last act: a run is complete
exactly when its result.json says so.  Both may be torn, or come from anywhere, so nothing that is read here is believed
before its shape has been checked.  Nothing here imports torch, so that reading a large tree starts at once.  folder.py
and writing.py write what is read here.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from dassl.plain.reading import COUNT, NUMBER, PERCENT, TEXT, WHOLE, Each, Maybe, load_json, load_yaml, wrong

from .files import ResultsError, for_people
from .keys import flatten, of_method

RESULT_NAME = "result.json"
EVAL_RESULT_NAME = "result-eval.json"  # an evaluation in the folder of a training run
CONFIG_NAME = "config.yaml"
LOG_NAME = "log.txt"


# --- what a method says of itself ------------------------------------------------------------------------


class Declared(NamedTuple):
    """What a trainer class declares about its method, under the same names; a class that is silent has the defaults."""

    zero_shot: bool = False  # sees no training image: one run stands for every number of shots, and for every seed
    transports: bool = False  # its model explains a prediction by a plan between image features and prompts
    has_places: bool = False  # rows of that plan are places of the image, so heat maps can be drawn
    can_be_mapped: bool = False  # its prompts and image features can be drawn in one plane
    has_words: bool = False  # its context vectors lie among the embeddings of words
    class_specific: bool = False  # what it learned belongs to its own classes, and serves no other names
    starts_from: str = ""  # the trainer whose runs it starts from

    @classmethod
    def by(cls, trainer: type | None) -> Declared:
        """What a trainer class declares; the defaults for one that is not known."""
        defaults: dict[str, Any] = cls._field_defaults
        return cls(**{name: getattr(trainer, name, default) for name, default in defaults.items()})

    @classmethod
    def read(cls, told: Any) -> Declared:
        """From a record; what it lacks has the default.  Raises ValueError for values of other kinds."""
        if not isinstance(told, Mapping) or wrong(told, METHOD):
            raise ValueError("no valid method")
        return cls(**{name: told[name] for name in cls._fields if told.get(name) is not None})


FLAG: Callable[[Any], bool] = lambda value: isinstance(value, bool)  # noqa: E731
METHOD = {
    name: Maybe(FLAG if isinstance(default, bool) else TEXT) for name, default in Declared._field_defaults.items()
}


# --- result.json -----------------------------------------------------------------------------------------

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
    "method": Maybe(METHOD),
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


def read_result(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What result.json in `folder` (or the JSON file given) holds; None when it is missing, torn, or no record."""
    path = Path(folder)
    record, problem = read_record(path / RESULT_NAME if path.is_dir() else path)
    return None if problem else record


def is_complete(folder: str | os.PathLike[str]) -> bool:
    """Whether the run in `folder` finished."""
    record = read_result(folder)
    return record is not None and record.get("complete") is True


def read_classnames(folder: str | os.PathLike[str]) -> list[str] | None:
    """The classes of the finished run in `folder`, by label; None where its record does not tell."""
    data = (read_result(folder) or {}).get("data") or {}
    return list(data.get("classnames") or ()) or None


# --- config.yaml -----------------------------------------------------------------------------------------

MODE = "# mode: "  # its first line says what kind of run it is
ABOUT = "# method: "  # its second line, what the method declares, as JSON
END = "# end"  # its last line: without it, it is not whole


def load_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tree of a config.yaml.

    Raises OSError where the file cannot be read, ValueError where it is no YAML, or the end is missing: what is lost
    would silently have its default.
    """
    text = Path(path).read_text(encoding="utf-8")
    if text.startswith(MODE) and not text.rstrip().endswith(END):
        raise ValueError("its end is missing")
    tree = load_yaml(path)
    if not isinstance(tree, dict):
        raise ValueError("it holds no configuration")
    return tree


def declared_in(folder: str | os.PathLike[str]) -> Declared:
    """What the method of the run in `folder` declares: by its record, or before that is written by its config.yaml."""
    record = read_result(folder) or {}
    return Declared.read(record["method"]) if record.get("method") else _declared_in_config(Path(folder))


def _declared_in_config(folder: Path) -> Declared:
    try:
        with open(folder / CONFIG_NAME, encoding="utf-8", errors="replace") as file:
            head = [file.readline(), file.readline(10_000)]
        return Declared.read(json.loads(head[1].removeprefix(ABOUT))) if head[1].startswith(ABOUT) else Declared()
    except (OSError, ValueError):
        return Declared()


# --- runs ------------------------------------------------------------------------------------------------

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
    method: Declared = Declared()
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
        return not self.method.zero_shot

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The part of `config` in which runs of one method agree."""
        return of_method({**self.config, "TRAINER.NAME": self.trainer}, self.method.zero_shot)


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
        if {RESULT_NAME, CONFIG_NAME, LOG_NAME} & set(files):
            yield Path(folder)


def read_run(folder: Path) -> Run:
    """Never raises for what a file holds: a torn or foreign file makes an incomplete run that names it."""
    record, problem = _read_result(folder / RESULT_NAME)
    if problem:
        return _from_config(folder, problem)
    config = flatten(record.get("config") or {})
    method = Declared.read(record.get("method") or {})
    return Run(
        folder,
        "",
        record["trainer"],
        record["dataset"],
        method=method,
        config=config,
        record=record,
        **_place(
            method,
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
        tree = for_people(load_config(folder / CONFIG_NAME))
    except FileNotFoundError:
        return Run(folder, problem)
    except (OSError, ValueError) as error:
        return Run(folder, f"{problem}; config.yaml cannot be read ({error})")
    config = flatten(tree) if isinstance(tree, dict) else {}
    trainer, dataset = str(config.get("TRAINER.NAME") or ""), str(config.get("DATASET.NAME") or "")
    method = _declared_in_config(folder)
    place = _place(
        method,
        config.get("DATASET.SUBSAMPLE_CLASSES"),
        config.get("TEST.SPLIT"),
        config.get("DATASET.NUM_SHOTS", -1),
        config.get("SEED", -1),
    )
    return Run(folder, problem, trainer, dataset, method=method, config=config, **place)


def _place(method: Declared, classes: Any, split: Any, shots: Any, seed: Any) -> dict[str, Any]:
    shots = 0 if method.zero_shot else (shots if COUNT(shots) and shots > 0 else -1)
    seed = seed if COUNT(seed) and not method.zero_shot else -1
    return {"classes": str(classes or "all"), "split": str(split or "test"), "shots": shots, "seed": seed}


def relative_to(folder: Path, output: Path) -> str:
    """What a run below `output` is called there; `output` itself by its own name."""
    name = folder.relative_to(output).as_posix()
    return folder.name if name == "." else name
