"""Logits of a trained model for a few validation images, taken behind the back of the run.

What is fitted to a finished model, such as a temperature, needs images that it was neither trained nor tested on. The
trainer's own `test` computes the logits, so that a trainer which tests in another way is followed; an evaluator of ours
collects them, and afterwards the trainer, the log and the random numbers are as they were.
"""
from __future__ import annotations

import contextlib
import io
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DatasetBase, Datum
from dassl.evaluation import EvaluatorBase
from dassl.utils.logger import quiet

__all__ = ["heldout_images", "heldout_logits"]

MOST = 4  # images of a class: what the few-shot splits of CoOp keep for validation


def heldout_images(trainer: Any) -> list[Datum]:
    """Choose the first MOST validation images of every class.

    Parameters
    ----------
    trainer : SimpleTrainer
        After its test.

    Raises
    ------
    ValueError
        With the reason, where there are no validation images, or where they are test or training images as well.
    """
    dataset = getattr(getattr(trainer, "dm", None), "dataset", None)
    if not isinstance(dataset, DatasetBase) or not dataset.val:
        raise ValueError("there are no validation images")
    if (trainer.last_test or {}).get("split") == "val":
        raise ValueError("the test was on the validation images")
    files = {item.impath for item in dataset.val}
    for name, others in (("test", dataset.test), ("training", dataset.train_x)):
        if shared := files & {item.impath for item in others or ()}:
            raise ValueError(f"{len(shared)} of {len(files)} validation images are {name} images as well")
    seen: Counter[int] = Counter()
    chosen = []
    for item in dataset.val:
        seen[item.label] += 1
        if seen[item.label] <= MOST:
            chosen.append(item)
    return chosen


def heldout_logits(trainer: Any, images: Sequence[Datum]) -> np.ndarray:
    """Compute the logits of some validation images as the trainer's test does, and leave no trace of it.

    Parameters
    ----------
    trainer : SimpleTrainer
        After its test. What it counts of its own accord during a test (`diagnostics()` of some) is of these images
        afterwards; all else is put back.
    images : sequence of Datum
        As `heldout_images` chooses them.

    Returns
    -------
    ndarray
        (n, C) logits, float32, in the order of the images.

    Raises
    ------
    Exception
        Whatever a trainer of a plugin may raise, and ValueError where its test did not score just these images.
    """
    collected = _Collector(trainer.cfg)
    kept = {name: getattr(trainer, name) for name in ("evaluator", "val_loader", "last_test", "looks")}
    with _silence(), torch.random.fork_rng(devices=[]):  # a loader draws a seed for its workers
        try:
            trainer.evaluator, trainer.val_loader = collected, _loader(trainer, images)
            trainer.test(split="val")
        finally:
            vars(trainer).update(kept)
    if collected.labels != [item.label for item in images]:
        raise ValueError(f"the test of {type(trainer).__name__} does not score the validation images one by one")
    return torch.cat(collected.logits).numpy()


class _Collector(EvaluatorBase):
    """Keeps all logits."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.logits: list[Tensor] = []
        self.labels: list[int] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Keep a batch: `mo` (B, C) logits, `gt` (B,) labels."""
        self.logits.append(mo.detach().float().cpu())
        self.labels += gt.tolist()

    def evaluate(self) -> OrderedDict[str, float]:
        """Return a result, which `test` needs; nobody reads it."""
        return OrderedDict(accuracy=0.0)


def _loader(trainer: Any, images: Sequence[Datum]) -> DataLoader:
    """Load the images as the data manager's validation loader does; it is that loader where they are all of its."""
    loader: Any = trainer.dm.val_loader
    if len(images) == len(trainer.dm.dataset.val):
        return loader
    return build_data_loader(
        trainer.cfg,
        data_source=images,
        batch_size=loader.batch_size,
        tfm=loader.dataset.transform,
        is_train=False,
        dataset_wrapper=type(loader.dataset),
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what is printed, logged or warned of from the console and the log of the run."""
    with contextlib.redirect_stdout(io.StringIO()), quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
