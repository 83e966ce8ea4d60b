"""Which files a data set is made of, which of them are missing, and how each is recognised.

One entry is a file of any of three parts: "images"; "splits", CoOp's split file; "lists", whatever else is needed only
without a split file. None of the addresses was tried when this was written: a fetch that fails says what to put where
by hand, and goes on from there.
"""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence

from clip.loading.download import Check, Digest

from ..base import SplitDataset
from ..layout import Layout, find_file, find_images
from ..published import Download, drive_url
from .checks import IsArchive, PublishedNames, PublishedSplit


def downloads_of(kind: type[SplitDataset]) -> list[Download]:
    """Return every file of the data set that can be had, images first."""
    if not (kind.published and kind.published.split_drive_id):
        return list(kind.downloads)
    return [*kind.downloads, Download("splits", drive_url(kind.published.split_drive_id), kind.split_file)]


def check_of(download: Download, kind: type[SplitDataset]) -> Check:
    """Return how the right file is recognised: by its sum where one is known, else by its content."""
    if download.md5:
        return Digest("md5", download.md5)
    if download.names_sha256:
        return PublishedNames(download.names_sha256)
    return PublishedSplit(kind) if download.part == "splits" else IsArchive()


def wanted_downloads(kind: type[SplitDataset], parts: Sequence[str] = ()) -> list[Download]:
    """Return the files of `parts` (of PARTS); by default all that the data set needs to be built."""
    downloads = downloads_of(kind)
    has_split = any(download.part == "splits" for download in downloads)
    parts = parts or ("images", "splits" if has_split else "lists")
    return [download for download in downloads if download.part in parts]


def missing_downloads(kind: type[SplitDataset], folder: str, parts: Sequence[str] = ()) -> list[Download]:
    """Return the wanted downloads of which the loader would miss something.

    Parameters
    ----------
    kind
        The data set.
    folder
        Its folder, under whatever name; it may be missing.
    parts
        As for `wanted_downloads`.
    """
    wanted = wanted_downloads(kind, parts)
    if not osp.isdir(folder):
        return wanted
    layout = Layout(folder, find_images(folder, kind))
    return [download for download in wanted if not all(_exists(name, layout, kind) for name in download.names)]


def _exists(name: str, layout: Layout, kind: type[SplitDataset]) -> bool:
    """Whether the loader, which reads other places than the usual ones as well, finds this file or folder."""
    below = osp.relpath(name, kind.image_folder or ".")
    is_image = not below.startswith("..") and osp.exists(osp.join(layout.images, below))
    return is_image or osp.exists(find_file(layout, name))
