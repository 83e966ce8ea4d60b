"""ImageNet-R (Hendrycks et al., 2021): paintings, toys, ... of 200 of ImageNet's classes.

DATASET.ROOT/imagenet-rendition/imagenet-r/<WordNet id>/*.jpg, and ImageNet's classnames.txt (in
imagenet-rendition or imagenet). For evaluation only, over these 200 classes.
"""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    dataset_dir = "imagenet-rendition"
    image_folder = "imagenet-r"
