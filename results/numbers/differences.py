"""What differs between methods, and what should not differ between runs but does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from runs.keys import CHANCE, SCHEDULE
from runs.methods import group, mark_key, natural
from runs.record import Run

from .summary import Section, Summary


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
    """(keys that methods have different values of, keys that only some of the trained methods have)."""
    settings = {method: _settings(runs) for method, runs in runs_by_method(summary).items()}
    trained = {method for method, runs in runs_by_method(summary).items() if runs[0].trained}
    differing, partial = [], []
    for key in sorted({key for one in settings.values() for key in one}):
        found = Setting(key, {method: one[key] for method, one in settings.items() if key in one})
        if len(set(found.values.values())) > 1:
            differing.append(found)
        elif trained - found.values.keys():
            partial.append(found)
    return differing, partial


def runs_by_method(summary: Summary) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {method: [] for method in summary.methods}
    for section in summary.sections:
        for (method, _), held in section.cells.items():
            runs[method] += held.runs
    return {method: members for method, members in runs.items() if members}


def _settings(runs: Sequence[Run]) -> dict[str, str]:
    """{key: its values over the runs}, of the keys that matter; those of the trainer under their own names."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.settings.items():
            if key != mark_key(run):
                found.setdefault(own_name(key), set()).add(show_value(value))
    return {key: ", ".join(sorted(values, key=natural)) for key, values in found.items()}


def own_name(key: str) -> str:
    """TRAINER.PLOT.N -> N"""
    return key.split(".", 2)[2] if key.startswith("TRAINER.") and key.count(".") > 1 else key


def show_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(show_value, value))})"
    return str(value) if value != "" else '""'


# --- between runs ----------------------------------------------------------------------------------------


def between_runs(summary: Summary) -> list[Difference]:
    """Versions, device and test images of all runs; then the settings of each method's runs."""
    found = list(_of_all(summary.complete_runs))
    for section in summary.sections:
        found += _of_section(section)
    for method, runs in runs_by_method(summary).items():
        found += _of_method(method, runs)
    return found


def _of_all(runs: Sequence[Run]) -> Iterator[Difference]:
    versions = sorted({key for run in runs for key in run.record.get("versions") or {}})
    for key in versions:
        told = [run for run in runs if key in (run.record.get("versions") or {})]
        read = lambda run, key=key: run.record["versions"][key] or "unknown"  # noqa: E731
        yield from _difference(version_name(key), "all methods", told, read)
    told = [run for run in runs if "peak_cuda_memory_mb" in run.record]
    on = lambda run: "CPU" if run.record["peak_cuda_memory_mb"] is None else "GPU"  # noqa: E731
    yield from _difference("device", "all methods", told, on)


def version_name(key: str) -> str:
    """ "torch version", "commit"."""
    return key if key == "commit" else f"{key} version"


def _of_section(section: Section) -> Iterator[Difference]:
    runs = [run for held in section.cells.values() for run in held.runs if run.record.get("total") is not None]
    yield from _difference(f"test images of {section.title}", "all methods", runs, lambda run: run.record["total"])


def _of_method(method: str, runs: Sequence[Run]) -> Iterator[Difference]:
    for key in sorted({key for run in runs if run.trained for key in (*run.settings, *CHANCE)}):
        told = [run for run in runs if key in run.config]
        read = lambda run, key=key: show_value(run.settings.get(key, run.config[key]))  # noqa: E731
        if key in SCHEDULE:  # goes by data set and shots
            places = group(told, lambda run: (run.dataset, run.classes, run.shots)).values()
            told = [run for members in places if len(set(map(read, members))) > 1 for run in members]
        yield from _difference(key, method, told, read)


def _difference(what: str, method: str, runs: Sequence[Run], read: Any) -> Iterator[Difference]:
    """None where all agree."""
    values = group(runs, lambda run: str(read(run)))
    if len(values) > 1:
        yield Difference(what, method, dict(sorted(values.items(), key=lambda item: (-len(item[1]), item[0]))))
