"""The section on differences between methods, and whether they are beyond chance."""

from __future__ import annotations

from typing import Any

from ..numbers.comparison import compare
from ..numbers.summary import Summary
from ..tables.comparison import blocks, how_compared
from .parts import block_table


def comparison(summary: Summary) -> dict[str, Any] | None:
    """Show every pair of methods at the most shots, averages first; None where no two can be compared."""
    most = max((shots for section in summary.sections for shots in section.shots), default=0)
    compared = compare(summary, shots=[most])
    if not compared.pairs:
        return None
    over_data, by_data = blocks(compared)
    return {
        "notes": how_compared(compared, "bold"),
        "tables": [block_table(block) for block in over_data],
        "parts": [(block.title, block_table(block)) for block in by_data],
        "refused": len(compared.refused),
    }
