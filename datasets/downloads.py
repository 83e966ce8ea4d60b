"""Where the files of the data sets come from: one entry a file, of any of three parts.

"images"; "splits", CoOp's split files; "lists", what else a data set has to say, which is needed only without a
split file. Addresses are those that the publishers gave, or of a named mirror; MD5 sums are those that torchvision's
data sets carry; sizes are rounded. None of the addresses was tried when this was written: a fetch that fails says
what to put where by hand, and goes on from there.
"""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from clip.download import Check, Digest
from dassl.data.datasets import DATASET_REGISTRY

from .facts import FACTS, IMAGENET_NAMES, UCF_FRAMES, google_drive
from .layout import Layout, find_file, find_images
from .published import IsArchive, PublishedNames, PublishedSplit
from .sources import DRIVE, drive_url

PARTS = ("images", "splits", "lists")


@dataclass(frozen=True)
class Download:
    """One file to fetch. It is kept under `file` in the data set's folder until it is unpacked."""

    part: str  # one of PARTS
    file: str
    url: str = ""  # "": there is none to fetch without a login, or at all; `otherwise` then says what to do
    check: Check = field(default_factory=IsArchive)
    gives: dict[str, str] = field(default_factory=dict)  # path in the data set's folder -> in the archive; {}: none
    inside: str = ""  # the archive in the archive that holds these
    gigabytes: float = 0.0  # rounded, for people; 0: small or not known
    otherwise: str = ""  # {folder}: the data set's

    def targets(self, folder: str) -> list[str]:
        """The paths that are there when this download is done."""
        return [osp.join(folder, name) for name in self.gives or (self.file,)]

    def is_missing(self, layout: Layout, image_folder: str) -> bool:
        """Whether the loader, which reads other places than the usual ones as well, would miss a file of it."""

        def is_there(name: str) -> bool:
            below = osp.relpath(name, image_folder or ".")
            as_image = not below.startswith("..") and osp.exists(osp.join(layout.images, below))
            return as_image or osp.exists(find_file(layout, name))

        return not all(map(is_there, self.gives or (self.file,)))

    @property
    def origin(self) -> str:
        """'dtd-r1.0.1.tar.gz, 0.6 GB, from www.robots.ox.ac.uk'."""
        url = urlsplit(self.url)
        where = google_drive(parse_qs(url.query)["id"][0]) if self.url.startswith(DRIVE) else url.netloc
        size = f", {self.gigabytes:g} GB" if self.gigabytes else ""
        return f"{self.file}{size}, {f'from {where}' if where else 'by hand'}"


def downloads_of(name: str) -> list[Download]:
    """All that can be had of the data set registered as `name`, images first."""
    facts, found = FACTS[name], list(ARCHIVES[name])
    if facts.split_drive_id:
        file = DATASET_REGISTRY.get(name).split_file
        found.append(Download("splits", file, drive_url(facts.split_drive_id), PublishedSplit(name)))
    for file, file_id in facts.others.items():
        found.append(Download("lists", file, drive_url(file_id), PublishedNames(facts.names_sha256 or IMAGENET_NAMES)))
    return found


def wanted_downloads(name: str, parts: Sequence[str] = ()) -> list[Download]:
    """Those of `parts`; by default all that the data set needs to be built."""
    parts = parts or (("images", "splits") if FACTS[name].split_drive_id else ("images", "lists"))
    return [download for download in downloads_of(name) if download.part in parts]


def missing_downloads(name: str, folder: str, parts: Sequence[str] = ()) -> list[Download]:
    """Those of them whose files are not in `folder`."""
    wanted = wanted_downloads(name, parts)
    if not osp.isdir(folder):
        return wanted
    image_folder = DATASET_REGISTRY.get(name).image_folder
    layout = Layout(folder, find_images(folder, name, image_folder))
    return [download for download in wanted if download.is_missing(layout, image_folder)]


# --- archives --------------------------------------------------------------------------------------------

VGG = "https://www.robots.ox.ac.uk/~vgg/data"
CARS = (
    "ai.stanford.edu, the original address, is dead. A mirror, behind a login: "
    "https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset; move its images so that "
    "{folder}/cars_train/00001.jpg and {folder}/cars_test/00001.jpg exist. If you have them, put the original "
    "cars_train.tgz and cars_test.tgz into {folder} for `fetch` to unpack"
)
IMAGENET = (
    "needs a login: https://image-net.org/challenges/LSVRC/2012/2012-downloads.php. Put ILSVRC2012_img_train.tar, "
    "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into {folder}/images, and sort them into class folders "
    'with (needs scipy): python -c "from torchvision.datasets import ImageNet as I; '
    "[I('{folder}/images', split) for split in ('train', 'val')]\""
)


def md5(value: str) -> Digest:
    return Digest("md5", value)


