"""AutoAugment's three learned policies (Cubuk et al., CVPR 2019), as implemented by torchvision.

Each takes and returns a PIL image; pixels that a shift or rotation uncovers become grey.
"""

from __future__ import annotations

from torchvision.transforms import AutoAugment, AutoAugmentPolicy

GREY = [128.0, 128.0, 128.0]


class ImageNetPolicy(AutoAugment):
    def __init__(self) -> None:
        super().__init__(AutoAugmentPolicy.IMAGENET, fill=GREY)


class CIFAR10Policy(AutoAugment):
    def __init__(self) -> None:
        super().__init__(AutoAugmentPolicy.CIFAR10, fill=GREY)


class SVHNPolicy(AutoAugment):
    def __init__(self) -> None:
        super().__init__(AutoAugmentPolicy.SVHN, fill=GREY)
