"""How alpha and beta are chosen: on which images, and by what search.  No test image is looked at here.

(Where upstream's protocol is asked for, leaky.py looks at them.)
"""
from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from clip import ranks
from clip.features import ImageFeatures
from dassl.data.datasets import build_dataset

from .model import TipModel

MOST_VAL_SHOTS = 4  # as few-shot validation data of all methods
LOGITS_AT_ONCE = 1 << 24  # that are compared in one step of the search


class Choice(NamedTuple):
    """The best of a search.

    Attributes
    ----------
    alpha, beta
        The values.
    accuracy
        In %, on the images that were searched on.
    """

    alpha: float
    beta: float
    accuracy: float  # in %, on the images that were searched on


@torch.no_grad()
def search(
    model: TipModel,
    batches: Iterable[tuple[ImageFeatures, Tensor]],
    alphas: Sequence[float],
    betas: Sequence[float],
    total: int | None = None,
) -> Choice:
    """Find the alpha and beta of most correct predictions; of several, the smallest beta, and then alpha.

    Parameters
    ----------
    model
        Gives the base score (B, C) and the cache's score for every beta.
    batches
        Features of B images and their labels.
    alphas, betas
        What is tried: every pair.
    total
        Number of batches, for the progress bar.
    """
    correct: Any = 0  # (betas, alphas), on the device: it is read once, at the end
    images, weights = 0, torch.tensor(alphas)[:, None, None]
    for image, labels in tqdm(batches, "Searching alpha and beta", total, disable=None, leave=False):
        base, affinity = model.base(image), model.affinity(image)
        images += len(labels)
        weights = weights.to(base)
        parts = weights.split(max(1, LOGITS_AT_ONCE // base.numel()))
        rows = []
        for beta in betas:
            score = model.cache_score(affinity, beta)
            rows.append(torch.cat([((base + part * score).argmax(dim=2) == labels).sum(dim=1) for part in parts]))
        correct = correct + torch.stack(rows)
    seen = [(n, counts) for n, counts in ranks.gather_objects((images, torch.as_tensor(correct).cpu())) if n]
    images, correct = sum(n for n, _ in seen), sum(counts for _, counts in seen)  # of all processes
    best = int(correct.flatten().argmax())  # the first of equals
    row, column = divmod(best, len(alphas))
    return Choice(alphas[column], betas[row], 100.0 * int(correct.max()) / images)


def validation_images(cfg: Any, dataset: Any, where: str, test_is_val: bool = False) -> tuple[list[Any], str]:
    """Choose the images that alpha and beta are chosen on.

    Parameters
    ----------
    cfg, dataset
        The run's.
    where
        A value of the key SEARCH other than "none".
    test_is_val
        Take a validation list that is the test set (ImageNet) as it is, for upstream's protocol.

    Returns
    -------
    tuple
        The items, and what they are: "val", "full_val", "train" or "test".

    Raises
    ------
    ValueError
        Where there are none; says what to set.
    """
    own = dataset.val or []
    if own and test_is_val and where == "val" and not _apart(own, dataset.test):
        return own, "test"
    has_val = bool(own) and _apart(own, dataset.test)
    if where == "val" and has_val:
        return own, "val"
    if where == "full_val":
        whole = _whole(cfg).val or []  # also where the draw of the few shots takes none of it
        if not whole or not _apart(whole, dataset.test):
            raise ValueError(f"{cfg.DATASET.NAME} has no validation split of its own to search on; set SEARCH to train")
        return whole, "full_val"
    chosen = _spare(cfg, dataset)
    if not chosen:
        remedy = "val" if has_val else "none"
        raise ValueError(
            f"there is nothing to choose alpha and beta on: all training images of {cfg.DATASET.NAME} are in the cache"
            + ("" if has_val else ", and it has no validation split of its own")
            + f"; set DATASET.NUM_SHOTS to less, or SEARCH to {remedy}"
        )
    return chosen, "train"


def _apart(some: list[Any], others: list[Any]) -> bool:
    """Whether two lists share no image."""
    return not {item.impath for item in some} & {item.impath for item in others}


def _whole(cfg: Any) -> Any:
    """Build the data set of `cfg` with all its images."""
    whole = cfg.clone()
    whole.defrost()
    whole.DATASET.NUM_SHOTS = -1
    return build_dataset(whole)


def _spare(cfg: Any, dataset: Any) -> list[Any]:
    """Draw training images that are not among the few-shot ones, min(shots, 4) a class where there are as many."""
    taken = {item.impath for item in dataset.train_x}
    label = attrgetter("label")
    spare = sorted((item for item in _whole(cfg).train_x if item.impath not in taken), key=label)
    classes = [list(items) for _, items in groupby(spare, label)]
    draw = random.Random(cfg.SEED if cfg.SEED >= 0 else None)
    count = min(cfg.DATASET.NUM_SHOTS, MOST_VAL_SHOTS)
    return [item for items in classes for item in draw.sample(items, min(count, len(items)))]
