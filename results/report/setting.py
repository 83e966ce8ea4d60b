"""The last sections: what the runs cost, on what they ran, and one command of every method."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from runs.methods import data_path, group
from runs.record import Run

from ..numbers.cells import ABSENT, shots_name, shots_text, spread
from ..numbers.differences import version_name
from ..numbers.summary import Kind, Summary
from .parts import Cell, Table, cells
from .transport import trained_cells

MOST_PLACES = 5  # that are named where methods saw different images


def cost(summary: Summary) -> dict[str, Any] | None:
    """Show time and memory, mean over seeds."""
    rows = []
    for name, shots, runs in trained_cells(summary, every=True):
        seconds = [run.record.get("seconds") or {} for run in runs]
        memory = [run.record["peak_memory_mb"] for run in runs if run.record.get("peak_memory_mb")]
        epochs = sorted({str(run.record["epochs"]) for run in runs if run.record.get("epochs")})
        phases = ("train", "test", "total")
        times = [duration([spent[phase] for spent in seconds if spent.get(phase)]) for phase in phases]
        most = f"{max(memory):,.0f} MB" if memory else ABSENT
        rows.append(cells(name, shots_name(shots), ", ".join(epochs) or ABSENT, *times, most))
    head = ["method", "shots", "epochs", "training", "test", "whole run", "peak memory"]
    note = "Mean over seeds. Memory is the most that the process of a run had taken by its end, earlier runs included."
    return {"table": Table("Time and memory", head, rows, note)} if rows else None


def duration(seconds: Sequence[float]) -> str:
    """Show a mean duration in the unit that suits it."""
    if not seconds:
        return ABSENT
    mean = spread(seconds).mean
    if mean < 90:
        return f"{mean:.1f} s"
    return f"{mean / 60:.1f} min" if mean < 5400 else f"{mean / 3600:.1f} h"


def setting(summary: Summary) -> dict[str, Any]:
    """Show data, versions, and one command of every method."""
    runs = summary.complete_runs
    keys = sorted({key for run in runs for key in run.record.get("versions") or {}})
    values = {
        "backbone": distinct(runs, "backbone"),
        **{version_name(key): distinct(runs, "versions", key) for key in keys},
        "test images": by_section(summary, "total"),
        "classes": by_section(summary, "data", "classes"),
    }
    rows = [[Cell(name), Cell(value, kind="left")] for name, value in values.items() if value]
    commands = []
    for method, members in summary.runs_by_method().items():
        lines = [run.record["argv"] for run in members if run.record.get("argv")]
        if lines:
            commands.append((method, f"python train.py {shlex.join(lines[-1])}"))
    return {
        "images": same_images(runs),
        "table": Table("Versions and data", ["what", "value"], rows, kind="plain"),
        "commands": commands,
    }


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


def by_section(summary: Summary, *keys: str) -> str:
    """Show "Demo: 560; EuroSAT: 8100"; of a single section the value alone."""
    values = [(section.title, value) for section in summary.sections if (value := distinct(section.runs(), *keys))]
    if len(summary.sections) == 1:
        return "".join(value for _, value in values)
    return "; ".join(f"{title}: {value}" for title, value in values)


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
