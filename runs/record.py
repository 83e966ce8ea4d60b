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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from dassl.plain.reading import COUNT, NUMBER, PERCENT, TEXT, WHOLE, Each, Maybe, load_json, load_yaml, wrong
from datasets.draws import PER_CLASS

from .files import ResultsError, for_people, load_for_people, visible_folders
from .keys import DRAW, flatten, of_method

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
    def of(cls, trainer: type | None) -> Declared:
        """Return what a trainer class declares; the defaults for one that is not known."""
        defaults: dict[str, Any] = cls._field_defaults
        return cls(**{name: getattr(trainer, name, default) for name, default in defaults.items()})

    @classmethod
    def from_record(cls, method: Any) -> Declared:
        """Return what a record says; ValueError for values of other kinds.  What it lacks has the default."""
        if not isinstance(method, Mapping) or wrong(method, METHOD):
            raise ValueError("no valid method")
        return cls(**{name: method[name] for name in cls._fields if method.get(name) is not None})


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


METHOD = {
    name: Maybe(_flag if isinstance(default, bool) else TEXT) for name, default in Declared._field_defaults.items()
}


# --- result.json -----------------------------------------------------------------------------------------


def _tree(value: Any) -> bool:
    return isinstance(value, dict)


SCHEMA = 1
CLASS = {"label": COUNT, "name": TEXT, "total": COUNT, "correct": Maybe(COUNT), "accuracy": PERCENT}
PAIR = {"true": COUNT, "predicted": COUNT, "true_name": TEXT, "predicted_name": TEXT, "count": COUNT}
PREDICTIONS = {"file": TEXT, "images": TEXT, "total": COUNT, "correct": TEXT}
VALUE = Maybe(NUMBER)  # null where it was not finite
MEASURES = {"ece": PERCENT, "ece_equal_mass": PERCENT, "nll": VALUE, "brier": NUMBER, "aurc": PERCENT}
CALIBRATION = {
    "before": MEASURES,
    "temperature": VALUE,
    "images": COUNT,
    "reason": TEXT,
    "exact": _flag,
    "after": Maybe(MEASURES),
}
EPOCH = {"epoch": COUNT, "loss": VALUE, "acc": VALUE, "lr": VALUE, "prompt_cosine": Maybe([VALUE])}
DATA = {"fingerprint": Maybe(TEXT), "classes": Maybe(COUNT), "classnames": Maybe([TEXT])}
RESULT = {  # what each entry must be where it is there; older records lack some, and ours hold more
    key: Maybe(shape)
    for shape, keys in (
        (TEXT, "mode trainer dataset backbone subsample_classes split checkpoint protocol config_digest finished"),
        (TEXT, "device draw"),
        (WHOLE, "shots seed"),
        (COUNT, "total correct epochs processes"),
        (PERCENT, "accuracy"),
        (NUMBER, "error_rate macro_f1 peak_memory_mb peak_cuda_memory_mb"),
        (_tree, "selection transport config"),
        ([TEXT], "warnings argv templates"),
        ([CLASS], "per_class"),
        ([PAIR], "confusions"),
        ([EPOCH], "history"),
        (Each(TEXT), "checkpoints_sha256"),
        (Each(Maybe(TEXT)), "versions"),
        (Each(COUNT), "looks"),
        (Each(VALUE), "seconds"),
        (METHOD, "method"),
        (DATA, "data"),
        (PREDICTIONS, "predictions"),
        (CALIBRATION, "calibration"),
    )
    for key in keys.split()
}


def read_record(
    path: str | os.PathLike[str], load: Callable[[Path], Any] = load_json
) -> tuple[dict[str, Any], str]:
    """Read a record and check its shape; whether the run is complete is not asked.

    Parameters
    ----------
    path
        The file.
    load
        Reads it: `load_json`, or `load_for_people` where texts are to be shown.

    Returns
    -------
    record
        Empty where something is wrong.
    problem
        What is wrong with the file; empty where nothing is.
    """
    path = Path(path)
    if not path.exists():
        return {}, f"no {path.name}: not finished"
    try:
        record = load(path)
    except (OSError, ValueError) as error:
        return {}, f"{path.name} cannot be read ({error}); run it again"
    if not isinstance(record, dict):
        return {}, f"{path.name} holds no record"
    if record.get("schema", SCHEMA) != SCHEMA:
        return {}, f"{path.name} has schema {reprlib.repr(record['schema'])}, this program reads {SCHEMA}"
    bad = wrong(record, RESULT)
    return ({}, f"{path.name} has no valid {bad}") if bad else (record, "")


