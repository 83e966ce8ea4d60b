"""The cache of training images: what Tip-Adapter and its relatives know, learn and save.

Axes: K cached images, N keys of each (1, or 2 in PLOT-Adapter), D feature width, C classes.
"""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from clip.features import ImageFeatures


class Cache(nn.Module):
    """Keys (N, K, D) of K images and their labels (K,); empty until it is filled or loaded.

    Saved are the keys, the labels, the names of the classes that the labels count, `alpha`, `beta` and `notes`.  Where
    the classes of a later run are others, a cached image speaks for the one of its name, if there is one.

    Parameters
    ----------
    classnames
        C names, of this run.
    n_keys
        N, of an image.
    width
        D, of a key.
    ctx
        Contexts of the prompts that belong to the cache (PLOT-Adapter), saved likewise.

    Attributes
    ----------
    keys
        (N, K, D), a parameter; what learns, where anything does.
    labels
        (K,) int64, as positions in `known`.
    values
        (K, C) one-hot of this run's classes; a row of zeros for an image of none of them.
    most
        Images of the class that has the most.
    alpha, beta
        Weight and sharpness of its score.
    notes
        Where all of this came from, as plain JSON data.
    """

    labels: Tensor  # (K,) int64, as positions in `known`
    values: Tensor  # (K, C) one-hot of this run's classes; a row of zeros for an image of none of them

    def __init__(self, classnames: Sequence[str], n_keys: int, width: int, ctx: nn.Parameter | None = None) -> None:
        super().__init__()
        self.classnames = list(classnames)  # of this run
        self.known = list(classnames)  # that the labels count
        self.keys = nn.Parameter(torch.empty(n_keys, 0, width))
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))
        self.register_buffer("values", torch.empty(0, len(self.classnames)), persistent=False)
        self.register_parameter("ctx", ctx)
        self.most = 0
        self.alpha = self.beta = 0.0
        self.notes: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def fill(self, keys: Tensor, labels: Tensor) -> None:
        """Take over keys (N, K, D) and labels (K,) of this run's classes."""
        self.keys.data = keys.to(self.keys)
        self.labels = labels.to(self.labels)
        self.known = list(self.classnames)
        self._place()

    @property
    def n_known(self) -> int:
        """How many of this run's classes have a cached image."""
        return int(self.values.any(dim=0).sum())

    def _place(self) -> None:
        """Build `values`, class by class of the same name (the second of a name meeting the second); count `most`."""
        columns = {place: column for column, place in enumerate(_occurrences(self.classnames))}
        column_of = torch.tensor([columns.get(place, -1) for place in _occurrences(self.known)])
        columns_of_images = column_of.to(self.labels)[self.labels]
        one_hot = F.one_hot(columns_of_images.clamp(min=0), len(self.classnames)) * (columns_of_images >= 0)[:, None]
        self.values = one_hot.to(self.keys)
        self.most = max(Counter(self.labels.tolist()).values(), default=0)

    # --- saved as tensors only ---------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Pack everything that is no tensor into one, as JSON: checkpoints are read as tensors only."""
        facts = {"classnames": self.known, "alpha": self.alpha, "beta": self.beta, "notes": self.notes}
        return torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Unpack what `get_extra_state` packed."""
        facts = json.loads(bytes(state.tolist()))
        self.known, self.notes = facts["classnames"], facts["notes"]
        self.alpha, self.beta = facts["alpha"], facts["beta"]

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        keys, labels = state_dict.get(prefix + "keys"), state_dict.get(prefix + "labels")
        if keys is not None and labels is not None and len(self) != len(labels):  # the file says how many images
            self.keys.data = self.keys.new_empty(len(self.keys), len(labels), self.keys.shape[2])
            self.labels = self.labels.new_empty(len(labels))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._place()


def _occurrences(names: Sequence[str]) -> list[tuple[str, int]]:
    """Count how often each name stood before: names of classes need not be unique."""
    seen: Counter[str] = Counter()
    places = []
    for name in names:
        places.append((name, seen[name]))
        seen[name] += 1
    return places


def check_cache(state: Mapping[str, Tensor], cache: Cache, path: Path) -> None:
    """Check that a state dict is of a cache like this one, for any number of images.

    Parameters
    ----------
    state
        As read.
    cache
        The one that it is to be loaded into.
    path
        The file, for messages.

    Raises
    ------
    ValueError
        Where entries or shapes are those of another method or backbone, or numbers are not finite.
    """
    expected = cache.state_dict()
    if state.keys() != expected.keys():
        present, needed = ", ".join(list(state)[:4]) or "nothing", ", ".join(expected)
        raise ValueError(f"{path} holds {present}, a cache consists of {needed}: the file is of another method")
    theirs, ours = state["keys"].shape, expected["keys"].shape
    if (theirs[0], theirs[2:]) != (ours[0], ours[2:]) or len(state["labels"]) != theirs[1]:
        raise ValueError(
            f"{path} holds keys of shape {tuple(theirs)}, this run needs {ours[0]} x images x {ours[2]}: the file is "
            "of another method or backbone"
        )
    for name in ("keys", "ctx"):
        if name in state and not state[name].isfinite().all():
            raise ValueError(f"{path} holds NaN or infinite numbers in `{name}`: its training diverged; train it again")
    if "ctx" in state and state["ctx"].shape != expected["ctx"].shape:
        raise ValueError(
            f"{path} holds prompts of shape {tuple(state['ctx'].shape)}, this run needs "
            f"{tuple(expected['ctx'].shape)}; set the same N, N_CTX, CSC as the run that wrote it"
        )


# --- filling it ------------------------------------------------------------------------------------------


@torch.no_grad()
def encode_keys(
    images: Any,
    passes: int,
    batch_size: int,
    num_workers: int,
    view: Callable[[Tensor], ImageFeatures],
    keys_of: Callable[[ImageFeatures], Tensor],
) -> Tensor:
    """Compute the keys of a data set whose samples differ from call to call (augmentation).

    All looks at a batch follow each other, so that nothing but the keys is kept for more than a batch.

    Parameters
    ----------
    images
        A data set of K samples.
    passes
        Looks at each image.
    batch_size, num_workers
        Of the loading.
    view
        Images (B, 3, H, W) -> what one look at them contributes.
    keys_of
        The mean of that over all looks -> keys (N, B, D).

    Returns
    -------
    Tensor
        (N, K, D), float32.
    """
    blocks = [list(range(first, min(first + batch_size, len(images)))) for first in range(0, len(images), batch_size)]
    loader = DataLoader(images, batch_sampler=[b for b in blocks for _ in range(passes)], num_workers=num_workers)
    looks = (view(batch["img"]) for batch in loader)
    keys = []
    with tqdm(total=passes * len(images), desc="Encoding the cache", unit="image", disable=None, leave=False) as bar:
        for block in blocks:
            total = reduce(lambda so_far, look: ImageFeatures(*map(torch.add, so_far, look)), islice(looks, passes))
            keys.append(keys_of(ImageFeatures(*(tensor / passes for tensor in total))))
            bar.update(passes * len(block))
    return torch.cat(keys, dim=1)
