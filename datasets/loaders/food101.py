"""Food-101 (Bossard et al., 2014): 101 dishes.

DATASET.ROOT/food-101/images/<dish>/<number>.jpg and food-101/split_zhou_Food101.json (not the official lists).
"""

from dassl.data.datasets import DATASET_REGISTRY

from ..base import SplitDataset
from ..published import Download, Published


@DATASET_REGISTRY.register()
class Food101(SplitDataset):
    """Photographs of 101 dishes, 1000 of each; the labels of the training images are not clean.

    CoOp splits the official training and test images anew.

    References
    ----------
    L. Bossard, M. Guillaumin and L. Van Gool, "Food-101: Mining discriminative components with random forests",
    ECCV 2014
    """

    config, table_name, benchmark, order = "food101", "Food101", "fewshot", 6
    dataset_dir = "food-101"
    image_folder = "images"
    split_file = "split_zhou_Food101.json"
    template = "a photo of {}, a type of food."
    prompt_starts = ("a photo of a food", "this is a food photo", "this is food picture of", "one picture of a food")
    published = Published(
        counts=(50_500, 20_200, 30_300), classes=101, base_new_test=(15_300, 15_000),
        images="food-101.tar.gz of Food-101: images, with one folder a class",
        names_sha256="efe7060c0e6aa88c98d3ad9532240013747f6b2179d45e1f750527890437c59d",
        split_drive_id="1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl",
        aliases=("food101", "Food101", "food_101", "Food-101"),
    )
    downloads = (
        Download(
            "images", "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", md5="85eeb15f3717b99a5da872d97d918f87",
            gives={"images": "food-101/images"}, gigabytes=5,
        ),
    )