ARCHIVES: dict[str, list[Download]] = {
    "Caltech101": [
        Download(
            "images",
            "caltech-101.zip",
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            md5("3138e1922a9193bfa496528edbbc45d0"),
            {"101_ObjectCategories": "101_ObjectCategories"},
            inside="caltech-101/101_ObjectCategories.tar.gz",
            gigabytes=0.14,
        )
    ],
    "OxfordPets": [
        Download(
            "images",
            "images.tar.gz",
            f"{VGG}/pets/data/images.tar.gz",
            md5("5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            {"images": "images"},
            gigabytes=0.8,
        ),
        Download(
            "lists",
            "annotations.tar.gz",
            f"{VGG}/pets/data/annotations.tar.gz",
            md5("95a8c909bbe2e81eed6a22bccdf3f68f"),
            {"annotations": "annotations"},
            gigabytes=0.02,
        ),
    ],
    "StanfordCars": [
        Download("images", "cars_train.tgz", gives={"cars_train": "cars_train"}, gigabytes=1, otherwise=CARS),
        Download("images", "cars_test.tgz", gives={"cars_test": "cars_test"}, gigabytes=1, otherwise=CARS),
    ],
    "OxfordFlowers": [
        Download(
            "images",
            "102flowers.tgz",
            f"{VGG}/flowers/102/102flowers.tgz",
            md5("52808999861908f626f3c1f4e79d11fa"),
            {"jpg": "jpg"},
            gigabytes=0.35,
        ),
        Download(
            "lists",
            "imagelabels.mat",
            f"{VGG}/flowers/102/imagelabels.mat",
            md5("e0620be6f572b9609742df49c70aed4d"),
        ),
    ],
    "Food101": [
        Download(
            "images",
            "food-101.tar.gz",
            "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            md5("85eeb15f3717b99a5da872d97d918f87"),
            {"images": "food-101/images"},
            gigabytes=5,
        )
    ],
    "FGVCAircraft": [
        Download(
            "images",
            "fgvc-aircraft-2013b.tar.gz",
            f"{VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            gives={
                name: f"fgvc-aircraft-2013b/data/{name}"
                for name in ("images", "variants.txt", *(f"images_variant_{x}.txt" for x in ("train", "val", "test")))
            },
            gigabytes=2.8,
        )
    ],
    "SUN397": [
        Download(
            "images",
            "SUN397.tar.gz",
            "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
            md5("8ca2778205c41d23104230ba66911c7a"),
            {"SUN397": "SUN397"},
            gigabytes=39,
        ),
        Download(
            "lists",
            "Partitions.zip",
            "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",
            gives={name: name for name in ("ClassName.txt", "Training_01.txt", "Testing_01.txt")},
        ),
    ],
    "DescribableTextures": [
        Download(
            "images",
            "dtd-r1.0.1.tar.gz",
            f"{VGG}/dtd/download/dtd-r1.0.1.tar.gz",
            md5("fff73e5086ae6bdbea199a49dfb8a4c1"),
            {"images": "dtd/images"},
            gigabytes=0.6,
        )
    ],
    "EuroSAT": [
        Download(
            "images",
            "EuroSAT.zip",
            # TorchGeo's copy of the first version, which has the folder 2750; torchvision takes it from there, too
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            md5("c8fa014336c82ac7804f0398fcb19387"),
            {"2750": "2750"},
            gigabytes=0.09,
            otherwise="also at https://zenodo.org/records/7711810, as EuroSAT_RGB.zip; call its folder {folder}/2750",
        )
    ],
    "UCF101": [
        Download(
            "images",
            "UCF-101-midframes.zip",
            drive_url(UCF_FRAMES),
            gives={"UCF-101-midframes": "UCF-101-midframes"},
        ),
        Download(
            "lists",
            "UCF101TrainTestSplits-RecognitionTask.zip",
            "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
            gives={"ucfTrainTestlist": "ucfTrainTestlist"},
        ),
    ],
    "ImageNet": [
        Download(
            "images",
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
            gives={"images/train": "", "images/val": ""},
            gigabytes=144,
            otherwise=IMAGENET,
        )
    ],
    "ImageNetV2": [
        Download(
            "images",
            "imagenetv2-matched-frequency.tar.gz",
            "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
            gives={"imagenetv2-matched-frequency-format-val": "imagenetv2-matched-frequency-format-val"},
            gigabytes=1.3,
        )
    ],
    "ImageNetSketch": [
        Download(
            "images",
            "ImageNet-Sketch.zip",
            "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",
            gives={"images": "sketch"},
            gigabytes=7,
        )
    ],
    "ImageNetA": [
        Download(
            "images",
            "imagenet-a.tar",
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
            gives={"imagenet-a": "imagenet-a"},
            gigabytes=0.7,
        )
    ],
    "ImageNetR": [
        Download(
            "images",
            "imagenet-r.tar",
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
            gives={"imagenet-r": "imagenet-r"},
            gigabytes=2.2,
        )
    ],
}
