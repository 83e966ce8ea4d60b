"""ImageNet (Deng et al., 2009; ILSVRC 2012): 1000 classes; the official validation images are the test set.

DATASET.ROOT/imagenet/images/{train,val}/<WordNet id>/*.JPEG and imagenet/classnames.txt, lines of WordNet id and
class name (where there is none, the same names come from open_clip). Labels are the positions of the sorted
folders. Few-shot selection draws from train; `val` is the test set, so it must choose nothing: the trainer warns
where TEST.FINAL_MODEL is best_val.

Listing 1.3 million files takes a while, so the listing is kept as imagenet/image_index.json and used again as
long as no folder has changed. Upstream's imagenet/preprocessed.pkl, where there is one, is followed in its order
of images: the few-shot picks are then those of earlier runs.
"""

from __future__ import annotations

import os
import os.path as osp
import warnings
from collections import OrderedDict
from typing import Any

from tqdm import tqdm

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_json

from ..annotations import read_fields
from ..base import GENERAL_STARTS, SplitDataset
from ..files import (
    first_few,
    is_image_name,
    list_folders,
    list_images,
    require_files,
    require_folder,
    write_json_somewhere,
)
from ..legacy import read_datum_pickle
from ..published import Download, Published, drive_url
from ..splits import Items, new_datum

CLASS_NAMES = "571ae1c583b4be7da87519494c52bf405a46af05d5815627c7a0dee997068b60"
CLASSNAMES_TXT = Download(
    "lists", drive_url("1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"), "classnames.txt", names_sha256=CLASS_NAMES
)
BY_HAND = (
    "needs a login: https://image-net.org/challenges/LSVRC/2012/2012-downloads.php. Put ILSVRC2012_img_train.tar, "
    "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into {folder}/images, and sort them into class folders "
    'with (needs scipy): python -c "from torchvision.datasets import ImageNet as I; '
    "[I('{folder}/images', split) for split in ('train', 'val')]\""
)

INDEX_FILE = "image_index.json"
INDEX_VERSION = 1

Listing = dict[str, list[str]]  # class folder -> file names


def read_classnames(text_file: str) -> OrderedDict[str, str]:
    """Map WordNet id to class name, by a file with lines like "n01440764 tench"; names may contain spaces."""
    return OrderedDict((wnid, name.strip()) for wnid, name in read_fields(text_file, 2))


class ImageNetFamily(SplitDataset):
    """ImageNet and its variants: one list of class names, and one set of prompts."""

    is_imagenet = True
    prompt_starts = GENERAL_STARTS
    # As published: the third is a word short, so that its fourth context token starts from the end-of-text token, and
    # the first token of every class name is cut off.
    legacy_prompt_starts = ("a photo of a", "this is a photo", "this is a", "one picture of a")


@DATASET_REGISTRY.register()
class ImageNet(ImageNetFamily):
    """1.3 million photographs of 1000 classes.

    Class names are those of CLIP's prompt-engineering notebook; two of them stand twice, missile and sunglasses.

    References
    ----------
    J. Deng, W. Dong, R. Socher, L.-J. Li, K. Li and L. Fei-Fei, "ImageNet: A large-scale hierarchical image
    database", CVPR 2009
    """

    config, table_name, benchmark, order = "imagenet", "ImageNet", "fewshot", 1
    dataset_dir = "imagenet"
    image_folder = "images"
    published = Published(
        counts=(1_281_167, 0, 50_000), classes=1_000, base_new_test=(25_000, 25_000),
        images="the ILSVRC 2012 training and validation images, both sorted into folders named by WordNet id",
        names_sha256=CLASS_NAMES,
        aliases=("ImageNet", "imagenet1k", "imagenet-1k", "ILSVRC2012", "ilsvrc2012", "ILSVRC"),
        image_aliases=("CLS-LOC",),
        image_holds="train",
    )
    downloads = (
        Download(
            "images", saved_as="ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
            gives={"images/train": "", "images/val": ""}, gigabytes=144, otherwise=BY_HAND,
        ),
        CLASSNAMES_TXT,
    )

    # Loaders written for CoOp find this helper here.
    read_classnames = staticmethod(read_classnames)

    @property
    def val(self) -> Items | None:  # type: ignore[override]
        """The test set itself: nothing may be chosen by it."""
        return self.test

    def load_split(self, cfg: Any) -> tuple[Items, None, Items]:
        """Return (train, None, test) of the pickled listing, if there is one, else of the folders."""
        for part in ("train", "val"):
            require_folder(
                osp.join(self.image_dir, part), f"it should hold the {part} images of ILSVRC 2012, a folder a class"
            )
        old = self._read_pickle(osp.join(self.dataset_dir, "preprocessed.pkl"))
        if old:
            return old[0], None, old[1]
        names = find_classnames(*dict.fromkeys([self.dataset_dir, osp.dirname(self.image_dir)]))
        listings = self._list(cfg)
        if odd := sorted(set(listings["train"]) ^ set(listings["val"])):
            raise ValueError(
                f"{self.image_dir}: train and val must hold the same class folders; "
                f"in only one of them: {first_few(odd)}"
            )
        train, test = (label_images(osp.join(self.image_dir, part), listings[part], names) for part in ("train", "val"))
        return train, None, test

    def _list(self, cfg: Any) -> dict[str, Listing]:
        """List the images of train and val, or read the listing that an earlier run kept."""
        places = [osp.join(self.dataset_dir, INDEX_FILE), osp.join(cfg.OUTPUT_DIR, INDEX_FILE)]
        folders = {part: osp.join(self.image_dir, part) for part in ("train", "val")}
        times = {part: folder_times(folder) for part, folder in folders.items()}
        for path in places:
            if listings := read_index(path, times):
                return listings
        listings = {part: list_classes(folders[part], list(times[part])) for part in folders}
        content = {"version": INDEX_VERSION, "times": times, "images": listings}
        saved = write_json_somewhere(content, places)
        if saved:
            print(f"Saved the listing of images to {saved}")
        return listings

    def _read_pickle(self, path: str) -> tuple[Items, Items] | None:
        """Return (train, test) of a listing that upstream pickled, perhaps on another machine; None if not usable."""
        content = read_datum_pickle(path, "listing") if osp.isfile(path) else None
        if content is None:
            return None
        lists = []
        for part in ("train", "test"):
            # images/<train or val>/<WordNet id>/<file> is the same wherever the root was
            tails = [(p.replace("\\", "/").split("/")[-3:], label, name) for p, label, name in content.get(part, [])]
            lists.append([new_datum(osp.join(self.image_dir, *tail), label, name) for tail, label, name in tails])
        try:
            if not all(lists):
                raise FileNotFoundError("it has no training or no test images")
            require_files([item.impath for items in lists for item in items], osp.basename(path), "")
        except FileNotFoundError as error:
            warnings.warn(f"{path} is not used, listing the images instead: {error}", stacklevel=4)
            return None
        print(f"Loaded the listing of images from {path}")
        return lists[0], lists[1]


