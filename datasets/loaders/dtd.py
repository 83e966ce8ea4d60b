"""Describable Textures (Cimpoi et al., 2014): 47 textures, named by an adjective.

DATASET.ROOT/dtd/images/<texture>/<texture>_<number>.jpg and dtd/split_zhou_DescribableTextures.json (not the
official lists).
"""

from __future__ import annotations

from dassl.data.datasets import DATASET_REGISTRY

from .. import splits
from ..base import SplitDataset
from ..published import Download, Published
from . import VGG


@DATASET_REGISTRY.register()
class DescribableTextures(SplitDataset):
    """Photographs of 47 textures, 120 of each.

    CoOp splits all images anew, in place of the ten official splits.

    References
    ----------
    M. Cimpoi, S. Maji, I. Kokkinos, S. Mohamed and A. Vedaldi, "Describing textures in the wild", CVPR 2014
    """

    config, table_name, benchmark, order = "dtd", "DTD", "fewshot", 9
    dataset_dir = "dtd"
    image_folder = "images"
    split_file = "split_zhou_DescribableTextures.json"
    template = "{} texture."
    prompt_starts = (
        "a photo of a texture", "this is a photo texture", "this is a picture texture", "one picture of a texture",
    )  # fmt: skip
    published = Published(
        counts=(2_820, 1_128, 1_692), classes=47, base_new_test=(864, 828),
        images="dtd-r1.0.1.tar.gz of the Describable Textures Dataset: images, with one folder a class",
        names_sha256="681d23b9cd3c2edec8ff7ea1fd6f5dd92f3b8d1dfb5a43fd0faee72a116c1130",
        split_drive_id="1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
        split_sha256="038c759d32099a1f1df63bf97f664fe86d3af2a1e3d2f59a84c884257314bd18",
        aliases=("DTD", "describable_textures", "dtd-r1.0.1", "textures"),
        picks={(1, 1): ("3d58099f6a885783", "337a5a18036e1d81"), (16, 1): ("44cd1df01ad03868", "08557d1519cdb71a")},
    )
    downloads = (
        Download(
            "images", f"{VGG}/dtd/download/dtd-r1.0.1.tar.gz", md5="fff73e5086ae6bdbea199a49dfb8a4c1",
            gives={"images": "dtd/images"}, gigabytes=0.6,
        ),
    )

    # Loaders written for CoOp find this helper here.
    read_and_split_data = staticmethod(splits.read_and_split_data)
