"""Predictions as text, piece by piece as they come: a table for people, CSV for spreadsheets, JSON for programs.

Where a threshold is set, each says in a place of its own what the answer is: the likeliest class, or none of these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from dassl.plain.text import columns, csv_line, pad, shortened

from .classifier import NONE, Prediction

WIDEST = 24  # columns of a class name in a table; a longer one is shortened


class Layout(NamedTuple):
    """What is shown of every prediction.

    Attributes
    ----------
    top
        How many classes.
    path_width
        Columns of a path in a table; of a longer one the end is shown.
    threshold
        The probability below which the answer is "none of these"; None where no answer is asked for.
    """

    top: int
    path_width: int
    threshold: float | None = None


def as_table(predictions: Iterable[Prediction], layout: Layout) -> Iterator[str]:
    """Write a line an image under a heading: its path, then class and probability, the likeliest first."""
    asked = layout.threshold is not None
    for number, prediction in enumerate(predictions):
        classes = prediction.classes
        shown = min(layout.top, len(classes))
        width = max(columns(f"class {shown}"), min(WIDEST, max(map(columns, classes))))
        answer_width = max(width, columns(NONE))
        if number == 0:
            yield _line(
                pad("image", layout.path_width),
                *([pad("answer", answer_width)] if asked else ()),
                *(f"{pad(f'class {rank}', width)} prob." for rank in range(1, shown + 1)),
            )
        yield _line(
            pad(shortened(prediction.path, layout.path_width, keep_end=True), layout.path_width),
            *([pad(shortened(prediction.answer(layout.threshold), answer_width), answer_width)] if asked else ()),
            *(f"{pad(shortened(name, width), width)} {p:5.3f}" for name, p in prediction.top(shown)),
        )


def _line(path: str, *cells: str) -> str:
    return f"{path}  {'   '.join(cells)}\n"


def as_csv(predictions: Iterable[Prediction], layout: Layout) -> Iterator[str]:
    """Write a line an image and rank under a heading, which spreadsheets and pandas filter.

    Probabilities are at full precision, text is as `csv_line` has it. With a threshold there is a fifth column, answer.
    """
    asked = layout.threshold is not None
    yield csv_line("path", "rank", "class", "probability", *["answer"] * asked)
    for prediction in predictions:
        answer = [prediction.answer(layout.threshold)] * asked
        for rank, (name, probability) in enumerate(prediction.top(layout.top), start=1):
            yield csv_line(str(prediction.path), rank, name, probability, *answer)


def as_json(predictions: Iterable[Prediction], layout: Layout) -> Iterator[str]:
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
            for label in prediction.ranking[: layout.top]
        ]
        image: dict[str, Any] = {"path": str(prediction.path)}
        if layout.threshold is not None:
            image["answer"] = prediction.answer(layout.threshold)
        yield before + json.dumps(image | {"predictions": scores}, allow_nan=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


FORMATS: dict[str, Callable[[Iterable[Prediction], Layout], Iterator[str]]] = {
    "table": as_table,
    "json": as_json,
    "csv": as_csv,
}
