"""Predictions as text, piece by piece as they come: a table for people, CSV for spreadsheets, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from dassl.plain.text import columns, csv_line, pad

from .classifier import Prediction

WIDEST = 24  # of the columns with class names; a longer name pushes its line apart


def as_table(predictions: Iterable[Prediction], top: int, path_width: int) -> Iterator[str]:
    """Write a line an image: its path, then class and probability, the likeliest first."""
    for prediction in predictions:
        width = min(WIDEST, max(map(columns, prediction.classes)))
        scores = [f"{pad(name, width)} {probability:5.3f}" for name, probability in prediction.top(top)]
        yield f"{pad(prediction.path, path_width)}  {'   '.join(scores)}\n"


def as_csv(predictions: Iterable[Prediction], top: int, path_width: int) -> Iterator[str]:
    """Write a line an image and rank under a heading, which spreadsheets and pandas filter.

    Probabilities are at full precision, text is as `csv_line` has it.
    """
    yield csv_line("path", "rank", "class", "probability")
    for prediction in predictions:
        for rank, (name, probability) in enumerate(prediction.top(top), start=1):
            yield csv_line(str(prediction.path), rank, name, probability)


def as_json(predictions: Iterable[Prediction], top: int, path_width: int) -> Iterator[str]:
    """Write an array with one object a line, valid once its last piece is there; numbers at full precision.

    Every class has its probability and its logit, for readers who calibrate or combine classifiers.
    """
    before = "[\n"
    for prediction in predictions:
        scores = [
            {
                "class": prediction.classes[label],
                "probability": float(prediction.probabilities[label]),
                "logit": float(prediction.logits[label]),
            }
            for label in prediction.ranking[:top]
        ]
        yield before + json.dumps({"path": str(prediction.path), "predictions": scores}, allow_nan=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


FORMATS: dict[str, Callable[[Iterable[Prediction], int, int], Iterator[str]]] = {
    "table": as_table,
    "json": as_json,
    "csv": as_csv,
}
