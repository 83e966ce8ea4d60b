"""The last sections: what the runs cost, on what they ran, and one command of every method."""

from __future__ import annotations

import shlex
from typing import Any

from ..numbers.cells import ABSENT, shots_name
from ..numbers.differences import distinct, processes_name, same_images, version_name
from ..numbers.summary import Summary
from ..tables.layout import duration
from .parts import Cell, Table, cells
from .transport import trained_cells


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


def setting(summary: Summary) -> dict[str, Any]:
    """Show data, versions, and one command of every method."""
    runs = summary.complete_runs
    keys = sorted({key for run in runs for key in run.record.get("versions") or {}})
    values = {
        "backbone": distinct(runs, "backbone"),
        **{version_name(key): distinct(runs, "versions", key) for key in keys},
        "processes of a run": processes_name(runs),
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


def by_section(summary: Summary, *keys: str) -> str:
    """Show "Demo: 560; EuroSAT: 8100"; of a single section the value alone."""
    values = [(section.title, value) for section in summary.sections if (value := distinct(section.runs(), *keys))]
    if len(summary.sections) == 1:
        return "".join(value for _, value in values)
    return "; ".join(f"{title}: {value}" for title, value in values)
