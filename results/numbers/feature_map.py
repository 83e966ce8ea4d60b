"""Prompts and image features in the plane: centring, projection, and a count that needs no picture.

CLIP's image and text features lie in different cones: any image is closer to any other image than to the text that
describes it.  Each kind is therefore centred by its own mean and scaled to the same spread.  In terms of cosines,
centring the prompts shifts an image's scores for all classes alike, centring the images takes from each class the score
that it has for the mean image, and scale is a matter of temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from runs.files import ResultsError

METHODS = ("pca", "tsne")
PERPLEXITY = 30.0  # of t-SNE: about how many neighbours of a point it keeps together
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
    """Features in the plane, and what is said of them."""

    features: Features
    image_points: np.ndarray  # (I, 2)
    prompt_points: np.ndarray  # (T, 2)
    classnames: Sequence[str]  # by label
    title: str
    caption: str
    own: int  # prompts that are more like the mean feature of their own class's images than like another's


def centred(vectors: np.ndarray) -> np.ndarray:
    """Move vectors (K, D) around their mean, and scale them to a mean squared distance of 1 from it."""
    moved = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    return moved / max(float(np.sqrt((moved**2).sum(axis=1).mean())), 1e-12)


def pca(images: np.ndarray, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Project both on the first two principal axes of the images.

    Returns the points (I, 2) and (T, 2), and a sentence on how much of each kind the plane shows.
    """
    _, singular, axes = np.linalg.svd(images, full_matrices=False)
    # an axis has two signs, and which one comes out depends on the library: its largest entry shall be positive
    axes = axes[:2] * np.sign(axes[:2][[0, 1], np.abs(axes[:2]).argmax(axis=1)])[:, None]
    shown = singular**2 / (singular**2).sum()
    of_prompts = ((prompts @ axes.T) ** 2).sum() / max((prompts**2).sum(), 1e-12)
    return (
        images @ axes.T,
        prompts @ axes.T,
        f"Axes: the first two principal components of the image features ({shown[0]:.0%} and {shown[1]:.0%} of their "
        f"variance; {of_prompts:.0%} of the prompts' lies in this plane).",
    )


def tsne(images: np.ndarray, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Embed both together; returns the points (I, 2) and (T, 2), and what to know of them."""
    from sklearn.manifold import TSNE  # takes a second

    together = np.concatenate([images, prompts])
    perplexity = min(PERPLEXITY, (len(together) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(together)
    note = f"t-SNE (perplexity {perplexity:.0f}): near is like, but lengths and far distances mean nothing."
    return points[: len(images)], points[len(images) :], note


def make_map(features: Features, method: str, classnames: Sequence[str], title: str) -> FeatureMap:
    """Put features in the plane; the same features always give the same map.

    Parameters
    ----------
    features
        What the map is of.
    method
        One of METHODS.
    classnames
        Names by label.
    title
        Of the picture.

    Raises
    ------
    ResultsError
        For a single image feature, which spans no plane.
    """
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
    """Count the prompts (T, D) that are most like the mean image feature of their own class, by cosine."""
    labels = np.unique(features.image_label)
    means = np.stack([images[features.image_label == label].mean(axis=0) for label in labels])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return int((labels[(prompts @ means.T).argmax(axis=1)] == features.prompt_label).sum())
