"""AutoAugment's three learned policies (Cubuk et al., CVPR 2019), with the draws of the original engine.

A policy is 25 pairs of operations, each operation with a probability and a strength from 0 to 9; the tables are
torchvision's. Every call draws from Python's `random`: the pair, then for each of its two operations whether it
happens and, where it has one, its sign. Rotations have none, they turn counter-clockwise. torchvision's own
AutoAugment draws from torch, and some of its operations differ, so its images are others.

A policy takes and returns a PIL image; pixels that a shift, shear or rotation uncovers become grey.
"""
from __future__ import annotations

import random
from functools import partial

import numpy as np
from PIL import Image
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from .plain import PLAIN, Operation, moved

GREY = (128, 128, 128)
LEVELS = 10  # of strength


def _signed(magnitude: float) -> float:
    return magnitude * random.choice([-1, 1])


_moved = partial(moved, fill=GREY)
_sheared = partial(_moved, resampling=Image.Resampling.BICUBIC)


def _rotated(image: Image.Image, degrees: float) -> Image.Image:
    turned = image.convert("RGBA").rotate(degrees)  # what it uncovers is transparent
    return Image.composite(turned, Image.new("RGBA", turned.size, (*GREY, 128)), turned).convert(image.mode)


def _enhanced(name: str) -> Operation:
    return lambda image, magnitude: PLAIN[name](image, 1 + _signed(magnitude))


# name: (what is done to an image at a magnitude, the magnitude at strength 0, and at strength 9). Magnitudes are the
# factor of a shear, the share of the side of a shift (150 pixels of 331), degrees, how far a factor is from 1, bits.
OPERATIONS: dict[str, tuple[Operation, float, float]] = {
    "ShearX": (lambda image, m: _sheared(image, 1, _signed(m), 0, 0, 1, 0), 0, 0.3),
    "ShearY": (lambda image, m: _sheared(image, 1, 0, 0, _signed(m), 1, 0), 0, 0.3),
    "TranslateX": (lambda image, m: _moved(image, 1, 0, _signed(m * image.width), 0, 1, 0), 0, 150 / 331),
    "TranslateY": (lambda image, m: _moved(image, 1, 0, 0, 0, 1, _signed(m * image.height)), 0, 150 / 331),
    "Rotate": (_rotated, 0, 30),
    "Brightness": (_enhanced("Brightness"), 0, 0.9),
    "Color": (_enhanced("Color"), 0, 0.9),
    "Contrast": (_enhanced("Contrast"), 0, 0.9),
    "Sharpness": (_enhanced("Sharpness"), 0, 0.9),
    "Posterize": (lambda image, m: PLAIN["Posterize"](image, round(m)), 8, 4),
    "Solarize": (PLAIN["Solarize"], 256, 0),
    "AutoContrast": (PLAIN["AutoContrast"], 0, 0),
    "Equalize": (PLAIN["Equalize"], 0, 0),
    "Invert": (PLAIN["Invert"], 0, 0),
}


class _Policy:
    """A policy of torchvision's tables, applied with the draws of the original engine."""

    policy: AutoAugmentPolicy

    def __init__(self) -> None:
        self.pairs = AutoAugment(self.policy).policies

    def __call__(self, image: Image.Image) -> Image.Image:
        for name, probability, strength in self.pairs[random.randint(0, len(self.pairs) - 1)]:
            if random.random() < probability:
                operation, weakest, strongest = OPERATIONS[name]
                image = operation(image, float(np.linspace(weakest, strongest, LEVELS)[strength or 0]))
        return image


class ImageNetPolicy(_Policy):
    """The policy that was learned on ImageNet."""

    policy = AutoAugmentPolicy.IMAGENET


class CIFAR10Policy(_Policy):
    """The policy that was learned on CIFAR-10."""

    policy = AutoAugmentPolicy.CIFAR10


class SVHNPolicy(_Policy):
    """The policy that was learned on house numbers."""

    policy = AutoAugmentPolicy.SVHN
