"""Oxford-IIIT Pets (Parkhi et al., 2012): 37 breeds of cats and dogs.

DATASET.ROOT/oxford_pets/images/<Breed>_<number>.jpg and oxford_pets/split_zhou_OxfordPets.json; without the
latter, annotations/trainval.txt and annotations/test.txt.
"""

from __future__ import annotations

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY

from . import splits
from .annotations import read_fields
from .splits import Items, SplitDataset, new_datum


@DATASET_REGISTRY.register()
class OxfordPets(SplitDataset):
    dataset_dir = "oxford_pets"
    image_folder = "images"
    split_file = "split_zhou_OxfordPets.json"

    # Loaders written for CoOp find their helpers here.
    read_split = staticmethod(splits.read_split)
    save_split = staticmethod(splits.save_split)
    split_trainval = staticmethod(splits.split_trainval)
    subsample_classes = staticmethod(splits.subsample_classes)

    def make_split(self) -> tuple[Items, Items, Items]:
        train, val = splits.split_trainval(self._read("trainval.txt"))
        return train, val, self._read("test.txt")

    def _read(self, name: str) -> Items:
        """Lines of image name, class from 1, species, breed; the image name is <breed>_<number>."""
        items = []
        for image, label, _, _ in read_fields(self.annotation("annotations", name), 4):
            breed = image.rpartition("_")[0].lower()
            items.append(new_datum(osp.join(self.image_dir, f"{image}.jpg"), int(label) - 1, breed))
        return items
