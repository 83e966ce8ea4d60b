"""Caltech101 (Fei-Fei et al., 2004): 100 classes of objects, without the background and the easy faces.

DATASET.ROOT/caltech-101/101_ObjectCategories/<class>/image_0001.jpg and
caltech-101/split_zhou_Caltech101.json.
"""

from dassl.data.datasets import DATASET_REGISTRY

from ..base import GENERAL_STARTS, SplitDataset
from ..published import Download, Published


@DATASET_REGISTRY.register()
class Caltech101(SplitDataset):
    """Photographs of 100 kinds of objects, 31 to 800 of each.

    The backgrounds and the easy faces are left out, as in CoOp; four folders have a plural name, their classes a
    singular one.

    References
    ----------
    L. Fei-Fei, R. Fergus and P. Perona, "Learning generative visual models from few training examples", CVPR
    Workshop 2004
    """

    config, table_name, benchmark, order = "caltech101", "Caltech101", "fewshot", 2
    dataset_dir = "caltech-101"
    image_folder = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    ignored_folders = ("BACKGROUND_Google", "Faces_easy")
    class_names = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
    prompt_starts = GENERAL_STARTS
    published = Published(
        counts=(4_128, 1_649, 2_465), classes=100, base_new_test=(1_549, 916),
        images="101_ObjectCategories.tar.gz of Caltech 101, with one folder a class",
        names_sha256="84f9ff49dce58ae6e74754fd578f6dd6bb9c1b711758e7c3da3888216d0630ca",
        split_drive_id="1hyarUivQE36mY6jSomru6Fjd-JzwcCzN",
        split_sha256="cb0e193bd69a6f898a6e0263e84960d3e6e4f33fd394803eab6f98cb1474c9e8",
        aliases=("caltech101", "Caltech101", "caltech_101", "Caltech-101"),
        picks={(1, 1): ("3df2ada84d7da7ed", "07d0e0e036f0c2aa"), (16, 1): ("01768efa6b6e3d94", "149882ad596f0a29")},
    )
    downloads = (
        Download(
            "images", "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            md5="3138e1922a9193bfa496528edbbc45d0", gives={"101_ObjectCategories": "101_ObjectCategories"},
            inside="caltech-101/101_ObjectCategories.tar.gz", gigabytes=0.14,
        ),
    )
