"""Stanford Cars (Krause et al., 2013): 196 models of cars.

DATASET.ROOT/stanford_cars/{cars_train,cars_test}/<number>.jpg and stanford_cars/split_zhou_StanfordCars.json;
without the latter, the folder devkit and cars_test_annos_withlabels.mat.
"""

from __future__ import annotations

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY

from ..annotations import read_mat
from ..base import GENERAL_STARTS, SplitDataset
from ..published import Download, Published
from ..splits import Items, new_datum, split_trainval

BY_HAND = (
    "ai.stanford.edu, the original address, is dead. A mirror, behind a login: "
    "https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset; move its images so that "
    "{folder}/cars_train/00001.jpg and {folder}/cars_test/00001.jpg exist. If you have them, put the original "
    "cars_train.tgz and cars_test.tgz into {folder} for `fetch` to unpack"
)


@DATASET_REGISTRY.register()
class StanfordCars(SplitDataset):
    """Photographs of 196 cars by make, model and year, 48 to 136 of each.

    In the published split classes first appear in the order 13, 2, 90, ...; few-shot picks follow it.

    The images stand in two folders of the data set's own, so that `image_folder` is the folder itself.

    References
    ----------
    J. Krause, M. Stark, J. Deng and L. Fei-Fei, "3D object representations for fine-grained categorization", ICCV
    Workshop 2013
    """

    config, table_name, benchmark, order = "stanford_cars", "StanfordCars", "fewshot", 4
    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    prompt_starts = GENERAL_STARTS
    published = Published(
        counts=(6_509, 1_635, 8_041), classes=196, base_new_test=(4_002, 4_039),
        images="cars_train and cars_test of the Stanford Cars data set (cars_train.tgz, cars_test.tgz)",
        names_sha256="2caca90b5c02b65fcd9542cc2c934aa40c56ded5cb5b72e6e0b8e6b023cf81f9",
        split_drive_id="1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT",
        split_sha256="dfe736f7b93100d1a65a4001d65e52d386a6ec090eebaf124353eab77a737fca",
        aliases=("cars", "stanford-cars", "StanfordCars", "stanfordcars"),
        image_holds="cars_train",
        picks={(1, 1): ("54910a34e665d0f9", "98ec89e22cf95ddf"), (16, 1): ("f91f248cc53fd8ab", "55d33a4a3358c561")},
    )
    downloads = (
        Download(
            "images", saved_as="cars_train.tgz", gives={"cars_train": "cars_train"}, gigabytes=1, otherwise=BY_HAND
        ),
        Download(
            "images", saved_as="cars_test.tgz", gives={"cars_test": "cars_test"}, gigabytes=1, otherwise=BY_HAND
        ),
    )

    def make_split(self) -> tuple[Items, Items, Items]:
        """Return the official test set, and val as a fifth of the official training set."""
        classes = read_mat(self.annotation("devkit", "cars_meta.mat"), "class_names")
        names = [year_first(str(name)) for name in classes]
        trainval = self._read("cars_train", self.annotation("devkit", "cars_train_annos.mat"), names)
        test = self._read("cars_test", self.annotation("cars_test_annos_withlabels.mat"), names)
        train, val = split_trainval(trainval)
        return train, val, test

    def _read(self, folder: str, path: str, names: list[str]) -> Items:
        """Read a MATLAB list of file names and classes from 1."""
        items = []
        for row in read_mat(path, "annotations"):
            label = int(row["class"]) - 1
            items.append(new_datum(osp.join(self.image_dir, folder, str(row["fname"])), label, names[label]))
        return items


def year_first(name: str) -> str:
    """'AM General Hummer SUV 2000' -> '2000 AM General Hummer SUV'."""
    *words, year = name.split(" ")
    return " ".join([year, *words])
