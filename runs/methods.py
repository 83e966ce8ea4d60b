"""Which runs are the same method, and what to call it.

Two runs are of one method when their configs agree in all that changes a result (keys.py), apart from what a sweep
varies (data, shots, their draw, seed) and from the schedule, which the published recipes choose by the number of shots.
Where that would put two different runs into one place (same data, shots, draw and seed), the schedule counts too.  A
method is called by its trainer and by the settings in which it differs from the other methods of that trainer: "PLOT
N=4", "PLOT N=4 MATCHING=uniform"; training on a sample of the classes is always named, "PLOT N=4 CLASS_SAMPLE=1000".
Runs whose result is not to be compared with others are methods of their own, and
marked: "TipAdapterF (selected on test)".
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from .keys import SCHEDULE, real_path
from .record import Run

ALWAYS_NAMED = ("M", "N")  # numbers of prompts, also when there is one method only
SAMPLE = "CLASS_SAMPLE"  # named wherever it is not 0


class Mark(NamedTuple):
    """What is said of runs that are not to be compared with others."""

    name: str  # behind the method's name
    key: str  # of the trainer's node in the config, or ""; where it is true the run will get the mark
    note: str


MARKS = {  # by the first word of the record's `protocol`
    "leaky": Mark(
        "selected on test",
        "SELECT_ON_TEST_LEAKY",
        "epoch or settings were chosen by test accuracy, which then is no estimate for new images: no fair reference",
    ),
    "upstream-tuned": Mark(
        "upstream-tuned", "UPSTREAM_TUNED", "its settings were tuned by others, for each data set on the test images"
    ),
    "untrained": Mark("not trained", "", "nothing was trained or loaded: what learns is as it was initialised"),
}

T = TypeVar("T")


def group(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Any, list[T]]:
    """Return {key: items with that key}, in order of first appearance."""
    groups: dict[Any, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)


def place(run: Run) -> tuple:
    """Return where a result belongs: two runs of one method and one place are repetitions of each other."""
    return run.dataset, data_path(run), run.classes, run.split, run.shots, run.draw, run.seed


def data_path(run: Run) -> str:
    """Return the real path of the user's own pictures, which all share the name `Folder`; "" for other data sets."""
    if run.dataset != "Folder":
        return ""
    keys = ("DATASET.ROOT", "DATASET.FOLDER.PATH", "DATASET.FOLDER.CSV")
    path = os.path.join(*(str(run.config.get(key) or "") for key in keys))
    return os.path.normpath(real_path(path)) if path else ""


def data_names(paths: Iterable[str]) -> dict[str, str]:
    """Return {path: what to call it}: its last part, unless another path has the same."""
    last = {path: os.path.basename(path) for path in paths}
    times = Counter(last.values())
    return {path: name if times[name] == 1 else path for path, name in last.items()}


def mark(run: Run) -> str:
    """Return what to say behind the name of a run's method: " (selected on test)", or ""."""
    kind = _mark_of(run)
    name = MARKS[kind].name if kind in MARKS else kind  # an unknown protocol is shown too
    return f" ({name})" if name else ""


def _mark_of(run: Run) -> str:
    """Return the kind of mark: from the record, or of a run that has none yet from its config."""
    if run.complete:
        return str(run.record.get("protocol") or "").partition(":")[0]
    return next((kind for kind, known in MARKS.items() if run.config.get(_own(known.key, run)) is True), "")


def notes(names: Iterable[str]) -> list[str]:
    """Return a sentence on every mark that occurs in the names of methods."""
    text = "\n".join(names)
    return [f"({mark.name}): {mark.note}." for mark in MARKS.values() if f"({mark.name})" in text]


def name_methods(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by method.

    Returns
    -------
    dict
        {name: its runs}, first the methods without training, then by trainer and settings.  Runs that do not even name
        their trainer are left out.
    """
    named: dict[str, list[Run]] = {}
    trainers = group((run for run in runs if run.trainer), lambda run: (run.trainer, class_sample(run), mark(run)))
    for _, members in sorted(trainers.items(), key=lambda item: (item[1][0].trained, item[0])):
        named |= _name_variants(members)
    return named


def class_sample(run: Run) -> int:
    """Return the CLASS_SAMPLE of a run's training: 0 for all classes, also of records older than the key."""
    return int(run.config.get(_own(SAMPLE, run)) or 0)


def _name_variants(runs: list[Run]) -> dict[str, list[Run]]:
    """Split the runs of one trainer, sample of classes and mark by their settings."""
    readable = [run for run in runs if run.complete] or runs
    # a key that an older record lacks says nothing, and of what the mark tells the name need not
    said_anyway = {mark_key(runs[0]), _own(SAMPLE, runs[0])}
    keys = sorted(set.intersection(*(set(run.settings) for run in readable)) - said_anyway)
    settings = [key for key in keys if key not in SCHEDULE]
    schedule = [key for key in keys if key in SCHEDULE]

    variants: list[tuple[list[str], list[Run]]] = []  # (keys that its name may mention, runs)
    for members in group(runs, lambda run: _values(run, settings)).values():
        if _collide(members, schedule):
            variants += [(keys, part) for part in group(members, lambda run: _values(run, schedule)).values()]
        else:
            variants.append((settings, members))

    always = [key for key in keys if key in {_own(name, runs[0]) for name in ALWAYS_NAMED}]
    differing = [key for key in keys if len({members[0].settings.get(key) for _, members in variants}) > 1]
    named = {}
    for mentioned, members in variants:
        shown = dict.fromkeys(always + [key for key in differing if key in mentioned])
        sample = [f"{SAMPLE}={class_sample(runs[0])}"] * bool(class_sample(runs[0]))
        name = " ".join([runs[0].trainer, *(_label(key, members[0].config.get(key)) for key in shown), *sample])
        named[name + mark(members[0])] = members
    return dict(sorted(named.items(), key=lambda item: natural(item[0])))


def natural(text: str) -> list:
    """Return a key for sorting that puts N=4 before N=16."""
    return [(0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in re.split(r"(\d+)", text)]


def mark_key(run: Run) -> str:
    """Return the config key that stands behind a run's mark, or ""."""
    known = MARKS.get(_mark_of(run))
    return _own(known.key, run) if known else ""


def _own(key: str, run: Run) -> str:
    """Return the name of a key of the trainer's own node."""
    return f"TRAINER.{run.trainer.upper()}.{key}"


def _values(run: Run, keys: list[str]) -> tuple:
    return tuple(run.settings.get(key) for key in keys)


def _collide(runs: list[Run], schedule: list[str]) -> bool:
    """Tell whether two complete runs of one place were trained on different schedules."""
    places = group((run for run in runs if run.complete), place)
    return any(len({_values(run, schedule) for run in members}) > 1 for members in places.values())


def _label(key: str, value: Any) -> str:
    """Write a setting shortly: TRAINER.PLOT.N, 4 -> "N=4"; MODEL.BACKBONE.NAME, RN50 -> "RN50"."""
    if key == "MODEL.BACKBONE.NAME":
        return str(value)
    short = key.split(".", 2)[2] if key.startswith("TRAINER.") else key
    if isinstance(value, tuple):
        value = "(" + ",".join(map(str, value)) + ")"
    return f"{short}={value!r}" if value == "" else f"{short}={value}"
