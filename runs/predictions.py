"""What a test said of every image: label, prediction and class probabilities, kept beside the record of the run.

`predictions.npz` is a plain NumPy archive, compressed, and read without pickle, so nothing in it is ever executed.
Accuracies of two methods on the same images differ by far less chance than their standard deviations over seeds
suggest, since both find the same images hard: only what is kept here tells, image by image.  The same holds for
calibration, which accuracy says nothing of.

A record carries the part that comparing methods needs (which images these were, and which were right), so that tables
of a thousand runs open no other file.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dassl.plain.calibration import Scores
from dassl.plain.text import printable, shortened

from .files import ResultsError, write_atomic
from .record import EVAL_RESULT_NAME, RESULT_NAME, Run

NAMES = {RESULT_NAME: "predictions.npz", EVAL_RESULT_NAME: "predictions-eval.npz"}  # by the record that they lie beside
MOST_BYTES = 4 << 30  # of a file, unpacked


@dataclass(frozen=True, eq=False)
class Predictions:
    """The n images of a test, in its order, with C classes.

    Parameters
    ----------
    images
        (n,) paths, relative to the folder of all data sets (DATASET.ROOT), with slashes.
    labels, predicted
        (n,) true and predicted labels.
    log_probabilities
        (n, K) logarithms of class probabilities: of all classes by label (K = C), or of those in `top`.
    num_classes
        C.
    top
        (n, K) labels of the most probable classes, the first one first; None where all are kept.
    label_log_probability
        (n,) of the true class.
    squares
        (n,) sum over all classes of the squared probability, which the Brier score needs.
    """

    images: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    log_probabilities: np.ndarray
    num_classes: int
    top: np.ndarray | None
    label_log_probability: np.ndarray
    squares: np.ndarray

    @classmethod
    def of_test(cls, images: Sequence[str], kept: Mapping[str, np.ndarray]) -> Predictions:
        """Join the paths of the images with what the evaluator kept (`Classification.predictions`)."""
        return cls(np.asarray(images, dtype=str), **{"top": None, **kept})  # type: ignore[arg-type]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def correct(self) -> np.ndarray:
        """(n,) whether the prediction is the label."""
        return self.labels == self.predicted

    @property
    def confidence(self) -> np.ndarray:
        """(n,) probability of the most probable class."""
        return np.exp(self.log_probabilities.max(axis=1))

    def at_temperature(self, temperature: float = 1.0) -> Scores:
        """Return what the measures of calibration need, of softmax(log p / temperature).

        Where all classes are kept this is exact.  Where only the most probable ones are, and the true one, it is exact
        at temperature 1, and at another one what is left of the probability is taken as evenly spread over the other
        classes.
        """
        log_probabilities = self.log_probabilities.astype(float)  # (n, K)
        label = self.label_log_probability.astype(float)
        if temperature == 1:
            return Scores(np.exp(log_probabilities.max(axis=1)), self.correct, label, self.squares.astype(float))
        # The classes of an image: K that are kept; the true one, where it is not among them; and the others.
        apart = np.zeros(len(self)) if self.top is None else ~(self.top == self.labels[:, None]).any(axis=1)  # (n,)
        others = self.num_classes - log_probabilities.shape[1] - apart
        rest = 1 - np.exp(log_probabilities).sum(axis=1) - apart * np.exp(label)  # (n,) the others' probability
        each = np.clip(rest, 0, None) / np.maximum(others, 1)

        def total(power: float) -> np.ndarray:
            """Sum p ** power over all classes of every image."""
            return np.exp(power * log_probabilities).sum(1) + apart * np.exp(power * label) + others * each**power

        power = 1 / temperature
        norm = total(power)
        confidence = np.exp(power * log_probabilities.max(axis=1)) / norm
        return Scores(confidence, self.correct, power * label - np.log(norm), total(2 * power) / norm**2)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of paths and labels in order: equal for tests of the same images."""
        lines = "".join(f"{image}\t{label}\n" for image, label in zip(self.images, self.labels.tolist(), strict=True))
        return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()

    def as_record(self, file: str) -> dict[str, Any]:
        """Return the entry `predictions` of the record: the file's name, which images, and which are right."""
        return {
            "file": file,
            "images": self.fingerprint,
            "total": len(self),
            "correct": base64.b64encode(np.packbits(self.correct).tobytes()).decode("ascii"),
        }


ARRAYS = {  # name: (number of axes, kinds of its type)
    "images": (1, "U"),
    "labels": (1, "i"),
    "predicted": (1, "i"),
    "log_probabilities": (2, "f"),
    "num_classes": (0, "i"),
    "label_log_probability": (1, "f"),
    "squares": (1, "f"),
    "top": (2, "i"),  # may be missing
}


def write_predictions(folder: Path, result_name: str, predictions: Predictions) -> dict[str, Any]:
    """Write predictions beside a record, whole or not at all, and return the record's entry."""
    name = NAMES[result_name]
    arrays = {key: getattr(predictions, key) for key in ARRAYS}
    write_atomic(
        folder / name,
        lambda file: np.savez_compressed(file, **{key: array for key, array in arrays.items() if array is not None}),
    )
    return predictions.as_record(name)


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read the file of a run; of a folder that of its training run.

    Raises
    ------
    ResultsError
        Where there is none, or it is damaged or of another shape.
    """
    path = Path(path)
    path = path / NAMES[RESULT_NAME] if path.is_dir() else path
    if not path.is_file():
        raise ResultsError(
            f"no {path.name} in {path.parent}: the run is from before predictions were kept, or its TEST.PREDICTIONS "
            "is False; test it again (train.py --eval-only --model-dir RUN --output-dir NEW)"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise ValueError(f"it unpacks to more than {MOST_BYTES >> 30} GiB")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ARRAYS if name != "top" or name in archive}
    except (OSError, ValueError, KeyError, MemoryError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ResultsError(f"{path} cannot be read as predictions: {shortened(printable(error), 200)}") from error
    for name, array in arrays.items():
        axes, kinds = ARRAYS[name]
        if array.ndim != axes or array.dtype.kind not in kinds or (axes and len(array) != len(arrays["labels"])):
            raise ResultsError(f"{path} holds no valid {name!r}: shape {array.shape}, type {array.dtype}")
    C = int(arrays["num_classes"])
    for name in ("labels", "predicted"):
        if not ((arrays[name] >= 0) & (arrays[name] < C)).all():
            raise ResultsError(f"{path} holds no valid {name!r}: they must be labels from 0 to {C - 1}")
    if arrays.get("top", arrays["log_probabilities"]).shape != arrays["log_probabilities"].shape:
        raise ResultsError(f"{path} holds no valid 'top': shape {arrays['top'].shape}")
    return Predictions(**{"top": None, **arrays, "num_classes": C})


# --- the part in a record --------------------------------------------------------------------------------


def correct_images(run: Run) -> np.ndarray | None:
    """Return (n,) which images of a run's test were right, from its record alone; None where it does not say."""
    entry = run.record.get("predictions") or {}
    try:
        bits = np.frombuffer(base64.b64decode(entry.get("correct", "")), np.uint8)
        return np.unpackbits(bits)[: entry["total"]].astype(bool) if 8 * len(bits) >= entry["total"] else None
    except (ValueError, KeyError):  # no entry, or no base64
        return None


def images_of(run: Run) -> str:
    """Return the fingerprint of the images of a run's test; "" where its record does not say."""
    return str((run.record.get("predictions") or {}).get("images", ""))
