"""Caltech101 (Fei-Fei et al., 2004): 100 classes of objects, without the background and the easy faces.

DATASET.ROOT/caltech-101/101_ObjectCategories/<class>/image_0001.jpg and
caltech-101/split_zhou_Caltech101.json.
"""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .splits import Items, SplitDataset, read_and_split_data

IGNORED = ("BACKGROUND_Google", "Faces_easy")
NEW_CNAMES = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}


@DATASET_REGISTRY.register()
class Caltech101(SplitDataset):
    dataset_dir = "caltech-101"
    image_folder = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"

    def make_split(self) -> tuple[Items, Items, Items]:
        return read_and_split_data(self.image_dir, ignored=IGNORED, new_cnames=NEW_CNAMES)
