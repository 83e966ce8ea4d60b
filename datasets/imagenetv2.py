"""ImageNetV2 (Recht et al., 2019), matched frequency: 10 new test images for each class of ImageNet.

DATASET.ROOT/imagenetv2/imagenetv2-matched-frequency-format-val/<0 ... 999>/*.jpeg, and ImageNet's
classnames.txt (in imagenetv2 or imagenet). For evaluation only.
"""

from __future__ import annotations

import os.path as osp
from collections import OrderedDict

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ImageNetVariant, Listing
from .splits import Items, new_datum


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetVariant):
    dataset_dir = "imagenetv2"
    image_folder = "imagenetv2-matched-frequency-format-val"

    def label(self, listing: Listing, names: OrderedDict[str, str]) -> Items:
        """Folders are named by label: 10 comes after 9."""
        classnames = list(names.values())
        valid = {str(label): label for label in range(len(classnames))}
        if wrong := sorted(set(listing) - set(valid)):
            raise ValueError(
                f"{osp.join(self.image_dir, wrong[0])}: class folders here are named 0 to {len(valid) - 1}"
            )
        return [
            new_datum(osp.join(self.image_dir, folder, image), valid[folder], classnames[valid[folder]])
            for folder in sorted(listing, key=int)
            for image in listing[folder]
        ]
