"""FGVC-Aircraft (Maji et al., 2013): 100 variants of aircraft, in the split that they come with.

DATASET.ROOT/fgvc_aircraft/images/<number>.jpg, variants.txt and images_variant_{train,val,test}.txt: the
content of the archive's folder `data`.
"""

from __future__ import annotations

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY

from .annotations import read_fields, read_lines
from .splits import Items, SplitDataset, new_datum


@DATASET_REGISTRY.register()
class FGVCAircraft(SplitDataset):
    dataset_dir = "fgvc_aircraft"
    image_folder = "images"

    def make_split(self) -> tuple[Items, Items, Items]:
        names = read_lines(self.annotation("variants.txt"))
        labels = {name: label for label, name in enumerate(names)}
        return self._read("train", labels), self._read("val", labels), self._read("test", labels)

    def _read(self, split: str, labels: dict[str, int]) -> Items:
        """Lines of image number and variant, which may contain spaces."""
        path = self.annotation(f"images_variant_{split}.txt")
        items = []
        for image, name in read_fields(path, 2):
            if name not in labels:
                raise ValueError(f"{path}: variant {name!r} of image {image} is not in variants.txt")
            items.append(new_datum(osp.join(self.image_dir, f"{image}.jpg"), labels[name], name))
        return items
