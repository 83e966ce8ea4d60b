"""Food-101 (Bossard et al., 2014): 101 dishes.

DATASET.ROOT/food-101/images/<dish>/<number>.jpg and food-101/split_zhou_Food101.json (not the official lists).
"""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .splits import Items, SplitDataset, read_and_split_data


@DATASET_REGISTRY.register()
class Food101(SplitDataset):
    dataset_dir = "food-101"
    image_folder = "images"
    split_file = "split_zhou_Food101.json"

    def make_split(self) -> tuple[Items, Items, Items]:
        return read_and_split_data(self.image_dir)
