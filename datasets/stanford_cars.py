"""Stanford Cars (Krause et al., 2013): 196 models of cars.

DATASET.ROOT/stanford_cars/{cars_train,cars_test}/<number>.jpg and stanford_cars/split_zhou_StanfordCars.json;
without the latter, the folder devkit and cars_test_annos_withlabels.mat.
"""

from __future__ import annotations

import os.path as osp

import numpy as np

from dassl.data.datasets import DATASET_REGISTRY

from .annotations import read_mat
from .splits import Items, SplitDataset, new_datum, split_trainval


@DATASET_REGISTRY.register()
class StanfordCars(SplitDataset):
    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"

    def make_split(self) -> tuple[Items, Items, Items]:
        meta = read_mat(self.annotation("devkit", "cars_meta.mat"))
        names = [year_first(str(name)) for name in np.atleast_1d(meta["class_names"])]
        trainval = self._read("cars_train", self.annotation("devkit", "cars_train_annos.mat"), names)
        test = self._read("cars_test", self.annotation("cars_test_annos_withlabels.mat"), names)
        train, val = split_trainval(trainval)
        return train, val, test

    def _read(self, folder: str, path: str, names: list[str]) -> Items:
        items = []
        for row in np.atleast_1d(read_mat(path)["annotations"]):
            label = int(row["class"]) - 1
            items.append(new_datum(osp.join(self.image_dir, folder, str(row["fname"])), label, names[label]))
        return items


def year_first(name: str) -> str:
    """'AM General Hummer SUV 2000' -> '2000 AM General Hummer SUV'."""
    *words, year = name.split(" ")
    return " ".join([year, *words])
