"""From PIL images to tensors: `build_transform` and the augmentations that it can be asked for.

What torchvision has with the original engine's draws is torchvision's; the rest is here.
"""

from .autoaugment import CIFAR10Policy, ImageNetPolicy, SVHNPolicy
from .operations import Cutout, GaussianNoise, InstanceNormalization, Random2DTranslation
from .randaugment import RandAugment, RandAugment2, RandAugmentFixMatch
from .transforms import AVAI_CHOICES, INTERPOLATION_MODES, build_transform

__all__ = [
    "AVAI_CHOICES", "CIFAR10Policy", "Cutout", "GaussianNoise", "INTERPOLATION_MODES", "ImageNetPolicy",
    "InstanceNormalization", "RandAugment", "RandAugment2", "RandAugmentFixMatch", "Random2DTranslation", "SVHNPolicy",
    "build_transform",
]  # fmt: skip
