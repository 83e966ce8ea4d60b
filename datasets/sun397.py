"""SUN397 (Xiao et al., 2010): 397 kinds of places.

DATASET.ROOT/sun397/SUN397/<letter>/<place>[/<kind>]/sun_*.jpg and sun397/split_zhou_SUN397.json; without the
latter, ClassName.txt, Training_01.txt and Testing_01.txt.
"""

from __future__ import annotations

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY

from .annotations import read_lines
from .splits import Items, SplitDataset, new_datum, split_trainval


@DATASET_REGISTRY.register()
class SUN397(SplitDataset):
    dataset_dir = "sun397"
    image_folder = "SUN397"
    split_file = "split_zhou_SUN397.json"

    def make_split(self) -> tuple[Items, Items, Items]:
        folders = [line.lstrip("/") for line in read_lines(self.annotation("ClassName.txt"))]
        labels = {folder: label for label, folder in enumerate(folders)}
        train, val = split_trainval(self._read("Training_01.txt", labels))
        return train, val, self._read("Testing_01.txt", labels)

    def _read(self, name: str, labels: dict[str, int]) -> Items:
        """Lines like /a/abbey/sun_aaalbzqrimafwbiv.jpg."""
        path = self.annotation(name)
        items = []
        for image in (line.lstrip("/") for line in read_lines(path)):
            folder = image.rpartition("/")[0]
            if folder not in labels:
                raise ValueError(f"{path}: the folder of {image} is not in ClassName.txt")
            items.append(new_datum(osp.join(self.image_dir, image), labels[folder], place_name(folder)))
        return items


def place_name(folder: str) -> str:
    """'a/apartment_building/outdoor' -> 'outdoor apartment_building'."""
    return " ".join(reversed(folder.split("/")[1:]))
