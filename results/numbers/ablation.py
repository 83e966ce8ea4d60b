"""One run tested under several matchings: what was counted, its significance, and the file that keeps it.

`inspection.ablation` makes such a record beside the run's own, `ablation.json`; tables, figures and the report read it.
All settings score the same images with the same prompts, so that accuracies are compared in pairs, image by image
(McNemar's test), which tells more than two separate standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dassl.plain.reading import COUNT, NUMBER, TEXT, WHOLE, Each, Maybe
from runs.files import read_shaped

from .paired import mcnemar
from .plans import DIAGNOSTICS

NAME = "ablation.json"  # beside result.json
SCHEMA = 2
MOST_IMAGES = 10**6  # of a test: a file that says more is damaged
ABOUT = {  # of the run
    "trainer": TEXT,
    "dataset": TEXT,
    "shots": WHOLE,
    "seed": WHOLE,
    "split": TEXT,
    "total": lambda value: COUNT(value) and 0 < value <= MOST_IMAGES,
}
SETTING = {
    "matching": TEXT,
    "strengths": Each(lambda value: TEXT(value) or (NUMBER(value) and value > 0)),
    "own": lambda value: isinstance(value, bool),
    "correct": COUNT,
    "only_own": COUNT,
    "only_this": COUNT,
    "transport": {diagnostic.key: Maybe(NUMBER) for diagnostic in DIAGNOSTICS},
}


class Varied(NamedTuple):
    """A setting and its value."""

    name: str
    value: float

    @property
    def words(self) -> str:
        """For instance "eps 0.1"."""
        return f"{'eps' if self.name == 'epsilon' else self.name} {self.value:g}"


class Row(NamedTuple):
    """One setting and what came of it.

    `only_own` and `only_this` count the images on which it and the run's own setting disagree; both are 0 for the own
    one.
    """

    matching: str
    strengths: Mapping[str, float | str]  # its settings, as `Transport.strengths`: first the one that is varied
    own: bool  # the run's own setting
    correct: int
    only_own: int  # images that are right under the run's own setting, and wrong under this one
    only_this: int  # the other way round
    transport: Mapping[str, float]  # as in result.json

    @property
    def title(self) -> str:
        """For instance "uniform", or "ot, eps 0.1"."""
        return self.matching if self.varied is None else f"{self.matching}, {self.varied.words}"

    @property
    def varied(self) -> Varied | None:
        """The setting that the rows of one matching differ in; None where it has none."""
        return next((Varied(name, float(value)) for name, value in self.strengths.items()), None)

    @property
    def epsilon(self) -> float | None:
        """Weight of the entropy; None where nothing is solved."""
        value = self.strengths.get("epsilon")
        return None if value is None else float(value)

    @property
    def gain(self) -> int:
        """Images more than under the run's own setting."""
        return self.only_this - self.only_own

    @property
    def p(self) -> float:
        """Of McNemar's exact test."""
        return mcnemar(self.only_own, self.only_this)


@dataclass(frozen=True)
class Ablation:
    """One run under several settings, exactly one of them its own."""

    folder: Path
    trainer: str
    dataset: str
    shots: int
    seed: int
    split: str
    total: int  # images
    rows: list[Row]

    @property
    def own(self) -> Row:
        """The run's own setting."""
        return next(row for row in self.rows if row.own)

    def percent(self, images: float) -> float:
        """Share of the test images, in %."""
        return 100 * images / self.total

    @property
    def standard_error(self) -> float:
        """Of the own accuracy as an estimate from `total` images, in points: sqrt(p (1 - p) / n)."""
        p = self.own.correct / self.total
        return 100 * math.sqrt(p * (1 - p) / self.total)

    def as_json(self) -> dict[str, Any]:
        """Make plain data that `read_ablation` reads, with derived numbers for other readers."""
        rows = [
            row._asdict() | {"epsilon": row.epsilon, "accuracy": self.percent(row.correct), "p": row.p}
            for row in self.rows
        ]
        about = {key: getattr(self, key) for key in ABOUT}
        return {**about, "standard_error": self.standard_error, "settings": rows}


def read_ablation(path: Path) -> tuple[Ablation, Any]:
    """Read the file and say when the result that it belongs to was finished.

    Raises
    ------
    ValueError
        For a file that is torn, foreign or does not add up.
    """
    record = read_shaped(path, {"schema": WHOLE, **ABOUT, "settings": [SETTING]})
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema {record['schema']!r}, this program reads {SCHEMA}")
    rows = [Row(**{key: entry[key] for key in Row._fields}) for entry in record["settings"]]
    ablation = Ablation(path.parent, **{key: record[key] for key in ABOUT}, rows=rows)
    if not any(row.own for row in rows):
        raise ValueError("it is not whole: no setting is the run's own")
    if any(max(row.only_own + row.only_this, row.correct) > ablation.total for row in rows):
        raise ValueError("more images differ or are right than there are")
    return ablation, record.get("finished")
