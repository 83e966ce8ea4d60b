"""Which images `transport` looks at: files and folders, or test images, of some classes, that the run gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs.files import ResultsError, say, tell
from runs.trained_run import labels_of, load, look_through_test, quiet, read_config

COUNT = 6  # test images, or images a prompt, unless told otherwise
FORMATS = ("png", "svg", "npz")  # what is written of each
CLAIMS_FORMATS = ("png", "svg", "json")  # and of all claims together
Chosen = list[tuple[Path, "int | None"]]  # with the true label, where it is known


@dataclass(frozen=True)
class Choice:
    """What the command line asks for; `images`, or else `count` test images."""

    images: Sequence[str] = ()
    classes: Sequence[str] = ()  # names: only test images of these
    wrong: bool = False  # only test images that are taken for another class
    count: int | None = None

    def check(self) -> None:
        """Before anything is loaded.  Raises ResultsError."""
        if self.images:
            given = {"--class": self.classes, "--wrong": self.wrong, "--count": self.count is not None}
            others = [flag for flag, value in given.items() if value]
            if others:
                raise ResultsError(f"{' and '.join(others)} choose test images; leave out --images, or them")
        elif self.count is not None and self.count < 1:
            raise ResultsError(f"--count must be at least 1, got {self.count}")


# --- files and folders -----------------------------------------------------------------------------------


def with_files(
    run: Path, paths: Sequence[Path], backbone: str = "", root: str = "", verbose: bool = False
) -> tuple[Any, Chosen]:
    """The run's trainer, and the files with their labels.

    No data set is needed.  It is read where some file lies below its root, since only then can there be a label; a
    file that it does not hold has none, and where it cannot be read no file has.
    """
    from runs.record import read_classnames

    names = read_classnames(run)
    if names is None or _may_be_in_data(run, paths, root):
        try:
            trainer = load(run, backbone, root, verbose)
        except ResultsError as error:
            if names is None:
                raise
            tell(f"warning: {error}: true classes are not known")
        else:
            data = trainer.dm.dataset
            parts = [data.train_x, data.val or [], data.test]
            labels = {Path(item.impath).resolve(): item.label for part in parts for item in part}
            return trainer, [(path, labels.get(path.resolve())) for path in paths]
    trainer = load(run, backbone, root, verbose, classnames=names)
    return trainer, [(path, None) for path in paths]


def _may_be_in_data(run: Path, paths: Sequence[Path], root: str) -> bool:
    root = root or str((read_config(run).get("DATASET") or {}).get("ROOT") or "")
    folder = Path(root).expanduser().resolve() if root else None
    return folder is not None and any(folder in path.resolve().parents for path in paths)


# --- test images -----------------------------------------------------------------------------------------


def test_images(trainer: Any, choice: Choice, verbose: bool = False) -> Chosen:
    """The test images that were asked for, at most `count`, spread over the classes; tells how many are wrong."""
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
        of_them = len(items)
        wrong = wrong_items(trainer, verbose)
        items = [item for item in items if id(item) in wrong]
        say(f"{len(items)} of {of_them} {about.replace('image', 'images', 1)} are taken for another class")
    return [(Path(item.impath), item.label) for item in spread_over_classes(items, choice.count or COUNT)]


def wrong_items(trainer: Any, verbose: bool = False) -> set[int]:
    """id() of every test item that the run takes for another class, by its test."""
    items, wrong = trainer.dm.dataset.test, set()
    with quiet(verbose):
        for indices, predicted in look_through_test(
            trainer, lambda images: trainer.model_inference(images).argmax(dim=1).tolist()
        ):
            wrong |= {
                id(items[index])
                for index, label in zip(indices, predicted, strict=True)
                if items[index].label != label
            }
    return wrong


def spread_over_classes(test: Sequence[Any], count: int) -> list[Any]:
    """`count` test items from as many classes as possible, evenly over the labels; always the same ones."""
    by_label: dict[int, list[Any]] = {}
    for item in sorted(test, key=lambda item: (item.label, str(item.impath))):
        by_label.setdefault(item.label, []).append(item)
    turns = [
        items[turn]
        for turn in range(max(map(len, by_label.values()), default=0))
        for items in by_label.values()
        if turn < len(items)
    ]
    first_turn = turns[: len(by_label)]
    if count < len(first_turn):
        return [first_turn[index * len(first_turn) // count] for index in range(count)]
    return turns[:count]
