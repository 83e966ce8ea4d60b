"""Calibration of methods: the measures of their runs over seeds, and reliability diagrams.

A record says what its test measured, before and after temperature scaling.  Of a record from before that, what can be
had is computed from the predictions beside it: everything but the temperature, which needs validation images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from dassl.plain.calibration import Bins, bin_images, measure, width_edges
from runs.files import ResultsError
from runs.predictions import read_predictions
from runs.record import Run

from .cells import Spread, spread
from .classes import Column, columns
from .summary import Section, Summary

MEASURES = {"ece": "ECE", "ece_equal_mass": "ECE, equal mass", "nll": "NLL", "brier": "Brier", "aurc": "AURC"}


class Calibration(NamedTuple):
    """The measures of one column over its seeds; those after scaling are of the runs that have a temperature."""

    column: Column
    before: dict[str, Spread]
    temperature: Spread | None
    after: dict[str, Spread]
    exact: bool  # whether those after scaling are of all classes' probabilities
    reasons: Counter[str]  # why runs have no temperature
    lacking: list[Run]  # with neither measures nor predictions

    @property
    def fitted(self) -> str:
        """How many of the runs have a temperature: "2/3"; "" where all have."""
        fitted, runs = self.temperature.n if self.temperature else 0, len(self.column.runs)
        return "" if fitted == runs else f"{fitted}/{runs}"


def calibration_of(run: Run) -> Mapping[str, Any] | None:
    """Return the entry `calibration` of a run's record, or what its predictions tell; None where it has neither."""
    entry = run.record.get("calibration")
    if entry:
        return entry
    try:
        before = measure(read_predictions(run.folder).at_temperature())
    except ResultsError:
        return None
    return {"before": before, "temperature": None, "after": None, "exact": True, "reason": "none was fitted"}


def calibrate(column: Column) -> Calibration | None:
    """Average the measures of a column; None where no run has any."""
    entries = {run: calibration_of(run) for run in column.runs}
    known = [entry for entry in entries.values() if entry]
    scaled = [entry for entry in known if entry["temperature"] is not None and entry["after"]]
    if not known:
        return None
    return Calibration(
        column,
        _over_seeds([entry["before"] for entry in known]),
        spread(entry["temperature"] for entry in scaled) if scaled else None,
        _over_seeds([entry["after"] for entry in scaled]),
        all(entry["exact"] for entry in scaled),
        Counter(entry["reason"] for entry in known if entry not in scaled),
        [run for run, entry in entries.items() if not entry],
    )


def _over_seeds(measures: list[Mapping[str, float | None]]) -> dict[str, Spread]:
    """Average each measure; one that is infinite for a seed, null in its record, has no mean."""
    values = {name: [of_run[name] for of_run in measures] for name in MEASURES} if measures else {}
    return {name: spread(v for v in of if v is not None) for name, of in values.items() if None not in of}


def all_calibrations(summary: Summary, shots: int | None = None) -> list[tuple[Section, list[Calibration]]]:
    """Average the measures of every column that has any, by section; sections without are left out."""
    by_section = [
        (section, [calibrated for column in columns(section, shots) if (calibrated := calibrate(column))])
        for section in summary.sections
    ]
    return [(section, calibrations) for section, calibrations in by_section if calibrations]


# --- reliability -----------------------------------------------------------------------------------------


class Reliability(NamedTuple):
    """The test images of a column, of all seeds together, in bins of equal width by confidence."""

    column: Column
    before: Bins
    after: Bins | None  # at the temperature of each run; None where any has none


def reliability(column: Column) -> Reliability | None:
    """Pool the images of a column's runs; None where one of them keeps no predictions."""
    before: list[Bins] = []
    after: list[Bins] = []
    for run in column.runs:
        try:
            predictions = read_predictions(run.folder)
        except ResultsError:
            return None
        temperature = (run.record.get("calibration") or {}).get("temperature")
        for bins, value in ((before, 1.0), (after, temperature)):
            if value is not None:
                scores = predictions.at_temperature(value)
                bins.append(bin_images(scores.confidence, scores.correct, width_edges()))
    return Reliability(column, _pooled(before), _pooled(after) if len(after) == len(before) else None)


def _pooled(bins: list[Bins]) -> Bins:
    return Bins(*(sum(arrays) for arrays in zip(*bins, strict=True)))  # type: ignore[arg-type]


