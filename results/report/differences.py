"""The sections on what differs between methods and runs, and on what is missing.

A reader of a comparison wants to know in which settings the methods differ, and that nothing else does. Where something
else does (a version, the device, a setting within one method), it is named with the runs that stand apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.record import relative_to

from ..numbers.cells import ABSENT, shots_text
from ..numbers.differences import Difference, Setting, between_methods, between_runs
from ..numbers.summary import Summary
from .parts import Cell, Table, cells

MOST_FOLDERS = 3  # runs that are named, where so few differ from the rest


def differences(summary: Summary, output: Path) -> dict[str, Any] | None:
    """Show the settings that tell methods apart, and what should not differ between runs but does."""
    differing, partial = between_methods(summary)
    unexpected = between_runs(summary)
    if not (differing or partial or unexpected or len(summary.complete_runs) > 1):
        return None
    return {
        "differing": settings_table(differing, summary.methods, "Settings that differ between methods"),
        "partial": settings_table(partial, summary.methods, "Settings that only some methods have"),
        "unexpected": [(odd.what, odd.method, values_of(odd, output)) for odd in unexpected],
    }


def settings_table(settings: Sequence[Setting], methods: Sequence[str], label: str) -> Table:
    """Make a row a setting, a column a method; methods that have none of the settings are left out."""
    shown = [method for method in methods if any(method in setting.values for setting in settings)]
    rows = [
        [Cell(setting.key, kind="code"), *cells(*(setting.values.get(method, ABSENT) for method in shown), kind="left")]
        for setting in settings
    ]
    return Table(label, ["setting", *shown], rows, kind="plain")


def values_of(difference: Difference, output: Path) -> list[tuple[str, int, list[str]]]:
    """List the values of a difference.

    Returns
    -------
    values
        (value, how many runs have it, their folders where they are the few among many).
    """
    most = max(map(len, difference.values.values()))
    return [
        (
            value,
            len(runs),
            [relative_to(run.folder, output) for run in runs if len(runs) < most and len(runs) <= MOST_FOLDERS],
        )
        for value, runs in difference.values.items()
    ]


def missing(summary: Summary, output: Path) -> dict[str, Any] | None:
    """Show cells with too few seeds, and the folders of runs that did not finish."""
    if summary.whole:
        return None
    gaps = [
        f"{method} on {section.title}{f' at {shots_text(shots)}' if shots else ''}: "
        f"{len(cell.runs)} of {cell.expected} runs"
        for section in summary.sections
        for (method, shots), cell in section.cells.items()
        if cell.missing
    ]
    unfinished = [(relative_to(run.folder, output), run.problem) for run in summary.incomplete]
    return {"gaps": gaps, "unfinished": unfinished}
