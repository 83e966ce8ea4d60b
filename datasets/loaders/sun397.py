"""SUN397 (Xiao et al., 2010): 397 kinds of places.

DATASET.ROOT/sun397/SUN397/<letter>/<place>[/<kind>]/sun_*.jpg and sun397/split_zhou_SUN397.json; without the
latter, ClassName.txt, Training_01.txt and Testing_01.txt.
"""

from __future__ import annotations

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY

from ..annotations import read_lines
from ..base import GENERAL_STARTS, SplitDataset
from ..published import Download, Published
from ..splits import Items, new_datum, split_trainval

LISTS = ("ClassName.txt", "Training_01.txt", "Testing_01.txt")


@DATASET_REGISTRY.register()
class SUN397(SplitDataset):
    """Photographs of 397 kinds of places, 100 of each.

    Class names are the folders' names read backwards: a/apartment_building/outdoor is an outdoor
    apartment_building.

    References
    ----------
    J. Xiao, J. Hays, K. A. Ehinger, A. Oliva and A. Torralba, "SUN database: Large-scale scene recognition from
    abbey to zoo", CVPR 2010
    """

    config, table_name, benchmark, order = "sun397", "SUN397", "fewshot", 8
    dataset_dir = "sun397"
    image_folder = "SUN397"
    split_file = "split_zhou_SUN397.json"
    prompt_starts = GENERAL_STARTS
    published = Published(
        counts=(15_880, 3_970, 19_850), classes=397, base_new_test=(9_950, 9_900),
        images="SUN397.tar.gz of SUN397 (folders a ... z), and its Partitions.zip",
        names_sha256="583c0fad85d22c563fc88e49462efce4c5a08aec1e0b8020f325224af67cb040",
        split_drive_id="1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq",
        aliases=("SUN397", "sun-397", "sun"),
        image_holds="[a-z]",
    )
    downloads = (
        Download(
            "images", "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
            md5="8ca2778205c41d23104230ba66911c7a", gives={"SUN397": "SUN397"}, gigabytes=39,
        ),
        Download(
            "lists", "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",
            gives={name: name for name in LISTS},
        ),
    )

    def make_split(self) -> tuple[Items, Items, Items]:
        """Return the first of the ten official partitions, and val as a fifth of its training set."""
        folders = [line.lstrip("/") for line in read_lines(self.annotation("ClassName.txt"))]
        labels = {folder: label for label, folder in enumerate(folders)}
        train, val = split_trainval(self._read("Training_01.txt", labels))
        return train, val, self._read("Testing_01.txt", labels)

    def _read(self, name: str, labels: dict[str, int]) -> Items:
        """Read lines like /a/abbey/sun_aaalbzqrimafwbiv.jpg."""
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
