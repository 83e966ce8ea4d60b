"""Oxford Flowers (Nilsback and Zisserman, 2008): 102 kinds of flowers.

DATASET.ROOT/oxford_flowers/jpg/image_<number>.jpg and oxford_flowers/split_zhou_OxfordFlowers.json; without the
latter, imagelabels.mat and cat_to_name.json.
"""

from __future__ import annotations

import os.path as osp

import numpy as np

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_json

from .annotations import read_mat
from .splits import Items, SplitDataset, new_datum, split_classes


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitDataset):
    dataset_dir = "oxford_flowers"
    image_folder = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"

    def make_split(self) -> tuple[Items, Items, Items]:
        """50 / 20 / 30 of each class; classes in the order of the images, as in the published split."""
        names = read_json(self.annotation("cat_to_name.json"))
        numbers = np.atleast_1d(read_mat(self.annotation("imagelabels.mat"))["labels"])
        classes: dict[str, Items] = {}
        for image, number in enumerate(map(int, numbers), start=1):
            path = osp.join(self.image_dir, f"image_{image:05d}.jpg")
            item = new_datum(path, number - 1, names[str(number)])
            classes.setdefault(item.classname, []).append(item)
        return split_classes(classes)
