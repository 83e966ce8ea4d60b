"""The section on calibration: the measures of every method, and reliability diagrams behind a click."""

from __future__ import annotations

from typing import Any

from ..figures.calibration import describe_reliability, reliability_figure
from ..figures.style import Look
from ..numbers.calibration import all_calibrations, reliability
from ..numbers.summary import Summary
from ..tables.calibration import calibration_block, notes
from .parts import block_table, figure

MOST_DRAWN = 3  # data sets: a figure takes longer than all else


def calibration(summary: Summary, look: dict[str, Look]) -> dict[str, Any] | None:
    """Show a table a section, and the diagrams of the first few; None where no run tells of its probabilities."""
    by_section = all_calibrations(summary)
    parts = []
    for number, (section, members) in enumerate(by_section):
        shown = [reliability(calibrated.column) for calibrated in members] if number < MOST_DRAWN else []
        row = (section.title, [pooled for pooled in shown if pooled])
        drawn = None
        if row[1]:
            drawn = figure(reliability_figure([row], look), f"reliability {section.title}", describe_reliability(*row))
        parts.append((section.title, block_table(calibration_block(section, members)), drawn))
    cut = f"Diagrams of the first {MOST_DRAWN}; python -m results calibration --figure draws all."
    said = [*notes(by_section), *([cut] if len(parts) > MOST_DRAWN else [])]
    return {"notes": said, "parts": parts} if parts else None
