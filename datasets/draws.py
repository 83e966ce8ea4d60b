"""The two ways in which few-shot training images are drawn: DATASET.DRAW.

    per_class       NUM_SHOTS images of every class, as CoOp and all who follow it draw them (fewshot.py)
    proportional    NUM_SHOTS x C images in all, spread over the C classes in proportion to their sizes

The second is behind the tables of GalLoP and SOT-GLP: one stratified split by scikit-learn. A large class gets many
images there and a small one few or, where shots are few, none at all, so "16 shots" of one draw are not those of the
other. It draws no validation images.

References
----------
M. Lafon, E. Ramzi, C. Rambour, N. Audebert and N. Thome, "GalLoP: Learning Global and Local Prompts for
Vision-Language Models", ECCV 2024
"""

from __future__ import annotations

from collections import Counter

from dassl.data.datasets import Datum

from .files import first_few

PER_CLASS, PROPORTIONAL = DRAWS = ("per_class", "proportional")


def draw_proportionally(train: list[Datum], shots: int, seed: int) -> list[Datum]:
    """Draw `shots` images a class on average, as many of each class as its share of the training images.

    Parameters
    ----------
    train
        All training images, in the order of the split file, which the picks depend on.
    shots
        K: of C classes K x C images are drawn; all images, where there are no more than that.
    seed
        The split's random state; below 0: another draw each time.

    Returns
    -------
    list
        The images, in the order drawn.

    Raises
    ------
    ValueError
        Where scikit-learn refuses to split: a class has a single image, or fewer images would be left than there are
        classes.

    Notes
    -----
    A class of n of the N images gets n K C / N of them, rounded down; what is then missing goes to the classes with the
    largest remainders, at random among equal ones. The images of a class are drawn without replacement. scikit-learn
    walks through the classes by number, and GalLoP numbers them in the order in which they first appear, so the picks
    depend on that order, and not on the labels of the split file.

    Its random numbers are of numpy's legacy generator, whose stream is frozen. The picks of its releases 1.3.0 (numpy
    1.26) and 1.9.1 (numpy 2.4) were compared, and are the same.
    """
    number: dict[int, int] = {}  # label -> position of the class by first appearance
    classes = [number.setdefault(item.label, len(number)) for item in train]
    wanted = shots * len(number)
    if wanted >= len(train):
        return list(train)
    _check_sizes(train, wanted, len(number))

    from sklearn.model_selection import StratifiedShuffleSplit  # takes a second

    splitter = StratifiedShuffleSplit(n_splits=1, train_size=wanted, random_state=seed if seed >= 0 else None)
    drawn, _ = next(splitter.split(classes, classes))
    return [train[position] for position in drawn]


def _check_sizes(train: list[Datum], wanted: int, classes: int) -> None:
    """Raise ValueError where scikit-learn would, in words that name classes and the remedy."""
    sizes = Counter((item.label, item.classname) for item in train)
    if single := [repr(name) for (_, name), size in sizes.items() if size < 2]:
        raise ValueError(
            f"DATASET.DRAW {PROPORTIONAL} needs two training images or more of every class, but there is one of "
            f"{first_few(single)}; add images, or use DATASET.DRAW {PER_CLASS}"
        )
    if len(train) - wanted < classes:
        most = len(train) // classes - 1
        fewer = f"DATASET.NUM_SHOTS of {most} or less, or " if most > 0 else ""
        raise ValueError(
            f"DATASET.DRAW {PROPORTIONAL} must leave as many training images undrawn as there are classes, {classes}, "
            f"but {wanted} of {len(train)} are wanted; use {fewer}DATASET.NUM_SHOTS -1 for all images"
        )
