"""How well one run tells foreign images from its own: what was measured, and the file that keeps it.

`inspection.ood` makes such a record beside the run's own, `ood.json`; tables, figures and the report read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from dassl.plain.reading import COUNT, NUMBER, PERCENT, TEXT, WHOLE, Each
from runs.files import read_shaped

NAME = "ood.json"  # beside result.json
SCHEMA = 1
BINS = 30  # of a histogram
ABOUT = {  # of the run
    "trainer": TEXT,
    "dataset": TEXT,
    "shots": WHOLE,
    "seed": WHOLE,
    "split": TEXT,
    "temperature": lambda value: NUMBER(value) and value > 0,
    "images": COUNT,
    "note": TEXT,
}
SCORES = ("MCM", "L-MCM", "GL-MCM")


class Separation(NamedTuple):
    """How well a score tells foreign images from known ones, in %.

    Attributes
    ----------
    fpr95
        Share of the foreign images that pass for known, where 95 % of the known ones do; the smaller the better.
    auroc
        Area under the ROC curve: how often a foreign image has the larger score of a pair; 50 by chance.
    aupr
        Average precision, with the foreign images as the positive ones; their share of all images by chance.
    """

    fpr95: float
    auroc: float
    aupr: float


class Foreign(NamedTuple):
    """Foreign images of one origin.

    Attributes
    ----------
    name
        Of the data set or the folder.
    images
        How many were scored.
    left_out
        How many were not, since the run knows their class.
    separation
        By score.
    histograms
        By score, counts in the bins of `Detection.edges`.
    """

    name: str
    images: int
    left_out: int
    separation: Mapping[str, Separation]
    histograms: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Detection:
    """One run, its known images, and foreign ones of one or several origins.

    Attributes
    ----------
    images
        Known ones, of the run's `split`.
    note
        Why there are fewer scores than there might be; "" where there are all.
    edges
        By score, the BINS + 1 edges that its histograms share.
    known
        By score, how many known images are in each bin.
    """

    folder: Path
    trainer: str
    dataset: str
    shots: int
    seed: int
    split: str
    temperature: float
    images: int
    note: str
    edges: Mapping[str, Sequence[float]]
    known: Mapping[str, Sequence[int]]
    foreign: Sequence[Foreign]

    @property
    def scores(self) -> list[str]:
        """Names of the scores, in order."""
        return [name for name in SCORES if name in self.edges]

    def mean(self, score: str) -> Separation:
        """Average a score's measures over the origins of the foreign images."""
        return Separation(*map(fmean, zip(*(part.separation[score] for part in self.foreign), strict=True)))

    def as_json(self) -> dict[str, Any]:
        """Make plain data that `read_detection` reads, with the mean for other readers."""
        foreign = [
            part._asdict() | {"separation": {name: part.separation[name]._asdict() for name in self.scores}}
            for part in self.foreign
        ]
        mean = {name: self.mean(name)._asdict() for name in self.scores}
        about = {key: getattr(self, key) for key in ABOUT}
        return {**about, "mean": mean, "foreign": foreign, "edges": self.edges, "known": self.known}


FOREIGN = {
    "name": TEXT,
    "images": COUNT,
    "left_out": COUNT,
    "separation": Each(dict.fromkeys(Separation._fields, PERCENT)),
    "histograms": Each([COUNT]),
}
SHAPE = {"schema": WHOLE, **ABOUT, "foreign": [FOREIGN], "edges": Each([NUMBER]), "known": Each([COUNT])}


def read_detection(path: Path) -> tuple[Detection, Any]:
    """Read the file and say when the result that it belongs to was finished.

    Raises
    ------
    ValueError
        For a file that is torn, foreign or not whole.
    """
    record = read_shaped(path, SHAPE)
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema {record['schema']!r}, this program reads {SCHEMA}")
    names = [name for name in SCORES if name in record["edges"]]
    counts = [record["known"], *(part["histograms"] for part in record["foreign"])]
    bins = {len(histograms.get(name, ())) for histograms in counts for name in names}
    measured = all(name in part["separation"] for part in record["foreign"] for name in names)
    if not (names and record["foreign"] and measured and bins == {BINS}) or any(
        len(record["edges"][name]) != BINS + 1 for name in names
    ):
        raise ValueError("it is not whole: a score lacks its measures or a histogram")
    foreign = [
        Foreign(**part | {"separation": {name: Separation(**part["separation"][name]) for name in names}})
        for part in ({key: part[key] for key in FOREIGN} for part in record["foreign"])
    ]
    about = {key: record[key] for key in (*ABOUT, "edges", "known")}
    return Detection(path.parent, **about, foreign=foreign), record.get("finished")
