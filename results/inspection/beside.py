"""What a command that looks into a run leaves beside it: a record, which the report reads, and a figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runs.files import ResultsError, to_stderr, write_text
from runs.record import Run, read_run

from ..figures.style import drawing, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def complete_run(folder: Path) -> Run:
    """Read the record of a run; ResultsError, with the problem, for one that is not complete."""
    run = read_run(folder)
    if not run.complete:
        raise ResultsError(f"{folder}: {run.problem}")
    return run


def leave_beside(
    run: Run, name: str, schema: int, measured: Mapping[str, Any], draw: Callable[[], Figure], out: Path | None
) -> None:
    """Write what was measured, and its figure, and say which files these are.

    Parameters
    ----------
    run
        The record of the run; the file names when its result was finished, so that a later training makes it stale.
    name, schema
        Of the record, like "ablation.json", which lies in the run's folder in any case.
    measured
        Plain data.
    draw
        Makes the figure.
    out
        Folder of the figure, which is named as the record, .png and .svg; None for that of the run.
    """
    record = {"schema": schema, "finished": run.record.get("finished"), **measured}
    written = [write_text(run.folder / name, json.dumps(record, indent=1) + "\n")]
    with drawing():
        figure = draw()
        target = (out or run.folder) / name
        written += [save_figure(figure, target.with_suffix(suffix)) for suffix in (".png", ".svg")]
    for path in written:
        to_stderr(f"written: {path}")
