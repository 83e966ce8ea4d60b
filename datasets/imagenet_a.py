"""ImageNet-A (Hendrycks et al., 2021): photos that mislead ResNet-50, of 200 of ImageNet's classes.

DATASET.ROOT/imagenet-adversarial/imagenet-a/<WordNet id>/*.jpg, and ImageNet's classnames.txt (in
imagenet-adversarial or imagenet). For evaluation only, over these 200 classes.
"""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    dataset_dir = "imagenet-adversarial"
    image_folder = "imagenet-a"
