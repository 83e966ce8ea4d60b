"""Scenes as tensors: drawn by several processes, normalised as CLIP wants them, and cut into random views.

Axis letters: S scenes, B images of a batch, H and W pixels.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..scenes import Scene, photo_scene

RESOLUTION = 128
PIXEL_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
PIXEL_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


class Corpus(NamedTuple):
    """Scenes of the photo world: pixels (S, 128, 128, 3) uint8, and what can be said about each."""

    pixels: Tensor
    scenes: list[Scene]


def draw_corpus(count: int, workers: int) -> Corpus:
    """Draw the training scenes.

    Parameters
    ----------
    count
        How many; the i-th depends on i alone.
    workers
        How many processes draw. They are started afresh, not forked: torch's threads would not survive a fork.
    """
    pixels = torch.empty(count, RESOLUTION, RESOLUTION, 3, dtype=torch.uint8)
    scenes = []
    seeds = (f"train/{i}" for i in range(count))
    with contextlib.ExitStack() as stack:
        drawn: Iterator[tuple[np.ndarray, Scene]] = map(_draw, seeds)
        if workers > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers))
            drawn = pool.imap(_draw, seeds, chunksize=64)
        for i, (image, scene) in enumerate(tqdm(drawn, total=count, desc="Drawing scenes", mininterval=1)):
            pixels[i] = torch.from_numpy(image)
            scenes.append(scene)
    return Corpus(pixels, scenes)


def _draw(seed: str) -> tuple[np.ndarray, Scene]:
    scene = photo_scene(seed)
    return np.array(scene.image), replace(scene, image=Image.new("RGB", (1, 1)))  # pixels are kept once


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) with CLIP's mean and deviation."""
    return (pixels.permute(0, 3, 1, 2).float() / 255 - PIXEL_MEAN) / PIXEL_STD


def smaller(images: Tensor, side: int) -> Tensor:
    """Reduce images (B, 3, H, H) to the resolution of an encoder: (B, 3, side, side)."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True)


def random_views(images: Tensor, size: int, smallest: float, rng: torch.Generator) -> tuple[Tensor, list[bool]]:
    """Cut a random part out of every image and mirror half of them.

    Parameters
    ----------
    images
        Normalised images (B, 3, H, H).
    size
        Side of the views in pixels, at most H.
    smallest
        Smallest share of the picture's area that a view shows.
    rng
        Source of the choices.

    Returns
    -------
    tuple
        The views (B, 3, size, size), and which of them are mirrored.
    """
    share, shape, left, top, side = torch.rand(5, len(images), generator=rng)
    share = (smallest + (1 - smallest) * share).sqrt()
    shape = (0.25 * (2 * shape - 1)).exp()  # width to height within 1.28 either way
    width, height = (share * shape.sqrt()).clamp(max=1), (share / shape.sqrt()).clamp(max=1)
    mirrored = side < 0.5
    # The affine map from the view's coordinates in [-1, 1] to the picture's: scale on the diagonal, then the offset.
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = torch.where(mirrored, -width, width)
    theta[:, 0, 2] = (2 * left - 1) * (1 - width)
    theta[:, 1, 1] = height
    theta[:, 1, 2] = (2 * top - 1) * (1 - height)
    if size < images.shape[-1]:
        images = F.avg_pool2d(images, images.shape[-1] // size)
    grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="reflection"), mirrored.tolist()
