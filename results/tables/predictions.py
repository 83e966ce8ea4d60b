"""What a test said of every image, as a table for other programs: CSV or Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runs.files import ResultsError, write_atomic, write_text
from runs.predictions import Predictions

from .layout import csv_text

Table = dict[str, np.ndarray]  # the columns by name, each (n,)

FORMATS = (".csv", ".parquet")


def prediction_table(predictions: Predictions, classnames: Sequence[str]) -> Table:
    """Make a row an image.

    Parameters
    ----------
    predictions
        Of n images.
    classnames
        By label; only the first ones may be known (labels stand for the others).

    Returns
    -------
    dict
        Columns of n rows: image, label, class, predicted, predicted_class, correct, label_probability, then the
        probabilities of all classes by name ("p(church)"; of equal names with their label), or, where the most probable
        ones are kept alone, their labels and probabilities (top1, p1, top2, p2, ...).
    """
    names = [*classnames, *map(str, range(len(classnames), predictions.num_classes))]
    probabilities = np.exp(predictions.log_probabilities.astype(float))
    columns = {
        "image": predictions.images,
        "label": predictions.labels,
        "class": np.array(names)[predictions.labels],
        "predicted": predictions.predicted,
        "predicted_class": np.array(names)[predictions.predicted],
        "correct": predictions.correct.astype(int),
        "label_probability": np.exp(predictions.label_log_probability.astype(float)),
    }
    if predictions.top is None:
        times = Counter(names)
        heads = [f"p({name})" + f" [{label}]" * (times[name] > 1) for label, name in enumerate(names)]
        columns |= {head: probabilities[:, label] for label, head in enumerate(heads)}
    else:
        for place in range(predictions.top.shape[1]):
            columns |= {f"top{place + 1}": predictions.top[:, place], f"p{place + 1}": probabilities[:, place]}
    return columns


def csv_of(table: Table) -> str:
    """Write a table as CSV, in which no text is anything that a spreadsheet computes."""
    return csv_text(list(table), zip(*(column.tolist() for column in table.values()), strict=True))


def write_table(table: Table, path: Path) -> Path:
    """Write a table in the format of its file's name.

    Raises
    ------
    ResultsError
        For another ending than those in FORMATS, and where Parquet needs a library that is not there.
    """
    if path.suffix not in FORMATS:
        raise ResultsError(f"--out {path}: the name must end in {' or '.join(FORMATS)}")
    if path.suffix == ".csv":
        return write_text(path, csv_of(table))
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ResultsError("writing Parquet needs pyarrow: pip install pyarrow, or choose .csv") from error
    return write_atomic(path, lambda file: pyarrow.parquet.write_table(pyarrow.table(table), file))
