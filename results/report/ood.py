"""The section on foreign images: how well runs tell them from their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runs.record import read_run, relative_to

from ..figures.ood import describe_ood, ood_figure
from ..numbers.ood import NAME, read_detection
from ..tables.ood import notes, ood_block
from .parts import block_table, figure

MOST_RUNS = 6  # in the report; the files stay where they are


def ood(output: Path) -> dict[str, Any] | None:
    """Show every run below `output` that foreign images were shown to, up to MOST_RUNS."""
    paths = sorted(output.glob(f"**/{NAME}"))
    runs = [_run(path, output, number) for number, path in enumerate(paths[:MOST_RUNS], start=1)]
    return {"runs": runs, "more": max(0, len(paths) - MOST_RUNS), "file": NAME} if runs else None


def _run(path: Path, output: Path, number: int) -> dict[str, Any]:
    """Return figure, table and words of one run; or why its file cannot be read.

    The file names when the result was finished that it was made of: after a later training it is stale.
    """
    name = relative_to(path.parent, output)
    try:
        detection, finished = read_detection(path)
    except ValueError as error:
        return {"name": name, "error": str(error)}
    return {
        "name": name,
        "error": "",
        "stale": finished != read_run(path.parent).record.get("finished"),
        "figure": figure(ood_figure(detection), f"ood-{number}", describe_ood(detection)),
        "notes": notes(detection),
        "table": block_table(ood_block(detection)._replace(title="Foreign images by score")),
    }