# --- class names -----------------------------------------------------------------------------------------


def find_classnames(*folders: str) -> OrderedDict[str, str]:
    """Find the names of ImageNet's classes.

    Parameters
    ----------
    *folders
        Places to look for classnames.txt in; the first one that is there counts.

    Returns
    -------
    OrderedDict
        WordNet id -> class name, in label order; without any file CLIP's 1000 names, which open_clip carries.
    """
    for folder in folders:
        path = osp.join(folder, "classnames.txt")
        if osp.isfile(path):
            return read_classnames(path)
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    print(f"Note: no classnames.txt in {' or '.join(folders)}; using CLIP's names of the 1000 classes")
    return OrderedDict(zip(ImageNetInfo("imagenet-1k").label_names(), IMAGENET_CLASSNAMES, strict=True))


def name_of(wnid: str, names: dict[str, str], folder: str) -> str:
    """Look up a class name; ValueError, naming the folder, for one that is no WordNet id of the list."""
    if wnid not in names:
        raise ValueError(
            f"{osp.join(folder, wnid)}: classnames.txt has no name for {wnid!r}; folders here are named by WordNet "
            "id, like n01440764"
        )
    return names[wnid]


# --- listing ---------------------------------------------------------------------------------------------


def list_classes(folder: str, names: list[str] | None = None) -> Listing:
    """List the images of every class folder, with a bar when the console is a terminal.

    Parameters
    ----------
    folder
        The folder of class folders.
    names
        Which of them to list; by default all.

    Returns
    -------
    dict
        Class folder -> sorted names of its images.

    Raises
    ------
    ValueError
        When there is no class folder, or one without images.
    """
    names = list_folders(folder) if names is None else names
    if not names:
        loose = len(list_images(folder))
        content = f"{loose} images but no class folders; sort them into" if loose else "no class folders; expected"
        raise ValueError(f"{folder} holds {content} one folder a class")
    listing = {}
    for name in tqdm(names, desc=f"Listing {osp.basename(folder)}", disable=None, leave=False):
        listing[name] = sorted(image for image in os.listdir(osp.join(folder, name)) if is_image_name(image))
    empty = [name for name, images in listing.items() if not images]
    if empty:
        raise ValueError(f"{folder}: no image in the class folder {first_few(empty)}")
    return listing


def label_images(folder: str, listing: Listing, names: dict[str, str]) -> Items:
    """Return the listed images, labelled by the position of their folder among the sorted ones."""
    return [
        new_datum(osp.join(folder, wnid, image), label, name)
        for label, (wnid, name) in enumerate((wnid, name_of(wnid, names, folder)) for wnid in sorted(listing))
        for image in listing[wnid]
    ]


def folder_times(folder: str) -> dict[str, int]:
    """Return when each class folder last changed (ns): an image that comes or goes changes it."""
    return {name: os.stat(osp.join(folder, name)).st_mtime_ns for name in list_folders(folder)}


def read_index(path: str, times: dict[str, dict[str, int]]) -> dict[str, Listing] | None:
    """Read a kept listing; None unless the folders are as they were then."""
    if not osp.isfile(path):
        return None
    try:
        content = read_json(path)
        if content["version"] == INDEX_VERSION and content["times"] == times:
            listings = {part: dict(content["images"][part]) for part in times}
            if all(list(listings[part]) == list(times[part]) for part in times):
                return listings
    except (KeyError, TypeError, ValueError) as error:
        warnings.warn(f"{path} is damaged and not used ({type(error).__name__}: {error})", stacklevel=3)
    return None
