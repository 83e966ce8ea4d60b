"""The section on what the transport contributes: the ablations that lie beside their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..figures.ablation import ablation_figure, describe_ablation
from ..numbers.ablation import NAME, Ablation, read_ablation
from ..tables.ablation import HEADS, NOTE, cells, conclusions
from .parts import Cell, Table, beside_runs, figure


def ablations(output: Path) -> dict[str, Any] | None:
    """Show runs below `output` that were ablated."""
    return beside_runs(output, NAME, read_ablation, _shown)


def _shown(ablation: Ablation, number: int) -> dict[str, Any]:
    """Return figure, table and words of one run."""
    rows = [list(map(Cell, cells(ablation, row))) for row in ablation.rows]
    return {
        "figure": figure(ablation_figure(ablation), f"ablation-{number}", describe_ablation(ablation)),
        "conclusions": conclusions(ablation),
        "table": Table("The same prompts under other matchings", HEADS, rows, NOTE),
    }
