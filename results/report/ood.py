"""The section on foreign images: how well runs tell them from their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..figures.ood import describe_ood, ood_figure
from ..numbers.ood import NAME, Detection, read_detection
from ..tables.ood import notes, ood_block
from .parts import beside_runs, block_table, figure


def ood(output: Path) -> dict[str, Any] | None:
    """Show runs below `output` that foreign images were shown to."""
    return beside_runs(output, NAME, read_detection, _shown)


def _shown(detection: Detection, number: int) -> dict[str, Any]:
    """Return figure, table and words of one run."""
    return {
        "figure": figure(ood_figure(detection), f"ood-{number}", describe_ood(detection)),
        "notes": notes(detection),
        "table": block_table(ood_block(detection)._replace(title="Foreign images by score")),
    }
