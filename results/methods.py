"""Which runs are the same method, and what to call it.

Two runs are of one method when their configs agree, apart from what a sweep varies (data, seed, paths) and
from the schedule, which the published recipes choose by the number of shots.  Where that would put two
different runs into one place (same data, shots and seed), the schedule counts too.  A method is called by its
trainer and by the settings in which it differs from the other methods of that trainer: "PLOT N=4", "PLOT N=4
MATCHING=uniform".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from .records import Run

IGNORED = (
    "OUTPUT_DIR",
    "RESUME",
    "VERSION",
    "VERBOSE",
    "USE_CUDA",
    "SEED",
    "DATASET.",
    "TRAIN.",
    "ENV.",
    "DATALOADER.NUM_WORKERS",
    "TEST.EVALUATOR",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.SPLIT",
    "TRAINER.",
)  # and only the trainer's own node of TRAINER is looked at
SCHEDULE = ("OPTIM.MAX_EPOCH", "DATALOADER.TRAIN_X.BATCH_SIZE")
UNTRAINED_KEYS = ("MODEL.", "INPUT.")  # all that matters to a method without training
ALWAYS_NAMED = ("M", "N")  # numbers of prompts, also when there is one method only
STARTS = ("TRAINER.PLOTPP.PRETRAIN_DIR",)  # where a run of several stages starts: another file for each shots and seed

T = TypeVar("T")


def group(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Any, list[T]]:
    """{key: items}, in order of first appearance."""
    groups: dict[Any, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)


def place(run: Run) -> tuple:
    """Where a result belongs: two runs of one method and one place are repetitions of each other."""
    return run.dataset, data_path(run), run.classes, run.split, run.shots, run.seed


def data_path(run: Run) -> str:
    """Tells apart the data sets that share the name `Folder`."""
    return str(run.config.get("DATASET.FOLDER.PATH") or run.config.get("DATASET.FOLDER.CSV") or "")


def name_methods(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """{name: its runs}: first the methods without training, then by trainer and settings.

    Runs that do not even name their trainer are left out.
    """
    named: dict[str, list[Run]] = {}
    trainers = group((run for run in runs if run.trainer), lambda run: run.trainer)
    for _, members in sorted(trainers.items(), key=lambda item: (item[1][0].trained, item[0])):
        named |= _name_variants(members)
    return named


def _name_variants(runs: list[Run]) -> dict[str, list[Run]]:
    """Split the runs of one trainer by their settings."""
    readable = [run for run in runs if run.complete] or runs
    shared = set.intersection(*(set(run.config) for run in readable))  # a key that an older record lacks says nothing
    keys = sorted(key for key in shared if matters(key, runs[0]))
    settings = [key for key in keys if key not in SCHEDULE]
    schedule = [key for key in keys if key in SCHEDULE]

    variants: list[tuple[list[str], list[Run]]] = []  # (keys that its name may mention, runs)
    for members in group(runs, lambda run: _values(run, settings)).values():
        if _collide(members, schedule):
            variants += [(keys, part) for part in group(members, lambda run: _values(run, schedule)).values()]
        else:
            variants.append((settings, members))

    always = [key for key in keys if key.startswith("TRAINER.") and key.rpartition(".")[2] in ALWAYS_NAMED]
    differing = [key for key in keys if len({members[0].config.get(key) for _, members in variants}) > 1]
    named = {}
    for mentioned, members in variants:
        told = dict.fromkeys(always + [key for key in differing if key in mentioned])
        named[" ".join([runs[0].trainer, *(_tell(key, members[0].config.get(key)) for key in told)])] = members
    return dict(sorted(named.items(), key=lambda item: natural(item[0])))


def natural(text: str) -> list:
    """Sorts N=4 before N=16."""
    return [(0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in re.split(r"(\d+)", text)]


def matters(key: str, run: Run) -> bool:
    """Whether a run with another value there is of another method (the schedule apart)."""
    if not run.trained:
        return key.startswith(UNTRAINED_KEYS)
    own = f"TRAINER.{run.trainer}.".lower()
    if key in STARTS:
        return False
    return key.lower().startswith(own) or not key.startswith(IGNORED)


def _values(run: Run, keys: list[str]) -> tuple:
    return tuple(run.config.get(key) for key in keys)


def _collide(runs: list[Run], schedule: list[str]) -> bool:
    """Whether two complete runs of one place were trained on different schedules."""
    places = group((run for run in runs if run.complete), place)
    return any(len({_values(run, schedule) for run in members}) > 1 for members in places.values())


def _tell(key: str, value: Any) -> str:
    """TRAINER.PLOT.N, 4 -> "N=4"; MODEL.BACKBONE.NAME, RN50 -> "RN50"."""
    if key == "MODEL.BACKBONE.NAME":
        return str(value)
    short = key.split(".", 2)[2] if key.startswith("TRAINER.") else key
    if isinstance(value, tuple):
        value = "(" + ",".join(map(str, value)) + ")"
    return f"{short}={value!r}" if value == "" else f"{short}={value}"
