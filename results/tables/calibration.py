"""Calibration before and after temperature scaling, as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ..numbers.calibration import MEASURES, Calibration
from ..numbers.cells import shots_name
from ..numbers.summary import Section
from .layout import Block, csv_text, show_document, show_mean

CAPTION = (
    "Calibration of the test, mean ± population standard deviation over seeds; lower is better. ECE (15 bins of equal "
    "width, and of equal mass) and AURC in %, NLL in nats, Brier score from 0 to 2. Columns with (T) are at the "
    "temperature T, which was fitted on at most 4 validation images a class."
)
APPROXIMATE = (
    "More than 128 classes: of each image the probabilities of 20 classes and of the true one are kept. Columns "
    "without (T) are exact; at T, what is left is taken as evenly spread over the other classes."
)
DIGITS = {"nll": 3, "brier": 3}  # else 2
HEAD = ["method", "T", *(head for title in MEASURES.values() for head in (title, f"{title} (T)"))]
CSV_COLUMNS = "dataset classes split draw method shots measure scaled seeds mean population_std".split()

BySection = Sequence[tuple[Section, list[Calibration]]]


def format_calibration(by_section: BySection, style: str) -> str:
    """Show a table a section; CSV is one line a method and measure.  Ends with a newline."""
    if style == "csv":
        return csv_text(CSV_COLUMNS, _lines(by_section))
    blocks = [calibration_block(section, calibrations) for section, calibrations in by_section]
    return show_document(notes(by_section), blocks, style)


def notes(by_section: BySection) -> list[str]:
    """Return the sentences that belong to the tables: what stands in them, what is approximate, what is missing."""
    calibrations = [calibration for _, members in by_section for calibration in members]
    reasons = sum((calibration.reasons for calibration in calibrations), Counter())
    approximate = [APPROXIMATE] if not all(calibration.exact for calibration in calibrations) else []
    lacking = sum(len(calibration.lacking) for calibration in calibrations)
    return [
        CAPTION,
        *approximate,
        *(f"No temperature in {count} run{'s' * (count > 1)}: {why}." for why, count in reasons.most_common(3)),
        *([f"{lacking} run{'s' * (lacking > 1)} from before predictions were kept tell of none."] if lacking else []),
    ]


def calibration_block(section: Section, calibrations: Sequence[Calibration]) -> Block:
    """Make a row a method: its temperature, and each measure before and after scaling."""
    rows = []
    for calibration in calibrations:
        temperature = show_mean(calibration.temperature)
        if calibration.temperature and calibration.fitted:
            temperature += f" ({calibration.fitted})"
        measures = [
            show_mean(values.get(name), DIGITS.get(name, 2))
            for name in MEASURES
            for values in (calibration.before, calibration.after)
        ]
        rows.append([calibration.column.title, temperature, *measures])
    return Block(section.title, HEAD, rows)


def _lines(by_section: BySection) -> Iterator[Sequence[Any]]:
    """Yield the lines of the CSV, at full precision."""
    for section, calibrations in by_section:
        for calibration in calibrations:
            column = calibration.column
            place = (section.dataset, *section.kind, column.method, shots_name(column.shots))
            fitted = {"temperature": calibration.temperature} if calibration.temperature else {}
            for scaled, values in ((0, calibration.before), (1, {**fitted, **calibration.after})):
                for name, value in values.items():
                    yield (*place, name, scaled, value.n, value.mean, value.deviation)
