"""Oxford-IIIT Pets (Parkhi et al., 2012): 37 breeds of cats and dogs.

DATASET.ROOT/oxford_pets/images/<Breed>_<number>.jpg and oxford_pets/split_zhou_OxfordPets.json; without the
latter, annotations/trainval.txt and annotations/test.txt.
"""

from __future__ import annotations

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY

from .. import splits
from ..annotations import read_fields
from ..base import SplitDataset
from ..published import Download, Published
from ..splits import Items, new_datum
from . import VGG


@DATASET_REGISTRY.register()
class OxfordPets(SplitDataset):
    """Photographs of 37 breeds of cats and dogs, about 200 of each.

    The breed is read from the image's name; upstream lower-cases it and keeps its underscores.

    References
    ----------
    O. M. Parkhi, A. Vedaldi, A. Zisserman and C. V. Jawahar, "Cats and dogs", CVPR 2012
    """

    config, table_name, benchmark, order = "oxford_pets", "OxfordPets", "fewshot", 3
    dataset_dir = "oxford_pets"
    image_folder = "images"
    split_file = "split_zhou_OxfordPets.json"
    template = "a photo of a {}, a type of pet."
    prompt_starts = ("a photo of a pet", "one picture of a pet", "this is pet picture of", "one picture of a pet")
    published = Published(
        counts=(2_944, 736, 3_669), classes=37, base_new_test=(1_881, 1_788),
        images="images.tar.gz and annotations.tar.gz of the Oxford-IIIT Pet data set",
        names_sha256="8e35ab44db27d55ab1a062c8af3308606560f9f3e3a6bf698b19e4ea54212d6d",
        split_drive_id="1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs",
        split_sha256="b1f67d4b99e64eae950bdad05b97623ba46e04e981ccc7d72691715916640dda",
        aliases=("pets", "oxford-iiit-pet", "oxford-pets", "OxfordPets"),
        picks={(1, 1): ("be1c684ef502a3ca", "3471d32fddeb48f8"), (16, 1): ("602721662c1fdd1b", "f4559147dd52d784")},
    )
    downloads = (
        Download(
            "images", f"{VGG}/pets/data/images.tar.gz", md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
            gives={"images": "images"}, gigabytes=0.8,
        ),
        Download(
            "lists", f"{VGG}/pets/data/annotations.tar.gz", md5="95a8c909bbe2e81eed6a22bccdf3f68f",
            gives={"annotations": "annotations"}, gigabytes=0.02,
        ),
    )

    # Loaders written for CoOp find their helpers here.
    read_split = staticmethod(splits.read_split)
    save_split = staticmethod(splits.save_split)
    split_trainval = staticmethod(splits.split_trainval)
    subsample_classes = staticmethod(splits.subsample_classes)

    def make_split(self) -> tuple[Items, Items, Items]:
        """Return the official test set, and val as a fifth of what is left of every breed."""
        train, val = splits.split_trainval(self._read("trainval.txt"))
        return train, val, self._read("test.txt")

    def _read(self, name: str) -> Items:
        """Lines of image name, class from 1, species, breed; the image name is <breed>_<number>."""
        items = []
        for image, label, _, _ in read_fields(self.annotation("annotations", name), 4):
            breed = image.rpartition("_")[0].lower()
            items.append(new_datum(osp.join(self.image_dir, f"{image}.jpg"), int(label) - 1, breed))
        return items
