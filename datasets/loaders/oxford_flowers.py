"""Oxford Flowers (Nilsback and Zisserman, 2008): 102 kinds of flowers.

DATASET.ROOT/oxford_flowers/jpg/image_<number>.jpg and oxford_flowers/split_zhou_OxfordFlowers.json; without the
latter, imagelabels.mat and cat_to_name.json.
"""

from __future__ import annotations

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_json

from ..annotations import read_mat
from ..base import SplitDataset
from ..files import grouped
from ..published import Download, Published, drive_url
from ..splits import Items, new_datum, split_classes
from . import VGG

CLASS_NAMES = "0d27092c2140383d4f002dc99d20c184d58ffdc454e5f4d12f0475b4e23480ee"


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitDataset):
    """Photographs of 102 kinds of flowers that grow in the United Kingdom, 40 to 258 of each.

    In the published split classes first appear in the order 76, 72, 87, ...; few-shot picks follow it.

    References
    ----------
    M.-E. Nilsback and A. Zisserman, "Automated flower classification over a large number of classes", ICVGIP 2008
    """

    config, table_name, benchmark, order = "oxford_flowers", "Flowers102", "fewshot", 5
    dataset_dir = "oxford_flowers"
    image_folder = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    template = "a photo of a {}, a type of flower."
    # The second and the fourth are the same, as published: these two prompts start, and stay, identical.
    prompt_starts = (
        "a photo of a flower", "one picture of a flower", "this is flower picture of", "one picture of a flower",
    )  # fmt: skip
    published = Published(
        counts=(4_093, 1_633, 2_463), classes=102, base_new_test=(1_053, 1_410),
        images="102flowers.tgz of the Oxford 102 flowers: a folder jpg",
        names_sha256=CLASS_NAMES,
        split_drive_id="1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT",
        split_sha256="3e0c54f6848d8f4413150006815dce589aefaed5fb7efaa6a3b6f66918146bcc",
        aliases=("flowers", "flowers102", "flowers-102", "oxford-flowers", "oxford_flowers102", "OxfordFlowers"),
        picks={(1, 1): ("093639e770b5e71e", "5545d12d6fbd686e"), (16, 1): ("fbb5f69e34428b5c", "18af66ca7de6c0bf")},
    )
    downloads = (
        Download(
            "images", f"{VGG}/flowers/102/102flowers.tgz", md5="52808999861908f626f3c1f4e79d11fa",
            gives={"jpg": "jpg"}, gigabytes=0.35,
        ),
        Download("lists", f"{VGG}/flowers/102/imagelabels.mat", md5="e0620be6f572b9609742df49c70aed4d"),
        Download(
            "lists", drive_url("1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"), saved_as="cat_to_name.json",
            names_sha256=CLASS_NAMES,
        ),
    )

    def make_split(self) -> tuple[Items, Items, Items]:
        """50 / 20 / 30 of each class; classes in the order of the images, as in the published split."""
        names = read_json(self.annotation("cat_to_name.json"))
        numbers = read_mat(self.annotation("imagelabels.mat"), "labels")
        items = [
            new_datum(osp.join(self.image_dir, f"image_{image:05d}.jpg"), number - 1, names[str(number)])
            for image, number in enumerate(map(int, numbers), start=1)
        ]
        return split_classes(grouped(items, lambda item: item.classname))
