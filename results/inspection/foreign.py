"""Foreign images for a run: those of another data set, or of a folder, without what the run knows.

An image is left out where its class is one of the run's, by its name as CLIP reads it, or where it is one of the run's
own files.  In a folder, the classes of an image may be any of the folders between the two.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.data.datasets.base_dataset import Datum
from dassl.data.integrity import bad_images, bad_lines
from dassl.plain.text import error_text
from datasets.catalogue import UsageError, declared, find_kind
from datasets.tables import as_clip_reads
from runs.files import ResultsError
from runs.restore.images import find_images

MOST_NAMED = 5  # classes, in a message


class ForeignImages(NamedTuple):
    """Images of one origin.

    Attributes
    ----------
    name
        What was asked for: a data set, or a folder.
    items
        What is left to be scored; their labels mean nothing.
    left_out
        How many images the run knows.
    known
        What they are: names of classes, or "files of the run".
    """

    name: str
    items: Sequence[Any]
    left_out: int
    known: Sequence[str]

    @property
    def left_out_text(self) -> str:
        """Say what was left out."""
        more = ", ..." * (len(self.known) > MOST_NAMED)
        shown = ", ".join(self.known[:MOST_NAMED]) + more
        total = self.left_out + len(self.items)
        return f"{self.left_out} of {total} images of {self.name} are known to the run ({shown})"


def foreign_images(place: str, trainer: Any) -> ForeignImages:
    """Find the images of a data set or a folder that are foreign to a run.

    Parameters
    ----------
    place
        Name of a registered data set, whose test images are taken, or a folder, of which all images are.
    trainer
        Of the run, with its data; the data sets lie below its DATASET.ROOT.

    Raises
    ------
    ResultsError
        Where there is no such place, where it holds no image or some that cannot be read, and where the run knows all
        that it holds.
    """
    dataset = dataset_called(place)
    found = test_images_of(dataset, trainer.cfg) if dataset else images_in(Path(place))
    data = trainer.dm.dataset
    classes = {as_clip_reads(str(name)): str(name) for name in data.classnames}
    own = {os.path.realpath(item.impath) for part in (data.train_x, data.val, data.test) for item in part or ()}
    items, known = [], []
    for item, names in found:
        of_run = [classes[as_clip_reads(name)] for name in names if as_clip_reads(name) in classes]
        if of_run or os.path.realpath(item.impath) in own:
            known.append(of_run[0] if of_run else "files of the run")
        else:
            items.append(item)
    images = ForeignImages(place, items, len(known), sorted(set(known)))
    if not items:
        raise ResultsError(f"{images.left_out_text}: none is foreign; give images of other things")
    if bad := bad_images(dict.fromkeys((item.impath for item in items), False)):
        shown = "\n  ".join(bad_lines(bad))
        raise ResultsError(f"{len(bad)} of {len(items)} images of {place} cannot be read:\n  {shown}\ntake them out")
    return images


def dataset_called(place: str) -> str | None:
    """Name the registered data set that is meant; None for a folder.  A data set wins; ./NAME is always a folder.

    Raises
    ------
    ResultsError
        For neither.
    """
    registered = DATASET_REGISTRY.registered_names()
    if place in registered and not getattr(DATASET_REGISTRY.get(place), "own_pictures", False):
        return place  # also those of plugins, which need not declare themselves
    try:
        return find_kind(place, [kind for kind in declared() if not kind.own_pictures]).__name__
    except UsageError as error:
        if Path(place).is_dir():
            return None
        raise ResultsError(f"--data {place}: there is no such folder, and {error}") from None


def test_images_of(dataset: str, cfg: Any) -> list[tuple[Datum, list[str]]]:
    """Read the test images of a data set, of all its classes, and the class of each."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASET.NAME, cfg.DATASET.SUBSAMPLE_CLASSES, cfg.DATASET.NUM_SHOTS = dataset, "all", -1
    try:
        return [(item, [item.classname]) for item in build_dataset(cfg).test or ()]
    except (OSError, ValueError) as error:
        raise ResultsError(f"--data {dataset}: {error_text(error)} (--root says where the data sets are)") from error


def images_in(folder: Path) -> list[tuple[Datum, list[str]]]:
    """Find the images of a folder, and the names of the folders between it and each of them."""
    images = find_images([folder])
    return [(Datum(str(path)), list(path.relative_to(folder).parts[:-1])) for path in images]
