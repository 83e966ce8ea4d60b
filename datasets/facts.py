"""What is known of the published data sets: counts, fingerprints, and where their files come from.

Counts are those of CoOp's splits. `names_sha256` is SHA-256 over the class names in label order, joined by
line feeds; `split_sha256` is that of the split file without white space (`splits.split_digest`); a check value
of `picks` is the first 16 hex digits of SHA-256 over the lines "label<TAB>path below the image folder" of the
few-shot train or val list, joined by line feeds (`picks_digest`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

Picks = dict[tuple[int, int], tuple[str, str]]  # (shots, seed) -> check values of train and val


@dataclass(frozen=True)
class Facts:
    """One data set. Numbers and digests that are not known are 0 and ""."""

    config: str  # configs/datasets/<config>.yaml
    counts: tuple[int, int, int]  # train, val, test; 0: none of its own
    classes: int
    images: str  # which archive holds the images, and what is in it
    names_sha256: str = ""
    split_drive_id: str = ""  # of CoOp's split file, on Google Drive
    split_sha256: str = ""
    base_new_test: tuple[int, int] = (0, 0)  # test images of the base and of the new classes
    aliases: tuple[str, ...] = ()  # other names of the folder that archives and other projects use
    image_aliases: tuple[str, ...] = ()  # the same for the folder of the images
    image_holds: str = ""  # pattern of folders by which the images' folder is known, where it has another name or none
    others: dict[str, str] = field(default_factory=dict)  # further files: name -> Google Drive id
    picks: Picks = field(default_factory=dict)

    @property
    def split_source(self) -> str:
        return google_drive(self.split_drive_id) if self.split_drive_id else ""


def google_drive(file_id: str) -> str:
    return f"Google Drive, file id {file_id}"


def names_digest(classnames: Sequence[str]) -> str:
    """SHA-256 (hex) of class names in label order, to compare with `Facts.names_sha256`."""
    return hashlib.sha256("\n".join(classnames).encode()).hexdigest()


def picks_digest(labels_and_paths: Sequence[tuple[int, str]]) -> str:
    """16 hex digits over few-shot picks in their order, to compare with `Facts.picks`."""
    lines = "\n".join(f"{label}\t{path}" for label, path in labels_and_paths)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


CLASSNAMES_TXT = {"classnames.txt": "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"}
UCF_FRAMES = "10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"  # on Google Drive
WNID = r"n\d{8}"
IMAGENET_NAMES = "571ae1c583b4be7da87519494c52bf405a46af05d5815627c7a0dee997068b60"

FACTS = {
    "Caltech101": Facts(
        config="caltech101",
        counts=(4_128, 1_649, 2_465),
        classes=100,
        images="101_ObjectCategories.tar.gz of Caltech 101, with one folder a class",
        names_sha256="84f9ff49dce58ae6e74754fd578f6dd6bb9c1b711758e7c3da3888216d0630ca",
        split_drive_id="1hyarUivQE36mY6jSomru6Fjd-JzwcCzN",
        split_sha256="cb0e193bd69a6f898a6e0263e84960d3e6e4f33fd394803eab6f98cb1474c9e8",
        base_new_test=(1_549, 916),
        aliases=("caltech101", "Caltech101", "caltech_101", "Caltech-101"),
        picks={
            (1, 1): ("3df2ada84d7da7ed", "07d0e0e036f0c2aa"),
            (16, 1): ("01768efa6b6e3d94", "149882ad596f0a29"),
        },
    ),
    "OxfordPets": Facts(
        config="oxford_pets",
        counts=(2_944, 736, 3_669),
        classes=37,
        images="images.tar.gz and annotations.tar.gz of the Oxford-IIIT Pet data set",
        names_sha256="8e35ab44db27d55ab1a062c8af3308606560f9f3e3a6bf698b19e4ea54212d6d",
        split_drive_id="1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs",
        split_sha256="b1f67d4b99e64eae950bdad05b97623ba46e04e981ccc7d72691715916640dda",
        base_new_test=(1_881, 1_788),
        aliases=("pets", "oxford-iiit-pet", "oxford-pets", "OxfordPets"),
        picks={
            (1, 1): ("be1c684ef502a3ca", "3471d32fddeb48f8"),
            (16, 1): ("602721662c1fdd1b", "f4559147dd52d784"),
        },
    ),
    "StanfordCars": Facts(
        config="stanford_cars",
        counts=(6_509, 1_635, 8_041),
        classes=196,
        images="cars_train and cars_test of the Stanford Cars data set (cars_train.tgz, cars_test.tgz)",
        names_sha256="2caca90b5c02b65fcd9542cc2c934aa40c56ded5cb5b72e6e0b8e6b023cf81f9",
        split_drive_id="1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT",
        split_sha256="dfe736f7b93100d1a65a4001d65e52d386a6ec090eebaf124353eab77a737fca",
        base_new_test=(4_002, 4_039),
        aliases=("cars", "stanford-cars", "StanfordCars", "stanfordcars"),
        image_holds="cars_train",
        picks={
            (1, 1): ("54910a34e665d0f9", "98ec89e22cf95ddf"),
            (16, 1): ("f91f248cc53fd8ab", "55d33a4a3358c561"),
        },
    ),
    "OxfordFlowers": Facts(
        config="oxford_flowers",
        counts=(4_093, 1_633, 2_463),
        classes=102,
        images="102flowers.tgz of the Oxford 102 flowers: a folder jpg",
        names_sha256="0d27092c2140383d4f002dc99d20c184d58ffdc454e5f4d12f0475b4e23480ee",
        split_drive_id="1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT",
        split_sha256="3e0c54f6848d8f4413150006815dce589aefaed5fb7efaa6a3b6f66918146bcc",
        base_new_test=(1_053, 1_410),
        aliases=("flowers", "flowers102", "flowers-102", "oxford-flowers", "oxford_flowers102", "OxfordFlowers"),
        others={"cat_to_name.json": "1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"},
        picks={
            (1, 1): ("093639e770b5e71e", "5545d12d6fbd686e"),
            (16, 1): ("fbb5f69e34428b5c", "18af66ca7de6c0bf"),
        },
    ),
    "Food101": Facts(
        config="food101",
        counts=(50_500, 20_200, 30_300),
        classes=101,
        images="food-101.tar.gz of Food-101: images, with one folder a class",
        names_sha256="efe7060c0e6aa88c98d3ad9532240013747f6b2179d45e1f750527890437c59d",
        split_drive_id="1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl",
        base_new_test=(15_300, 15_000),
        aliases=("food101", "Food101", "food_101", "Food-101"),
    ),
    "FGVCAircraft": Facts(
        config="fgvc_aircraft",
        counts=(3_334, 3_333, 3_333),
        classes=100,
        images="the folder data of fgvc-aircraft-2013b.tar.gz, renamed: images, variants.txt and images_variant_*.txt",
        names_sha256="e1c9e72060e63d526dce032008262a95f573b02e802be7be42f0cb6ccd5b4217",
        aliases=("aircraft", "fgvc-aircraft", "fgvc-aircraft-2013b", "FGVCAircraft"),
    ),
    "SUN397": Facts(
        config="sun397",
        counts=(15_880, 3_970, 19_850),
        classes=397,
        images="SUN397.tar.gz of SUN397 (folders a ... z), and its Partitions.zip",
        names_sha256="583c0fad85d22c563fc88e49462efce4c5a08aec1e0b8020f325224af67cb040",
        split_drive_id="1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq",
        base_new_test=(9_950, 9_900),
        aliases=("SUN397", "sun-397", "sun"),
        image_holds="[a-z]",
    ),
    "DescribableTextures": Facts(
        config="dtd",
        counts=(2_820, 1_128, 1_692),
        classes=47,
        images="dtd-r1.0.1.tar.gz of the Describable Textures Dataset: images, with one folder a class",
        names_sha256="681d23b9cd3c2edec8ff7ea1fd6f5dd92f3b8d1dfb5a43fd0faee72a116c1130",
        split_drive_id="1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
        split_sha256="038c759d32099a1f1df63bf97f664fe86d3af2a1e3d2f59a84c884257314bd18",
        base_new_test=(864, 828),
        aliases=("DTD", "describable_textures", "dtd-r1.0.1", "textures"),
        picks={
            (1, 1): ("3d58099f6a885783", "337a5a18036e1d81"),
            (16, 1): ("44cd1df01ad03868", "08557d1519cdb71a"),
        },
    ),
    "EuroSAT": Facts(
        config="eurosat",
        counts=(13_500, 5_400, 8_100),
        classes=10,
        images="EuroSAT.zip of EuroSAT, the RGB version: a folder 2750, with one folder a class",
        names_sha256="bcff3a8022b63397730ecbb798e13cf58822547521ea94ed2975f05971b28da3",
        split_drive_id="1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
        split_sha256="7f5d4f79bba4f67d1ed4bc0b5fbafab565564c6ff8205b82d893897db0d8015b",
        base_new_test=(4_200, 3_900),
        aliases=("EuroSAT", "euro_sat", "eurosat-rgb"),
        image_aliases=("EuroSAT_RGB", "EuroSAT"),
        image_holds="AnnualCrop",
        picks={
            (1, 1): ("d6006726878ea0f4", "eeed29c79f67e632"),
            (16, 1): ("ad68353e38faf187", "55532c62e6fd925a"),
        },
    ),
    "UCF101": Facts(
        config="ucf101",
        counts=(7_639, 1_898, 3_783),
        classes=101,
        images=f"UCF-101-midframes.zip, the middle frames of the videos: {google_drive(UCF_FRAMES)}",
        names_sha256="d22e81fba7ebebf0fb154d6bc7c3b2c11a31a31d102b6873aa4f37413abaefc1",
        split_drive_id="1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y",
        split_sha256="875b6350cc32a4912942a97b5ef3b45c2de6c52324cfc77c6f741a1edac421da",
        base_new_test=(1_934, 1_849),
        aliases=("UCF101", "ucf-101", "UCF-101"),
        picks={
            (1, 1): ("d83ff98b1ec9cb83", "f29b7aa332bfe6bc"),
            (16, 1): ("1ac0104e74d830bc", "c72e6bc0d79b0cd7"),
        },
    ),
    "ImageNet": Facts(
        config="imagenet",
        counts=(1_281_167, 0, 50_000),
        classes=1_000,
        images="the ILSVRC 2012 training and validation images, both sorted into folders named by WordNet id",
        names_sha256=IMAGENET_NAMES,
        base_new_test=(25_000, 25_000),
        aliases=("ImageNet", "imagenet1k", "imagenet-1k", "ILSVRC2012", "ilsvrc2012", "ILSVRC"),
        image_aliases=("CLS-LOC",),
        image_holds="train",
        others=CLASSNAMES_TXT,
    ),
    "ImageNetV2": Facts(
        config="imagenetv2",
        counts=(0, 0, 10_000),
        classes=1_000,
        images="ImageNetV2, matched frequency: folders 0 ... 999",
        names_sha256=IMAGENET_NAMES,
        aliases=("imagenet-v2", "imagenet_v2", "ImageNetV2", "imagenetv2-matched-frequency-format-val"),
        image_holds="0",
        others=CLASSNAMES_TXT,
    ),
    "ImageNetSketch": Facts(
        config="imagenet_sketch",
        counts=(0, 0, 50_889),
        classes=1_000,
        images="ImageNet-Sketch, its folder sketch renamed to images",
        names_sha256=IMAGENET_NAMES,
        aliases=("imagenet_sketch", "ImageNet-Sketch", "sketch"),
        image_aliases=("sketch",),
        image_holds=WNID,
        others=CLASSNAMES_TXT,
    ),
    "ImageNetA": Facts(
        config="imagenet_a",
        counts=(0, 0, 7_500),
        classes=200,
        images="imagenet-a.tar of ImageNet-A (natural adversarial examples)",
        aliases=("imagenet-a", "imagenet_a", "ImageNet-A"),
        image_holds=WNID,
        others=CLASSNAMES_TXT,
    ),
    "ImageNetR": Facts(
        config="imagenet_r",
        counts=(0, 0, 30_000),
        classes=200,
        images="imagenet-r.tar of ImageNet-R (renditions)",
        aliases=("imagenet-r", "imagenet_r", "ImageNet-R"),
        image_holds=WNID,
        others=CLASSNAMES_TXT,
    ),
}
