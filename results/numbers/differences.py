"""What differs between methods, and what should not differ between runs but does.

Methods are told apart by settings, so a comparison of methods is a comparison of all settings in which they differ:
`between_methods` lists them.  Within a method, and for device, versions and test images within everything, nothing
should differ; `between_runs` names what does, with the runs of each value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from runs.keys import CHANCE, SCHEDULE
from runs.methods import data_path, group, mark_key, natural
from runs.record import Run

from .cells import shots_text
from .summary import Kind, Section, Summary

MOST_PLACES = 5  # that are named where methods saw different images


class Setting(NamedTuple):
    """One key, and what it is for every method that has it."""

    key: str  # of the trainer's own keys the last part: N_CTX
    values: dict[str, str]


class Difference(NamedTuple):
    """Something that is not the same in all runs that should have it in common."""

    what: str  # a config key, or "torch version"
    method: str  # or "all methods"
    values: dict[str, list[Run]]  # the runs of every value, the most frequent first


# --- between methods -------------------------------------------------------------------------------------


def between_methods(summary: Summary) -> tuple[list[Setting], list[Setting]]:
    """Return (settings in which methods differ, settings that only some of the trained methods have)."""
    runs_of = summary.runs_by_method()
    settings = {method: _settings(runs) for method, runs in runs_of.items()}
    trained = {method for method, runs in runs_of.items() if runs[0].trained}
    differing, partial = [], []
    for key in sorted({key for values in settings.values() for key in values}):
        setting = Setting(key, {method: values[key] for method, values in settings.items() if key in values})
        if len(set(setting.values.values())) > 1:
            differing.append(setting)
        elif trained - setting.values.keys():
            partial.append(setting)
    return differing, partial


def _settings(runs: Sequence[Run]) -> dict[str, str]:
    """List the values of every key that matters over the runs; those of the trainer under their own names.

    The key that stands behind a method's mark is left out: the mark says it.
    """
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.settings.items():
            if key != mark_key(run):
                values.setdefault(own_name(key), set()).add(show_value(value))
    return {key: ", ".join(sorted(texts, key=natural)) for key, texts in values.items()}


def own_name(key: str) -> str:
    """Shorten a key of a trainer's own node: TRAINER.PLOT.N becomes N."""
    return key.split(".", 2)[2] if key.startswith("TRAINER.") and key.count(".") > 1 else key


def show_value(value: Any) -> str:
    """Show a setting as a config writes it, empty text as ""."""
    if isinstance(value, tuple):
        return f"({', '.join(map(show_value, value))})"
    return str(value) if value != "" else '""'


# --- between runs ----------------------------------------------------------------------------------------


def between_runs(summary: Summary) -> list[Difference]:
    """Look for what should not differ: versions, device and test images of all runs, then each method's settings.

    A schedule may go by data set and shots, so it is compared within these.
    """
    differences = list(_of_all(summary.complete_runs))
    for section in summary.sections:
        differences += _of_section(section)
    for method, runs in summary.runs_by_method().items():
        differences += _of_method(method, runs)
    return differences


def _of_all(runs: Sequence[Run]) -> Iterator[Difference]:
    """Compare versions, device and number of processes of all runs."""
    versions = sorted({key for run in runs for key in run.record.get("versions") or {}})
    for key in versions:
        having = [run for run in runs if key in (run.record.get("versions") or {})]
        read = lambda run, key=key: run.record["versions"][key] or "unknown"  # noqa: E731
        yield from _difference(version_name(key), "all methods", having, read)
    having = [run for run in runs if "device" in run.record]
    yield from _difference("device", "all methods", having, lambda run: run.record["device"])
    yield from _difference("processes", "all methods", having, lambda run: run.processes)


def version_name(key: str) -> str:
    """Name an entry of a record's `versions`: "torch version", "commit"."""
    return key if key == "commit" else f"{key} version"


def _of_section(section: Section) -> Iterator[Difference]:
    """Compare the number of test images."""
    runs = [run for run in section.runs() if run.record.get("total") is not None]
    yield from _difference(f"test images of {section.title}", "all methods", runs, lambda run: run.record["total"])


def _of_method(method: str, runs: Sequence[Run]) -> Iterator[Difference]:
    """Compare the settings of a method's runs, and what chance depends on."""
    for key in sorted({key for run in runs if run.trained for key in (*run.settings, *CHANCE)}):
        having = [run for run in runs if key in run.config]
        read = lambda run, key=key: show_value(run.settings.get(key, run.config[key]))  # noqa: E731
        if key in SCHEDULE:  # goes by data set and shots
            places = group(having, lambda run: (run.dataset, run.classes, run.shots, run.draw)).values()
            having = [run for members in places if len(set(map(read, members))) > 1 for run in members]
        yield from _difference(key, method, having, read)


def _difference(what: str, method: str, runs: Sequence[Run], read: Any) -> Iterator[Difference]:
    """Yield one difference, or nothing where all runs agree in what `read` reads of them."""
    values = group(runs, lambda run: str(read(run)))
    if len(values) > 1:
        yield Difference(what, method, dict(sorted(values.items(), key=lambda item: (-len(item[1]), item[0]))))


def same_images(runs: Sequence[Run]) -> dict[str, Any]:
    """Compare the data of the methods in every place, by fingerprint.

    Methods are compared fairly where they saw the same images at the same number of shots and seed; the records keep a
    fingerprint of their training images for that.

    Returns
    -------
    data
        Whether anything could be `compared`, the places that are `differing`, in words, and whether there are `more`.
    """
    trained = [run for run in runs if run.trained and (run.record.get("data") or {}).get("fingerprint")]
    seen = lambda run: (run.dataset, run.classes, run.shots, run.draw, run.seed, data_path(run))  # noqa: E731
    places = group(trained, seen).items()
    differing = [
        f"{dataset}, {shots_text(shots)}{Kind(classes, 'test', draw).qualifier}, seed {seed}"
        for (dataset, classes, shots, draw, seed, _), members in places
        if seed >= 0 and len({run.record["data"]["fingerprint"] for run in members}) > 1
    ]
    return {
        "compared": any(len(members) > 1 for _, members in places),
        "differing": differing[:MOST_PLACES],
        "more": len(differing) > MOST_PLACES,
    }


def processes_name(runs: Sequence[Run]) -> str:
    """Show how many processes shared the work of runs, "1, 4"; "" where every run had one, as usual."""
    numbers = sorted({run.processes for run in runs})
    return ", ".join(map(str, numbers)) if numbers != [1] else ""


def distinct(runs: Sequence[Run], *keys: str) -> str:
    """Join the different values that records have under nested keys; "" where there is none.

    Parameters
    ----------
    runs
        Whose records are read.
    keys
        From the outside in: "data", "classes".
    """
    values = set()
    for run in runs:
        value: Any = run.record
        for key in keys:
            value = (value or {}).get(key)
        if value is not None:
            values.add(str(value))
    return ", ".join(sorted(values))
