"""The section on what the transport contributes: the ablations that lie beside their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runs.record import read_run, relative_to

from ..figures.ablation import ablation_figure, describe_ablation
from ..numbers.ablation import NAME, read_ablation
from ..tables.ablation import HEADS, NOTE, cells, conclusions
from .parts import Cell, Table, figure

MOST_ABLATIONS = 6  # in the report; the files stay where they are


def ablations(output: Path) -> dict[str, Any] | None:
    """Show every run below `output` that was ablated, up to MOST_ABLATIONS."""
    paths = sorted(output.glob(f"**/{NAME}"))
    runs = [_ablation(path, output, number) for number, path in enumerate(paths[:MOST_ABLATIONS], start=1)]
    return {"runs": runs, "more": max(0, len(paths) - MOST_ABLATIONS), "file": NAME} if runs else None


def _ablation(path: Path, output: Path, number: int) -> dict[str, Any]:
    """Return figure, table and words of one run; or why its file cannot be read.

    The file names when the result was finished that it was made of: after a later training it is stale.
    """
    name = relative_to(path.parent, output)
    try:
        ablation, finished = read_ablation(path)
    except ValueError as error:
        return {"name": name, "error": str(error)}
    rows = [list(map(Cell, cells(ablation, row))) for row in ablation.rows]
    return {
        "name": name,
        "error": "",
        "stale": finished != read_run(path.parent).record.get("finished"),
        "figure": figure(ablation_figure(ablation), f"ablation-{number}", describe_ablation(ablation)),
        "conclusions": conclusions(ablation),
        "table": Table("The same prompts under other matchings", HEADS, rows, NOTE),
    }
