"""Which images `transport` looks at: files and folders, or test images, of some classes, that the run gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

from runs.files import ResultsError, to_stderr, to_stdout
from runs.restore.source import RunFolder
from runs.restore.testset import labels_of, look_through_test

from .rebuilt import RunAtRest

COUNT = 6  # test images, or images a prompt, unless told otherwise
Chosen = list[tuple[Path, "int | None"]]  # with the true label, where it is known


@dataclass(frozen=True)
class Choice:
    """What the command line asks for; `images`, or else `count` test images."""

    images: Sequence[str] = ()
    classes: Sequence[str] = ()  # names: only test images of these
    wrong: bool = False  # only test images that are taken for another class
    count: int | None = None

    def check(self) -> None:
        """Before anything is loaded, raise ResultsError for options that contradict each other."""
        if self.images:
            options = {"--class": self.classes, "--wrong": self.wrong, "--count": self.count is not None}
            others = [flag for flag, value in options.items() if value]
            if others:
                raise ResultsError(f"{' and '.join(others)} choose test images; leave out --images, or them")
        elif self.count is not None and self.count < 1:
            raise ResultsError(f"--count must be at least 1, got {self.count}")


# --- files and folders -----------------------------------------------------------------------------------


def with_files(run: RunAtRest, paths: Sequence[Path]) -> tuple[Any, Chosen]:
    """Rebuild the run for files of one's own; returns its trainer, and the files with their labels.

    No data set is needed.  It is read where some file lies below its root, since only then can there be a label; a
    file that it does not hold has none, and where it cannot be read no file has.
    """
    from runs.record import read_classnames

    names = read_classnames(run.folder)
    if names is None or _may_be_in_data(run, paths):
        try:
            trainer = run.rebuild()
        except ResultsError as error:
            if names is None:
                raise
            to_stderr(f"warning: {error}: true classes are not known")
        else:
            data = trainer.dm.dataset
            parts = [data.train_x, data.val or [], data.test]
            labels = {Path(item.impath).resolve(): item.label for part in parts for item in part}
            return trainer, [(path, labels.get(path.resolve())) for path in paths]
    return run.rebuild(names), [(path, None) for path in paths]


def _may_be_in_data(run: RunAtRest, paths: Sequence[Path]) -> bool:
    """Whether any of the files lies below the root of the run's data sets, so that its label may be known there."""
    root = run.root or str(RunFolder.open(run.folder).config.get("DATASET.ROOT") or "")
    folder = Path(root).expanduser().resolve() if root else None
    return folder is not None and any(folder in path.resolve().parents for path in paths)


# --- test images -----------------------------------------------------------------------------------------


def test_images(run: RunAtRest, trainer: Any, choice: Choice) -> Chosen:
    """Choose test images, at most `choice.count`, spread over the classes; says how many are wrong, if asked for."""
    data = trainer.dm.dataset
    items = list(data.test)
    about = "test image"
    if choice.classes:
        labels = labels_of(choice.classes, data.classnames)
        items = [item for item in items if item.label in labels]
        about = f"test image of {', '.join(str(data.classnames[label]) for label in labels)}"
        if not items:
            raise ResultsError(f"the data set has no {about}")
    if choice.wrong:
        total = len(items)
        with run.quiet():
            wrong = wrong_items(trainer)
        items = [item for item in items if id(item) in wrong]
        to_stdout(f"{len(items)} of {total} {about.replace('image', 'images', 1)} are taken for another class")
    return [(Path(item.impath), item.label) for item in spread_over_classes(items, choice.count or COUNT)]


def wrong_items(trainer: Any) -> set[int]:
    """Run the test, and return the id() of every test item that is taken for another class."""
    items = trainer.dm.dataset.test
    predict = lambda images: trainer.model_inference(images).argmax(dim=1).tolist()  # noqa: E731
    return {
        id(items[index])
        for indices, predicted in look_through_test(trainer, predict)
        for index, label in zip(indices, predicted, strict=True)
        if items[index].label != label
    }


def spread_over_classes(test: Sequence[Any], count: int) -> list[Any]:
    """Choose `count` test items from as many classes as possible, evenly over the labels; always the same ones.

    The classes take turns: first the first image (by path) of each, then the second.  Where already the first turn is
    too long, its images are picked at even distances.
    """
    items = sorted(test, key=lambda item: (item.label, str(item.impath)))
    classes = [list(members) for _, members in groupby(items, lambda item: item.label)]
    if count < len(classes):
        firsts = [members[0] for members in classes]
        return [firsts[index * len(firsts) // count] for index in range(count)]
    turns = zip_longest(*classes)
    return [item for turn in turns for item in turn if item is not None][:count]
