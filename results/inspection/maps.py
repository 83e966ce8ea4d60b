"""A map of what a run compares: the prompts of some classes and the image features of some test images, in the plane.

Here the run is rebuilt and the features are extracted; `numbers.feature_map` puts them into the plane.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runs.files import ResultsError, write_atomic
from runs.restore.images import image_reader
from runs.restore.source import RunFolder
from runs.restore.testset import labels_of

from ..numbers.feature_map import FeatureMap, Features, make_map
from .rebuilt import RunAtRest

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "map"  # below the run
DEFAULT_CLASSES, MOST_CLASSES = 8, 10
BATCH = 32


# --- which images, and their features --------------------------------------------------------------------


def choose_classes(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Choose labels: of the names wanted, or spread evenly over all.

    Raises
    ------
    ResultsError
        For more than MOST_CLASSES classes, whose colours could not be told apart, and for unknown names.
    """
    if not wanted:
        count = min(DEFAULT_CLASSES, len(names))
        return [index * len(names) // count for index in range(count)]
    labels = labels_of(wanted, names)
    if len(labels) > MOST_CLASSES:
        raise ResultsError(f"--class: {len(labels)} are more than colours that can be told apart; {MOST_CLASSES} go")
    return labels


def choose_images(test: Sequence[Any], labels: Sequence[int], count: int) -> list[Any]:
    """Choose the first `count` test items of each label, by path."""
    if count < 1:
        raise ResultsError(f"--count must be at least 1, got {count}")
    items = sorted(test, key=lambda item: str(item.impath))
    return [item for label in labels for item in [item for item in items if item.label == label][:count]]


def extract(trainer: Any, items: Sequence[Any], labels: Sequence[int]) -> Features:
    """Encode the items' images, and the prompts of some classes.

    Of a method that matches places these are the local features, else, or under the matching "global", the pooled ones.

    Parameters
    ----------
    trainer
        Of the run.
    items
        Test items.
    labels
        Of the classes whose prompts are encoded.

    Raises
    ------
    ResultsError
        For an image that cannot be read.
    """
    import torch
    import torch.nn.functional as F
    from tqdm import tqdm

    read = image_reader(trainer.cfg)

    def read_all(part: Sequence[Any]) -> Tensor:
        try:
            return torch.stack([read(Path(item.impath)) for item in part])
        except (OSError, ValueError) as error:
            raise ResultsError(f"cannot read a test image: {error}") from error

    pooled = getattr(getattr(trainer.model, "transport", None), "pooled", False)  # the matching "global"
    trainer.set_model_mode("eval")
    vectors, decided, places = [], [], 1
    with torch.no_grad(), trainer.model.fixed_prompts():
        for first in tqdm(range(0, len(items), BATCH), "images", disable=None, leave=False):
            part = items[first : first + BATCH]
            image = trainer.encode(read_all(part).to(trainer.device))
            whole = pooled or not image.local.shape[1]
            features = image.pooled[:, None] if whole else trainer.model.places(image)  # (B, M, D)
            places = features.shape[1]
            vectors.append(F.normalize(features.float(), dim=-1).flatten(0, 1).cpu())
            decided.append(_decided(trainer, image, [item.label for item in part], places))
        text = F.normalize(trainer.model.text_features().float(), dim=-1)[:, list(labels)].cpu()  # (N, C', D)
    prompts, classes, width = text.shape
    return Features(
        torch.cat(vectors).numpy(),
        np.repeat([item.label for item in items], places),
        np.concatenate(decided),
        text.transpose(0, 1).reshape(-1, width).numpy(),
        np.repeat(labels, prompts),
        np.tile(np.arange(1, prompts + 1), classes),
    )


def _decided(trainer: Any, image: Any, labels: Sequence[int], places: int) -> np.ndarray:
    """Compute `Features.decided` of a batch, (B * M,).

    Of the plan (B, C, M, N) only the true class of each image counts: (B, M, N). A feature's largest entry over
    prompts, over the mean of its entries, is 1 where all prompts get alike, and N where one gets all.
    """
    import torch

    if not hasattr(trainer.model, "explain"):
        return np.ones(len(labels) * places)
    plan: Tensor = trainer.model.explain(image).match.plan  # (B, C, M, N)
    own = plan[range(len(labels)), labels].cpu().double()  # (B, M, N)
    mass = own.sum(dim=2)  # 0 for a place that does not take part
    decided = own.shape[2] * own.amax(dim=2) / mass.clamp(min=torch.finfo(mass.dtype).tiny)
    return torch.where(mass > 0, decided, 1.0).flatten().numpy()


# --- a run -----------------------------------------------------------------------------------------------


def map_run(run: RunAtRest, method: str, classes: Sequence[str] = (), count: int = 6) -> FeatureMap:
    """Map a run by `method`, one of feature_map.METHODS, from `count` test images a class.

    Raises
    ------
    ResultsError
        For runs of methods that cannot be mapped, and for what is missing.
    """
    # contexts that are words but cannot be mapped are those that every image shifts
    source = RunFolder.open(run.folder)
    shifted = source.method.has_words
    what = "prompts that are the same for every image" if shifted else "prompts to show"
    source = source.require(what, "can_be_mapped")
    trainer = run.rebuild()
    dataset = trainer.dm.dataset
    labels = choose_classes(dataset.classnames, classes)
    items = choose_images(dataset.test, labels, count)
    if not items:
        raise ResultsError(f"{run.folder}: its data set has no test image of these classes")
    cfg = trainer.cfg
    features = extract(trainer, items, labels)
    n = int(features.prompt_number.max())
    under_prompts = source.method.transports and not source.method.has_places
    several = "images under visual prompts" if under_prompts else "local image features"
    seen = several if len(features.images) > len(items) else "pooled image features"
    title = f"{source.trainer} on {cfg.DATASET.NAME}: {n} prompt{'s' * (n > 1)} a class, and {seen}"
    return make_map(features, method, dataset.classnames, title)


def save_arrays(feature_map: FeatureMap, path: Path) -> Path:
    """Write the points, what they are of, and `meta`: a JSON text with class names, title and caption."""
    meta = {
        "classnames": list(feature_map.classnames),
        "title": feature_map.title,
        "caption": feature_map.caption,
        "prompts_like_their_own_class": feature_map.own,
    }
    kept = ("image_label", "decided", "prompt_label", "prompt_number")
    arrays: dict[str, Any] = {key: getattr(feature_map.features, key) for key in kept} | {
        "image_points": feature_map.image_points,
        "prompt_points": feature_map.prompt_points,
        "meta": np.asarray(json.dumps(meta, ensure_ascii=False)),
    }
    return write_atomic(path, lambda file: np.savez_compressed(file, **arrays))
