"""Where a data set lies: in CoOp's place, or under one of the names that archives and other projects give it.

    DATASET.ROOT/<dataset_dir>/<image_folder>          CoOp's place, which wins where it exists
    caltech101/, Caltech-101/, ...                     another name, or another spelling, of the data set's folder
    dtd/dtd/images, fgvc-aircraft-2013b/data/images    the archive unpacked one or two folders deeper
    imagenet/train, SUN397/a, EuroSAT/Forest           the images' folder left out

The split file and the other lists may stand in the data set's folder, or beside the images' folder.
"""

from __future__ import annotations

import os.path as osp
import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .files import list_folders

if TYPE_CHECKING:
    from .base import SplitDataset

# A data set's declaration, on its class or on an object under construction.
Declared: TypeAlias = "SplitDataset | type[SplitDataset]"

NO_IMAGES = {"annotations", "imagesets"}  # with folders named as those of images: ILSVRC/Annotations/CLS-LOC/train
DEPTH = 3  # folders below the data set's in which its images are looked for


class Layout(NamedTuple):
    """What was found; `images` is the place where they belong if they are nowhere."""

    folder: str
    images: str


def find_folder(root: str, kind: Declared) -> str | None:
    """Find the data set's folder.

    Parameters
    ----------
    root
        The folder that holds the data sets' folders.
    kind
        The data set.

    Returns
    -------
    str or None
        Its folder below `root`, in CoOp's place or under another name that is known; None if there is none.
    """
    usual = osp.normpath(osp.join(root, kind.dataset_dir))
    if osp.isdir(usual):
        return usual
    if kind.published is None or not osp.isdir(root):
        return None
    names: dict[str, str] = {}
    for folder in list_folders(root):
        names.setdefault(_spelling(folder), folder)
    kind_name = (kind if isinstance(kind, type) else type(kind)).__name__
    spellings = map(_spelling, (kind.dataset_dir, *kind.published.aliases, kind_name))
    match = next((names[spelling] for spelling in spellings if spelling in names), None)
    return osp.join(root, match) if match else None


def _spelling(name: str) -> str:
    """Reduce a name to what its spellings share: 'Caltech-101', 'caltech_101' and 'caltech101' are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_images(folder: str, kind: Declared) -> str:
    """Find the folder of the images in a data set's folder; its proper place where there is none."""
    proper = osp.normpath(osp.join(folder, kind.image_folder))
    published = kind.published
    if published is None or _holds(proper, published.image_holds if not kind.image_folder else ""):
        return proper
    names = {_spelling(alias) for alias in (kind.image_folder, *published.image_aliases) if alias}
    return _search(folder, names, published.image_holds, DEPTH) or proper


def _search(folder: str, names: set[str], holds: str, depth: int) -> str | None:
    """Find the first folder with one of these names, or with a child that matches a pattern.

    Parameters
    ----------
    folder
        Where to begin; it is looked at first.
    names
        Spellings, as `_spelling` gives them.
    holds
        Pattern of a child's whole name; "" to go by names alone.
    depth
        How many levels down to look.
    """
    if holds and _holds(folder, holds):
        return folder
    children = [child for child in list_folders(folder) if _spelling(child) not in NO_IMAGES] if depth else []
    for child in children:
        if _spelling(child) in names:
            return osp.join(folder, child)
    deeper = (_search(osp.join(folder, child), names, holds, depth - 1) for child in children)
    return next(filter(None, deeper), None)


def _holds(folder: str, holds: str) -> bool:
    """Whether `folder` exists and has a child that matches `holds`, if that is given."""
    if not osp.isdir(folder):
        return False
    return not holds or any(re.fullmatch(holds, child) for child in list_folders(folder))


def find_layout(root: str, kind: Declared) -> Layout | None:
    """Where the data set lies below `root`; None if there is nothing like it."""
    folder = find_folder(root, kind)
    return Layout(folder, find_images(folder, kind)) if folder else None


def find_file(layout: Layout, *parts: str) -> str:
    """Find a file or folder in the data set's folder, or beside its images; the former place where it is in neither."""
    places = [osp.join(place, *parts) for place in (layout.folder, osp.dirname(layout.images), layout.images)]
    return next((path for path in places if osp.exists(path)), places[0])
