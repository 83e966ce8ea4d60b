"""A map of what a run compares: the prompts of some classes and the image features of some test images, in the plane.

CLIP's image and text features lie in different cones: any image is closer to any other image than to the text that
describes it.  Each kind is therefore centred by its own mean and scaled to the same spread.  In terms of cosines,
centring the prompts shifts an image's scores for all classes alike, centring the images takes from each class the score
that it has for the mean image, and scale is a matter of temperature.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from runs.files import ResultsError, write_atomic
from runs.trained_run import check_run, labels_of, load, settings_of

from .transport import image_reader

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "map"  # below the run
METHODS = ("pca", "tsne")
DEFAULT_CLASSES, MOST_CLASSES = 8, 10
BATCH = 32
PERPLEXITY = 30.0
OWN = "In all dimensions, {own} of {all} prompts are most like the images of their own class."


class Features(NamedTuple):
    """Unit-length features, and what they are of."""

    images: np.ndarray  # (I, D) local features of all images, or one pooled feature of each
    image_label: np.ndarray  # (I,)
    # (I,) of the mass that a local feature sends to the prompts of its true class, how much goes to one prompt at most,
    # in multiples of an even share; 1 where there is one prompt.  (All of its mass is the same for every feature.)
    decided: np.ndarray
    prompts: np.ndarray  # (T, D)
    prompt_label: np.ndarray  # (T,)
    prompt_number: np.ndarray  # (T,) from 1


class FeatureMap(NamedTuple):
    """Features in the plane."""

    features: Features
    image_points: np.ndarray  # (I, 2)
    prompt_points: np.ndarray  # (T, 2)
    classnames: Sequence[str]  # by label
    title: str
    caption: str
    own: int  # prompts that are more like the mean feature of their own class's images than like another's


# --- which images, and their features --------------------------------------------------------------------


def choose_classes(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Labels: of the names wanted, or spread evenly over all."""
    if not wanted:
        count = min(DEFAULT_CLASSES, len(names))
        return [index * len(names) // count for index in range(count)]
    labels = labels_of(wanted, names)
    if len(labels) > MOST_CLASSES:
        raise ResultsError(f"--class: {len(labels)} are more than colours that can be told apart; {MOST_CLASSES} go")
    return labels


def choose_images(test: Sequence[Any], labels: Sequence[int], count: int) -> list[Any]:
    """The first `count` test items of each label, by path."""
    if count < 1:
        raise ResultsError(f"--count must be at least 1, got {count}")
    items = sorted(test, key=lambda item: str(item.impath))
    return [item for label in labels for item in [one for one in items if one.label == label][:count]]


def extract(trainer: Any, items: Sequence[Any], labels: Sequence[int]) -> Features:
    """Features of the items' images and of the prompts of the classes `labels`."""
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
            found = image.pooled[:, None] if pooled or not image.local.shape[1] else image.local  # (B, M, D)
            places = found.shape[1]
            vectors.append(F.normalize(found.float(), dim=-1).flatten(0, 1).cpu())
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
    """Features.decided of a batch, (B * M,)."""
    if not hasattr(trainer.model, "explain"):
        return np.ones(len(labels) * places)
    plan: Tensor = trainer.model.explain(image).match.plan  # (B, C, M, N)
    own = plan[range(len(labels)), labels].double()  # (B, M, N)
    return (own.shape[2] * own.amax(dim=2) / own.sum(dim=2)).flatten().cpu().numpy()


# --- into the plane --------------------------------------------------------------------------------------


def centred(vectors: np.ndarray) -> np.ndarray:
    """Around their mean, at a mean squared distance of 1 from it."""
    moved = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    return moved / max(float(np.sqrt((moved**2).sum(axis=1).mean())), 1e-12)


def pca(images: np.ndarray, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Both on the first two principal axes of the images; and how much of each the axes show."""
    _, singular, axes = np.linalg.svd(images, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][[0, 1], np.abs(axes[:2]).argmax(axis=1)])[:, None]  # one sign of the two
    shown = singular**2 / (singular**2).sum()
    of_prompts = ((prompts @ axes.T) ** 2).sum() / max((prompts**2).sum(), 1e-12)
    return (
        images @ axes.T,
        prompts @ axes.T,
        f"Axes: the first two principal components of the image features ({shown[0]:.0%} and {shown[1]:.0%} of their "
        f"variance; {of_prompts:.0%} of the prompts' lies in this plane).",
    )


def tsne(images: np.ndarray, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Both embedded together.  Raises ResultsError without scikit-learn."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        remedy = "pip install -e '.[map]' (or: pip install scikit-learn); --method pca needs nothing"
        raise ResultsError(f"--method tsne needs scikit-learn: {remedy}") from None
    together = np.concatenate([images, prompts])
    perplexity = min(PERPLEXITY, (len(together) - 1) / 3)
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(together)
    note = f"t-SNE (perplexity {perplexity:.0f}): near is like, but lengths and far distances mean nothing."
    return found[: len(images)], found[len(images) :], note


def make_map(features: Features, method: str, classnames: Sequence[str], title: str) -> FeatureMap:
    """`method` is one of METHODS; always the same picture of the same features.  Raises ResultsError for one image
    feature, which spans no plane."""
    if len(features.images) < 2:
        raise ResultsError("one image feature makes no map; ask for more images (--count) or classes (--class)")
    project = {"pca": pca, "tsne": tsne}[method]
    images, prompts = centred(features.images), centred(features.prompts)
    image_points, prompt_points, note = project(images, prompts)
    caption = [
        "Image and text features lie in different cones of CLIP's space: each kind is centred by its own mean and "
        "scaled to the same spread.",
        note,
    ]
    if features.prompt_number.max() > 1:
        caption.append("A dot is large where much of its mass goes to one prompt of its true class (1×: all alike).")
    own = count_own(images, prompts, features)
    caption.append(OWN.format(own=own, all=len(prompts)))
    return FeatureMap(features, image_points, prompt_points, classnames, title, " ".join(caption), own)


def count_own(images: np.ndarray, prompts: np.ndarray, features: Features) -> int:
    """By cosine, in all dimensions."""
    labels = np.unique(features.image_label)
    means = np.stack([images[features.image_label == label].mean(axis=0) for label in labels])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return int((labels[(prompts @ means.T).argmax(axis=1)] == features.prompt_label).sum())


# --- a run -----------------------------------------------------------------------------------------------


def map_run(
    run: Path,
    method: str,
    classes: Sequence[str] = (),
    count: int = 6,
    backbone: str = "",
    root: str = "",
    verbose: bool = False,
) -> FeatureMap:
    """Raises ResultsError for runs of methods that cannot be mapped, and for what is missing."""
    conditional = settings_of(run).trainer == "CoCoOp"
    what = "prompts that are the same for every image" if conditional else "prompts to show"
    kind = check_run(run, what, "can_be_mapped").trainer
    trainer = load(run, backbone, root, verbose)
    dataset = trainer.dm.dataset
    labels = choose_classes(dataset.classnames, classes)
    items = choose_images(dataset.test, labels, count)
    if not items:
        raise ResultsError(f"{run}: its data set has no test image of these classes")
    cfg = trainer.cfg
    features = extract(trainer, items, labels)
    n = int(features.prompt_number.max())
    several = "images under visual prompts" if kind == "PLOTPP" else "local image features"
    seen = several if len(features.images) > len(items) else "pooled image features"
    title = f"{kind} on {cfg.DATASET.NAME}: {n} prompt{'s' * (n > 1)} a class, and {seen}"
    return make_map(features, method, dataset.classnames, title)


def save_arrays(found: FeatureMap, path: Path) -> Path:
    """The points, what they are of, and `meta`: a JSON text with class names, title and caption."""
    meta = {
        "classnames": list(found.classnames),
        "title": found.title,
        "caption": found.caption,
        "prompts_like_their_own_class": found.own,
    }
    arrays: dict[str, Any] = {
        "image_points": found.image_points,
        "image_label": found.features.image_label,
        "decided": found.features.decided,
        "prompt_points": found.prompt_points,
        "prompt_label": found.features.prompt_label,
        "prompt_number": found.features.prompt_number,
        "meta": np.asarray(json.dumps(meta, ensure_ascii=False)),
    }
    return write_atomic(path, lambda file: np.savez_compressed(file, **arrays))
