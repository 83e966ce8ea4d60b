"""EuroSAT (Helber et al., 2019): satellite pictures of 10 uses of land, in colour.

DATASET.ROOT/eurosat/2750/<class>/<class>_<number>.jpg and eurosat/split_zhou_EuroSAT.json.
"""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .splits import Items, SplitDataset, read_and_split_data

NEW_CNAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


@DATASET_REGISTRY.register()
class EuroSAT(SplitDataset):
    dataset_dir = "eurosat"
    image_folder = "2750"
    split_file = "split_zhou_EuroSAT.json"

    def make_split(self) -> tuple[Items, Items, Items]:
        return read_and_split_data(self.image_dir, new_cnames=NEW_CNAMES)
