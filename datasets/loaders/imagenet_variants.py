"""Four sets of other images of ImageNet's classes, to see how well what was learned on ImageNet carries over.

    ImageNetV2       imagenetv2/imagenetv2-matched-frequency-format-val/<0 ... 999>/*.jpeg
    ImageNet-Sketch  imagenet-sketch/images/<WordNet id>/*.JPEG
    ImageNet-A       imagenet-adversarial/imagenet-a/<WordNet id>/*.jpg     200 of the classes
    ImageNet-R       imagenet-rendition/imagenet-r/<WordNet id>/*.jpg       200 of the classes

below DATASET.ROOT. ImageNet's classnames.txt is looked for in the variant's folder, then in ImageNet's. All four are
for evaluation only.
"""

from __future__ import annotations

import os.path as osp
from collections import OrderedDict
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY

from ..files import require_folder
from ..layout import find_folder
from ..published import Download, Published
from ..splits import Items, new_datum
from .imagenet import (
    CLASS_NAMES,
    CLASSNAMES_TXT,
    ImageNet,
    ImageNetFamily,
    Listing,
    find_classnames,
    label_images,
    list_classes,
)

HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"  # home of two of them
WORDNET_ID = r"n\d{8}"


def images_at(url: str, folder: str, inside: str, gigabytes: float) -> tuple[Download, ...]:
    """Return the archive whose folder `inside` becomes the images' `folder`, and ImageNet's class names."""
    return Download("images", url, gives={folder: inside}, gigabytes=gigabytes), CLASSNAMES_TXT


class ImageNetVariant(ImageNetFamily):
    """Other images of ImageNet's classes, to evaluate on: `train_x` is the test list, and `val` is None.

    NUM_SHOTS and SUBSAMPLE_CLASSES change nothing. Class folders are named by WordNet id, and labels are the
    positions of those that are there.
    """

    benchmark = "domain"
    eval_only = True

    def load_split(self, cfg: Any) -> tuple[Items, None, Items]:
        """Return the images twice: as the test set, and in place of a training set, to name the classes."""
        require_folder(self.image_dir, f"unpack the images of {type(self).__name__} there")
        if cfg.DATASET.get("SUBSAMPLE_CLASSES", "all") != "all":
            print(f"Note: {type(self).__name__} has no base and new classes; DATASET.SUBSAMPLE_CLASSES is ignored")
        imagenet = find_folder(osp.dirname(self.dataset_dir), ImageNet)
        places = [self.dataset_dir, osp.dirname(self.image_dir), *([imagenet] if imagenet else [])]
        items = self.label(list_classes(self.image_dir), find_classnames(*dict.fromkeys(places)))
        return items, None, items

    def label(self, listing: Listing, names: OrderedDict[str, str]) -> Items:
        """Give the listed images their labels and names."""
        return label_images(self.image_dir, listing, names)


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetVariant):
    """ImageNetV2 (Recht et al., 2019), matched frequency: 10 new test images for each class.

    References
    ----------
    B. Recht, R. Roelofs, L. Schmidt and V. Shankar, "Do ImageNet classifiers generalize to ImageNet?", ICML 2019
    """

    config, table_name, order = "imagenetv2", "ImageNetV2", 12
    dataset_dir = "imagenetv2"
    image_folder = "imagenetv2-matched-frequency-format-val"
    published = Published(
        counts=(0, 0, 10_000), classes=1_000,
        images="ImageNetV2, matched frequency: folders 0 ... 999",
        names_sha256=CLASS_NAMES,
        aliases=("imagenet-v2", "imagenet_v2", "ImageNetV2", "imagenetv2-matched-frequency-format-val"),
        image_holds="0",
    )
    downloads = images_at(
        "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
        image_folder, image_folder, gigabytes=1.3,
    )  # fmt: skip

    def label(self, listing: Listing, names: OrderedDict[str, str]) -> Items:
        """Give the images the label that their folder is called by: 10 comes after 9."""
        classnames = list(names.values())
        valid = {str(label): label for label in range(len(classnames))}
        if wrong := sorted(set(listing) - set(valid)):
            raise ValueError(
                f"{osp.join(self.image_dir, wrong[0])}: class folders here are named 0 to {len(valid) - 1}"
            )
        return [
            new_datum(osp.join(self.image_dir, folder, image), valid[folder], classnames[valid[folder]])
            for folder in sorted(listing, key=int)
            for image in listing[folder]
        ]


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """ImageNet-Sketch (Wang et al., 2019): black-and-white drawings of the 1000 classes.

    References
    ----------
    H. Wang, S. Ge, Z. Lipton and E. P. Xing, "Learning robust global representations by penalizing local predictive
    power", NeurIPS 2019
    """

    config, table_name, order = "imagenet_sketch", "ImageNet-Sketch", 13
    dataset_dir = "imagenet-sketch"
    image_folder = "images"
    published = Published(
        counts=(0, 0, 50_889), classes=1_000,
        images="ImageNet-Sketch, its folder sketch renamed to images",
        names_sha256=CLASS_NAMES,
        aliases=("imagenet_sketch", "ImageNet-Sketch", "sketch"),
        image_aliases=("sketch",),
        image_holds=WORDNET_ID,
    )
    downloads = images_at(
        "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",
        image_folder, "sketch", gigabytes=7,
    )  # fmt: skip


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    """ImageNet-A (Hendrycks et al., 2021): photographs that mislead a ResNet-50, of 200 of the classes.

    References
    ----------
    D. Hendrycks, K. Zhao, S. Basart, J. Steinhardt and D. Song, "Natural adversarial examples", CVPR 2021
    """

    config, table_name, order = "imagenet_a", "ImageNet-A", 14
    dataset_dir = "imagenet-adversarial"
    image_folder = "imagenet-a"
    published = Published(
        counts=(0, 0, 7_500), classes=200,
        images="imagenet-a.tar of ImageNet-A (natural adversarial examples)",
        aliases=("imagenet-a", "imagenet_a", "ImageNet-A"),
        image_holds=WORDNET_ID,
    )
    downloads = images_at(f"{HENDRYCKS}/imagenet-a.tar", image_folder, image_folder, gigabytes=0.7)


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """ImageNet-R (Hendrycks et al., 2021): paintings, toys, ... of 200 of the classes.

    References
    ----------
    D. Hendrycks, S. Basart, N. Mu and others, "The many faces of robustness: A critical analysis of out-of-
    distribution generalization", ICCV 2021
    """

    config, table_name, order = "imagenet_r", "ImageNet-R", 15
    dataset_dir = "imagenet-rendition"
    image_folder = "imagenet-r"
    published = Published(
        counts=(0, 0, 30_000), classes=200,
        images="imagenet-r.tar of ImageNet-R (renditions)",
        aliases=("imagenet-r", "imagenet_r", "ImageNet-R"),
        image_holds=WORDNET_ID,
    )
    downloads = images_at(f"{HENDRYCKS}/imagenet-r.tar", image_folder, image_folder, gigabytes=2.2)
