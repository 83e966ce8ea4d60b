"""Does a run notice what it does not know?  Its test images and foreign ones, scored by the cosines with its classes.

The scores are those of ood_scores.py, computed from `model.class_cosines`, which every model has whose classes are text
features.  Images pass in the batches of a test and through the feature cache, so a second call encodes none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dassl.data.data_manager import build_data_loader
from dassl.utils.logger import quiet
from runs.files import ResultsError, to_stderr
from runs.methods import data_names
from runs.record import Run
from runs.restore.testset import batches_of, evaluated

from ..figures.ood import ood_figure
from ..numbers.ood import BINS, NAME, SCHEMA, SCORES, Detection, Foreign
from ..tables.ood import format_ood
from .beside import complete_run, leave_beside
from .foreign import ForeignImages, foreign_images
from .ood_scores import ood_scores, separate
from .rebuilt import RunAtRest

Scores = Mapping[str, np.ndarray]  # by name, one number an image


def detect(run: Run, at_rest: RunAtRest, places: Sequence[str], temperature: float) -> Detection:
    """Rebuild a finished run, and score its own test images and foreign ones.

    Parameters
    ----------
    run
        The record of the run.
    at_rest
        The same run, to be rebuilt.
    places
        Data sets and folders with foreign images.
    temperature
        Of the scores.

    Raises
    ------
    ResultsError
        For a method without cosines with classes, and for foreign images as `foreign_images` does.
    """
    trainer = at_rest.rebuild()
    if not hasattr(getattr(trainer, "model", None), "class_cosines"):
        raise ResultsError(
            f"{run.folder} is a run of {run.trainer}, whose model has no `class_cosines`: it compares images with "
            "classes in a way of its own; give a run of another method"
        )
    names = data_names(place.rstrip("/") for place in places)
    foreign = [foreign_images(place, trainer)._replace(name=names[place]) for place in names]
    for images in foreign:
        if images.left_out:
            to_stderr(f"warning: {images.left_out_text}; they are left out")
    try:
        known = score_images(trainer, evaluated(trainer, run.split), run.split, temperature)
        scores = [score_images(trainer, loader_of(trainer, images), images.name, temperature) for images in foreign]
    except NotImplementedError as error:
        raise ResultsError(f"{run.folder} is a run of {run.trainer}: {error}") from error
    except OSError as error:
        raise ResultsError(f"cannot score the images for {run.folder}: {error}") from error
    edges = {name: np.histogram_bin_edges(np.concatenate([known[name], *(part[name] for part in scores)]), BINS)
             for name in known}  # fmt: skip
    parts = [_measured(images, known, part, edges) for images, part in zip(foreign, scores, strict=True)]
    note = "" if len(known) == len(SCORES) else (
        f"MCM alone: L-MCM and GL-MCM need features of places, and this run of {run.trainer} compares none with classes"
    )  # fmt: skip
    return Detection(
        run.folder, run.trainer, run.dataset, run.shots, run.seed, run.split, temperature, len(known["MCM"]), note,
        {name: values.tolist() for name, values in edges.items()}, _counts(known, edges), parts,
    )  # fmt: skip


def score_images(trainer: Any, loader: Any, about: str, temperature: float) -> Scores:
    """Score all images of a loader.

    Outside autocast: with PREC amp the weights are float32, and cosines are wanted to the last digit.
    """
    import torch

    parts: list[dict[str, torch.Tensor]] = []
    with batches_of(trainer, loader, about) as batches:
        for batch in batches:
            features = trainer.encode(trainer.parse_batch_test(batch)[0])
            scores = ood_scores(trainer.model.class_cosines(features), temperature)
            parts.append({name: values.cpu() for name, values in scores.items()})
    joined = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    if not all(np.isfinite(values).all() for values in joined.values()):
        raise ResultsError(f"images of {about} have scores that are NaN: did the training diverge?")
    return joined


def loader_of(trainer: Any, images: ForeignImages) -> Any:
    """Load foreign images exactly as the run's test images are loaded."""
    cfg, test = trainer.cfg, trainer.test_loader
    return build_data_loader(
        cfg, data_source=images.items, batch_size=test.batch_size, tfm=test.dataset.transform, is_train=False
    )


def _measured(images: ForeignImages, known: Scores, scores: Scores, edges: Scores) -> Foreign:
    """Compare the scores of foreign images with those of the known ones."""
    separation = {name: separate(known[name], scores[name]) for name in known}
    return Foreign(images.name, len(images.items), images.left_out, separation, _counts(scores, edges))


def _counts(scores: Scores, edges: Scores) -> dict[str, list[int]]:
    return {name: np.histogram(values, edges[name])[0].tolist() for name, values in scores.items()}


# --- the command -----------------------------------------------------------------------------------------


def show_ood(at_rest: RunAtRest, places: Sequence[str], temperature: float, out: Path | None, style: str) -> Detection:
    """Print the table of a detection, and write its record and figure.

    Parameters
    ----------
    at_rest
        The run.
    places, temperature
        As `detect` takes them.
    out
        Folder of ood.png and ood.svg; default: that of the run, where ood.json goes in any case.
    style
        Of the table, one of layout.FORMATS.
    """
    run = complete_run(at_rest.folder)
    with quiet(instead=sys.stderr if at_rest.verbose else None):  # stdout is the table's
        detection = detect(run, at_rest, places, temperature)
    sys.stdout.write(format_ood(detection, style))
    leave_beside(run, NAME, SCHEMA, detection.as_json(), lambda: ood_figure(detection), out)
    return detection
