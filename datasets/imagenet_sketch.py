"""ImageNet-Sketch (Wang et al., 2019): drawings of ImageNet's 1000 classes.

DATASET.ROOT/imagenet-sketch/images/<WordNet id>/*.JPEG, and ImageNet's classnames.txt (in
imagenet-sketch or imagenet). For evaluation only.
"""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    dataset_dir = "imagenet-sketch"
    image_folder = "images"
