"""The four operations that torchvision lacks, with the draws of the original engine.

Python's `random` decides on the translation and on whether there is noise, NumPy's generator on the places of cutout,
torch's on the noise itself.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F


class Random2DTranslation:
    """With probability `p` enlarge to 9/8 and crop (height, width) at random; otherwise just resize.

    Parameters
    ----------
    height, width : int
        Of the result, in pixels.
    p : float
        Probability.
    interpolation : InterpolationMode
        Of both resizings.
    """

    def __init__(
        self,
        height: int,
        width: int,
        p: float = 0.5,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    ) -> None:
        self.height = height
        self.width = width
        self.p = p
        self.interpolation = interpolation

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return a PIL image of (height, width)."""
        height, width = self.height, self.width
        if random.random() > self.p:
            return F.resize(image, [height, width], self.interpolation)
        taller, wider = round(height * 1.125), round(width * 1.125)
        image = F.resize(image, [taller, wider], self.interpolation)
        left, top = round(random.uniform(0, wider - width)), round(random.uniform(0, taller - height))
        return F.crop(image, top, left, height, width)


class Cutout:
    """Zero squares at random places of an image (3, H, W), before normalisation, so that zero means black.

    Parameters
    ----------
    n_holes : int
        Number of squares; they may overlap, and stick out of the image.
    length : int
        Side in pixels; an odd one is one pixel shorter.

    References
    ----------
    DeVries and Taylor (2017), Improved regularization of convolutional neural networks with cutout.
    """

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes = n_holes
        self.length = length

    def __call__(self, image: Tensor) -> Tensor:
        """Return a copy (3, H, W) with holes."""
        height, width = image.shape[-2:]
        half = self.length // 2
        image = image.clone()
        for _ in range(self.n_holes):
            y, x = np.random.randint(height), np.random.randint(width)
            image[..., max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return image


class GaussianNoise:
    """With probability `p` add normal noise of mean `mean` and standard deviation `std` to every value (3, H, W)."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean = mean
        self.std = std
        self.p = p

    def __call__(self, image: Tensor) -> Tensor:
        """Return the image (3, H, W), perhaps with noise."""
        if random.random() > self.p:
            return image
        return image + torch.randn_like(image) * self.std + self.mean


class InstanceNormalization:
    """Bring every channel of an image (3, H, W) to mean 0 and (unbiased) standard deviation 1.

    `eps` is added to the standard deviation, for channels of one value.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, image: Tensor) -> Tensor:
        """Return the normalised image (3, H, W)."""
        std, mean = torch.std_mean(image, dim=(-2, -1), keepdim=True)
        return (image - mean) / (std + self.eps)
