"""Training on kept views: every training image is augmented K times before the first epoch, and encoded once a view.

The original draws a new crop of every image in every epoch, and each goes through the frozen tower.  With
DATALOADER.TRAIN_X.VIEWS at K > 0 an epoch takes one of K views of each image instead, at random, and no image goes
through the tower in training.  That is another, poorer augmentation: results differ from those of fresh crops, so it
has to be asked for, and 0 is the default.

A view depends on SEED, its number, and the image's position alone: neither on workers, batches, epochs nor the method.
"""
from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from clip.features import ImageFeatures
from dassl.data import DatasetWrapper


def wanted_views(cfg: Any) -> int:
    """Read DATALOADER.TRAIN_X.VIEWS; 0 for configs without it.

    Raises
    ------
    ValueError
        For a value that cannot be, also beside K_TRANSFORMS.
    """
    count = cfg.DATALOADER.TRAIN_X.get("VIEWS", 0)
    if count < 0:
        raise ValueError(f"DATALOADER.TRAIN_X.VIEWS is {count}; give 0 (new crops in every epoch) or a number of views")
    if count and cfg.DATALOADER.K_TRANSFORMS > 1:
        raise ValueError("DATALOADER.TRAIN_X.VIEWS keeps one crop of an image a view; set DATALOADER.K_TRANSFORMS to 1")
    return count


def batch_of(items: Sequence[Any], positions: Sequence[int], features: ImageFeatures) -> dict[str, Any]:
    """Build what a loader gives for some images, with their features in the place of the pixels.

    Parameters
    ----------
    items
        All items of the data set.
    positions
        Which of them.
    features
        Theirs, in that order.
    """
    chosen = [items[position] for position in positions]
    return {
        "img": features,
        "label": torch.tensor([item.label for item in chosen]),
        "domain": torch.tensor([item.domain for item in chosen]),
        "index": torch.tensor(positions),
        "impath": [item.impath for item in chosen],
    }


class Views(Dataset):
    """K augmented views of n images, view after view.

    Parameters
    ----------
    images
        A DatasetWrapper for training, whose samples these are.
    count
        K.
    seed
        Together with the numbers of view and image it decides every view.
    """

    def __init__(self, images: DatasetWrapper, count: int, seed: int) -> None:
        self.images, self.count, self.seed = images, count, seed
        self.data_source = list(images.data_source) * count

    def __len__(self) -> int:
        return len(self.data_source)

    def loader(self, batch_size: int, num_workers: int) -> DataLoader:
        """Load all views in order, drawing from a generator of its own: the global one goes on undisturbed."""
        getattr(self.images, "prepare", lambda _: None)(0)  # decode images that are kept, once for all workers
        return DataLoader(self, batch_size=batch_size, num_workers=num_workers, generator=torch.Generator())

    def __getitem__(self, index: int) -> dict[str, Any]:
        view, position = divmod(index, len(self.images))
        with drawing_from(self.seed, view, position):
            return self.images[position]


@contextmanager
def drawing_from(*numbers: int) -> Iterator[None]:
    """Within it the global generators that transforms draw from are seeded by `numbers`; then they go on as before."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)  # the CPU's: no other is drawn from, or put back
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


class ViewLoader:
    """Stands for a training loader: the same images in the same kind of batches, as features of one of their views.

    Parameters
    ----------
    loader
        Whose sampler and size of batches are used.
    features
        Pooled (K n, D) and local (K n, M, D) of the n images that it loads, view after view.
    """

    def __init__(self, loader: Any, features: ImageFeatures) -> None:
        self.dataset, self.batch_size = loader.dataset, loader.batch_size
        self.features = features
        self.count = len(features.pooled) // len(loader.dataset)
        self.batches = BatchSampler(loader.sampler, loader.batch_size, loader.drop_last)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        items = self.dataset.data_source
        for batch in self.batches:
            rows = torch.tensor(batch) + len(items) * torch.randint(self.count, (len(batch),))
            yield batch_of(items, batch, ImageFeatures(*(tensor[rows] for tensor in self.features)))
