"""The four operations that torchvision lacks, with the draws of the original engine: Python's `random` for the
translation and for whether there is noise, NumPy's for the places of cutout, torch's for the noise itself."""

from __future__ import annotations

import random

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F


class Random2DTranslation:
    """With probability `p` enlarge to 9/8 and crop (height, width) at random; otherwise just resize."""

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
        height, width = self.height, self.width
        if random.random() > self.p:
            return F.resize(image, [height, width], self.interpolation)
        taller, wider = round(height * 1.125), round(width * 1.125)
        image = F.resize(image, [taller, wider], self.interpolation)
        left, top = round(random.uniform(0, wider - width)), round(random.uniform(0, taller - height))
        return F.crop(image, top, left, height, width)


class Cutout:
    """Zero `n_holes` squares of side `length` at random places (Cutout, DeVries & Taylor, 2017).

    Squares may stick out of the image; an odd side is one pixel shorter.

    image (3, H, W), before normalisation, so that zero means black -> the same shape.
    """

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes = n_holes
        self.length = length

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        half = self.length // 2
        image = image.clone()
        for _ in range(self.n_holes):
            y, x = np.random.randint(height), np.random.randint(width)
            image[..., max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return image


class GaussianNoise:
    """With probability `p` add normal noise of the given mean and standard deviation to every value."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean = mean
        self.std = std
        self.p = p

    def __call__(self, image: Tensor) -> Tensor:
        if random.random() > self.p:
            return image
        return image + torch.randn_like(image) * self.std + self.mean


class InstanceNormalization:
    """Every channel of the image to mean 0 and (unbiased) standard deviation 1. image (3, H, W)."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, image: Tensor) -> Tensor:
        std, mean = torch.std_mean(image, dim=(-2, -1), keepdim=True)
        return (image - mean) / (std + self.eps)
