"""Describable Textures (Cimpoi et al., 2014): 47 textures, named by an adjective.

DATASET.ROOT/dtd/images/<texture>/<texture>_<number>.jpg and dtd/split_zhou_DescribableTextures.json (not the
official lists).
"""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from . import splits
from .splits import Items, SplitDataset


@DATASET_REGISTRY.register()
class DescribableTextures(SplitDataset):
    dataset_dir = "dtd"
    image_folder = "images"
    split_file = "split_zhou_DescribableTextures.json"

    # Loaders written for CoOp find this helper here.
    read_and_split_data = staticmethod(splits.read_and_split_data)

    def make_split(self) -> tuple[Items, Items, Items]:
        return splits.read_and_split_data(self.image_dir)