def read_result(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what result.json in `folder` (or the file given) holds; None when it is missing, torn, or no record."""
    path = Path(folder)
    record, problem = read_record(path / RESULT_NAME if path.is_dir() else path)
    return None if problem else record


def is_complete(folder: str | os.PathLike[str]) -> bool:
    """Tell whether the run in `folder` has finished."""
    return (read_result(folder) or {}).get("complete") is True


def read_classnames(folder: str | os.PathLike[str]) -> list[str] | None:
    """Return the classes of the finished run in `folder`, by label; None where its record does not say."""
    data = (read_result(folder) or {}).get("data") or {}
    return list(data.get("classnames") or ()) or None


def beside(checkpoint: Path, model: str) -> Path:
    """Return the checkpoint of another model of the same run and epoch: RUN/<model>/<same name>."""
    return checkpoint.parent.parent / model / checkpoint.name


# --- config.yaml -----------------------------------------------------------------------------------------

MODE = "# mode: "  # its first line says what kind of run it is
ABOUT = "# method: "  # its second line, what the method declares, as JSON
END = "# end"  # its last line: without it, it is not whole


def load_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the tree of a config.yaml.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where it is no YAML, or its end is missing: what is lost would silently have its default.
    """
    text = Path(path).read_text(encoding="utf-8")
    if text.startswith(MODE) and not text.rstrip().endswith(END):
        raise ValueError("its end is missing")
    tree = load_yaml(path)
    if not isinstance(tree, dict):
        raise ValueError("it holds no configuration")
    return tree


def declared_in(folder: Path, record: Mapping[str, Any]) -> Declared:
    """Return what the method of the run in `folder` declares: by its record, or, while that is {}, its config.yaml."""
    if record.get("method"):
        return Declared.from_record(record["method"])
    try:
        with open(folder / CONFIG_NAME, encoding="utf-8", errors="replace") as file:
            _, line = file.readline(), file.readline(10_000)
        return Declared.from_record(json.loads(line.removeprefix(ABOUT))) if line.startswith(ABOUT) else Declared()
    except (OSError, ValueError):
        return Declared()


# --- runs ------------------------------------------------------------------------------------------------


def _name(value: Any) -> bool:
    return TEXT(value) and bool(value.strip())


NEEDED = {"trainer": _name, "dataset": _name, "shots": WHOLE, "seed": WHOLE, "accuracy": PERCENT}
IN_CONFIG = {  # where the config of an incomplete run has what a record says of its identity
    "trainer": "TRAINER.NAME",
    "dataset": "DATASET.NAME",
    "draw": DRAW,
    "subsample_classes": "DATASET.SUBSAMPLE_CLASSES",
    "split": "TEST.SPLIT",
    "shots": "DATASET.NUM_SHOTS",
    "seed": "SEED",
}


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder; `problem` is empty exactly when the run is complete.

    Of an incomplete run the identifying fields come from its config.yaml, and are empty where there is none.
    `shots` is 0 for methods without training, -1 for training on everything; `draw` is "" for both, where nothing was
    drawn; `seed` is -1 for unseeded runs.
    """

    folder: Path
    problem: str = ""
    trainer: str = ""
    dataset: str = ""
    classes: str = "all"  # all, base or new
    split: str = "test"
    shots: int = 0
    draw: str = ""  # how these were drawn: per_class or proportional
    seed: int = -1
    method: Declared = Declared()
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)  # {"OPTIM.LR": 0.002, ...}
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def complete(self) -> bool:
        """Whether it has finished and its record is as it should be."""
        return not self.problem

    @property
    def accuracy(self) -> float:
        """Test accuracy in percent, of a complete run."""
        return float(self.record["accuracy"])

    @property
    def processes(self) -> int:
        """How many processes shared its work: those of torchrun, or one."""
        return int(self.record.get("processes") or 1)

    @property
    def trained(self) -> bool:
        """Whether its method sees training images."""
        return not self.method.zero_shot

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The part of `config` in which runs of one method agree."""
        return of_method({**self.config, "TRAINER.NAME": self.trainer}, self.method.zero_shot)


def find_runs(output: str | Path) -> list[Run]:
    """Return every run at or below `output`, sorted by path.

    Raises
    ------
    ResultsError
        Where there is no such folder, or no run in it.
    """
    output = Path(output)
    if not output.is_dir():
        reason = "is a file, not a folder" if output.exists() else "does not exist"
        raise ResultsError(f"{output} {reason}; give the output folder of finished runs")
    names = {RESULT_NAME, CONFIG_NAME, LOG_NAME}
    runs = [read_run(folder) for folder, files in visible_folders(output) if not names.isdisjoint(files)]
    if not runs:
        raise ResultsError(
            f"no run found in {output}: no folder in it holds a result.json "
            "(logs of other programs are read by `python -m results parse`)"
        )
    return runs


def read_run(folder: Path) -> Run:
    """Read one run; never raises for what a file holds: a torn or foreign one makes an incomplete run that names it.

    What identifies a complete run comes from its record, an incomplete one from its config.yaml.
    """
    record, problem = read_record(folder / RESULT_NAME, load_for_people)
    if not problem and record.get("complete") is not True:
        problem = f"{RESULT_NAME} says that the run is not complete"
    elif not problem and (bad := wrong(record, NEEDED)):
        problem = f"{RESULT_NAME} has no valid {bad}"
    method, identity = declared_in(folder, record), record
    if problem:
        try:
            config = flatten(for_people(load_config(folder / CONFIG_NAME)))
        except FileNotFoundError:
            return Run(folder, problem)
        except (OSError, ValueError) as error:
            return Run(folder, f"{problem}; config.yaml cannot be read ({error})")
        record, identity = {}, {name: config.get(key) for name, key in IN_CONFIG.items()}
    else:
        identity = record
        config = flatten(record.get("config") or {})
    shots, seed = identity["shots"], identity["seed"]
    shots = 0 if method.zero_shot else (shots if COUNT(shots) and shots > 0 else -1)
    return Run(
        folder,
        problem,
        trainer=str(identity["trainer"] or ""),
        dataset=str(identity["dataset"] or ""),
        classes=str(identity.get("subsample_classes") or "all"),
        split=str(identity.get("split") or "test"),
        shots=shots,
        draw=str(identity.get("draw") or PER_CLASS) if shots > 0 else "",
        seed=seed if COUNT(seed) and not method.zero_shot else -1,
        method=method,
        config=config,
        record=record,
    )


def relative_to(folder: Path, output: Path) -> str:
    """Return what a run below `output` is called there; `output` itself by its own name."""
    name = folder.relative_to(output).as_posix()
    return folder.name if name == "." else name
