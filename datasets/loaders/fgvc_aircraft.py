"""FGVC-Aircraft (Maji et al., 2013): 100 variants of aircraft, in the split that they come with.

DATASET.ROOT/fgvc_aircraft/images/<number>.jpg, variants.txt and images_variant_{train,val,test}.txt: the
content of the archive's folder `data`.
"""

from __future__ import annotations

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY

from ..annotations import read_fields, read_lines
from ..base import SplitDataset
from ..published import Download, Published
from ..splits import Items, new_datum
from . import VGG

LISTS = ("variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt")


@DATASET_REGISTRY.register()
class FGVCAircraft(SplitDataset):
    """Photographs of 100 variants of aircraft, 100 of each.

    Class names keep their hyphens, slashes and spaces: 707-320, F/A-18.

    References
    ----------
    S. Maji, E. Rahtu, J. Kannala, M. Blaschko and A. Vedaldi, "Fine-grained visual classification of aircraft",
    arXiv:1306.5151, 2013
    """

    config, table_name, benchmark, order = "fgvc_aircraft", "FGVCAircraft", "fewshot", 7
    dataset_dir = "fgvc_aircraft"
    image_folder = "images"
    template = "a photo of a {}, a type of aircraft."
    prompt_starts = (
        "a photo of an aircraft", "a picture of an aircraft",
        "this is aircraft picture of", "one picture of an aircraft",
    )  # fmt: skip
    published = Published(
        counts=(3_334, 3_333, 3_333), classes=100,
        images="the folder data of fgvc-aircraft-2013b.tar.gz, renamed: images, variants.txt and images_variant_*.txt",
        names_sha256="e1c9e72060e63d526dce032008262a95f573b02e802be7be42f0cb6ccd5b4217",
        aliases=("aircraft", "fgvc-aircraft", "fgvc-aircraft-2013b", "FGVCAircraft"),
    )
    downloads = (
        Download(
            "images", f"{VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            gives={name: f"fgvc-aircraft-2013b/data/{name}" for name in ("images", *LISTS)}, gigabytes=2.8,
        ),
    )

    def make_split(self) -> tuple[Items, Items, Items]:
        """Return the official split; labels are the lines of variants.txt."""
        names = read_lines(self.annotation("variants.txt"))
        labels = {name: label for label, name in enumerate(names)}
        return self._read("train", labels), self._read("val", labels), self._read("test", labels)

    def _read(self, split: str, labels: dict[str, int]) -> Items:
        """Lines of image number and variant, which may contain spaces."""
        path = self.annotation(f"images_variant_{split}.txt")
        items = []
        for image, name in read_fields(path, 2):
            if name not in labels:
                raise ValueError(f"{path}: variant {name!r} of image {image} is not in variants.txt")
            items.append(new_datum(osp.join(self.image_dir, f"{image}.jpg"), labels[name], name))
        return items
