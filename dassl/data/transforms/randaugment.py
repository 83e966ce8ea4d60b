"""RandAugment (Cubuk et al., NeurIPS 2020) and two relatives that draw the strength anew for each operation.

The operations, their ranges and the draws are the original engine's: Python's `random` gives all operations at once,
with replacement; then, for each, what it needs: whether it happens, its strength, and whether a shift, shear or
rotation is turned round. Only the place of RandAugment's cutout comes from NumPy.

All take and return a PIL image; pixels that an operation uncovers become black.
"""
from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from .plain import PLAIN, Operation, moved

STRONGEST = 30
CUTOUT_COLOUR = (125, 123, 114)


def _turned(value: float) -> float:
    """Turn a shift, shear or rotation round, every other time."""
    return -value if random.random() > 0.5 else value


def _cutout(image: Image.Image, side: float) -> Image.Image:
    # uniform(w) draws between w and 1, so the middle is anywhere, as it should be
    left, top = (int(max(0, np.random.uniform(length) - side / 2)) for length in image.size)
    box = (left, top, min(image.width, left + side), min(image.height, top + side))
    image = image.copy()
    ImageDraw.Draw(image).rectangle(box, CUTOUT_COLOUR)
    return image


def _solarize_add(image: Image.Image, addition: float) -> Image.Image:
    brighter = np.clip(np.asarray(image).astype(int) + addition, 0, 255).astype(np.uint8)
    return PLAIN["Solarize"](Image.fromarray(brighter), 128)


OPERATIONS: dict[str, Operation] = PLAIN | {
    "Cutout": _cutout,
    "Rotate": lambda image, v: image.rotate(_turned(v)),
    "ShearX": lambda image, v: moved(image, 1, _turned(v), 0, 0, 1, 0),
    "ShearY": lambda image, v: moved(image, 1, 0, 0, _turned(v), 1, 0),
    "SolarizeAdd": _solarize_add,
    "TranslateX": lambda image, v: moved(image, 1, 0, _turned(v) * image.width, 0, 1, 0),
    "TranslateY": lambda image, v: moved(image, 1, 0, 0, 0, 1, _turned(v) * image.height),
    "TranslateXPixels": lambda image, v: moved(image, 1, 0, _turned(v), 0, 1, 0),
    "TranslateYPixels": lambda image, v: moved(image, 1, 0, 0, 0, 1, _turned(v)),
}

Ranges = dict[str, tuple[float, float]]  # operation: its strength at 0 and at 1; the order is that of the draws

OF_ONE_STRENGTH: Ranges = {
    "AutoContrast": (0, 1), "Equalize": (0, 1), "Invert": (0, 1), "Rotate": (0, 30), "Posterize": (4, 8),
    "Solarize": (0, 256), "SolarizeAdd": (0, 110), "Color": (0.1, 1.9), "Contrast": (0.1, 1.9),
    "Brightness": (0.1, 1.9), "Sharpness": (0.1, 1.9), "ShearX": (0, 0.3), "ShearY": (0, 0.3), "Cutout": (0, 40),
    "TranslateXPixels": (0, 100), "TranslateYPixels": (0, 100),
}  # fmt: skip
OF_ANY_STRENGTH: Ranges = {
    "AutoContrast": (0, 1), "Brightness": (0.1, 1.9), "Color": (0.1, 1.9), "Contrast": (0.1, 1.9),
    "Equalize": (0, 1), "Identity": (0, 1), "Invert": (0, 1), "Posterize": (4, 8), "Rotate": (-30, 30),
    "Sharpness": (0.1, 1.9), "ShearX": (-0.3, 0.3), "ShearY": (-0.3, 0.3), "Solarize": (0, 256),
    "TranslateX": (-0.3, 0.3), "TranslateY": (-0.3, 0.3),
}  # fmt: skip
DARKER = dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (0.05, 0.95))
FIXMATCH: Ranges = {name: DARKER.get(name, limits) for name, limits in OF_ANY_STRENGTH.items() if name != "Invert"}


def _apply(image: Image.Image, name: str, ranges: Ranges, share: float) -> Image.Image:
    """Apply an operation at `share` (0 to 1) of the way from its least to its most strength."""
    least, most = ranges[name]
    return OPERATIONS[name](image, share * (most - least) + least)


class RandAugment:
    """Apply `n` random operations, all of strength `m` (0 to 30, else ValueError)."""

    def __init__(self, n: int = 2, m: int = 10) -> None:
        if not 0 <= m <= STRONGEST:
            raise ValueError(f"RandAugment strength is {m}; it must be between 0 and {STRONGEST}")
        self.n = n
        self.m = m

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the changed image."""
        for name in random.choices(list(OF_ONE_STRENGTH), k=self.n):
            image = _apply(image, name, OF_ONE_STRENGTH, self.m / STRONGEST)
        return image


class RandAugment2:
    """Apply each of `n` random operations with probability `p`, each of a random strength."""

    def __init__(self, n: int = 2, p: float = 0.6) -> None:
        self.n = n
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the changed image."""
        for name in random.choices(list(OF_ANY_STRENGTH), k=self.n):
            if random.random() <= self.p:
                image = _apply(image, name, OF_ANY_STRENGTH, random.random())
        return image


class RandAugmentFixMatch:
    """Apply `n` random operations of random strength, as FixMatch does (Sohn et al., NeurIPS 2020)."""

    def __init__(self, n: int = 2) -> None:
        self.n = n

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the changed image."""
        for name in random.choices(list(FIXMATCH), k=self.n):
            image = _apply(image, name, FIXMATCH, random.random())
        return image
