"""What a published data set says of itself: counts, fingerprints, and the files that it is made of.

A loader declares one `Published` and its `Download`s as class attributes. They are plain data, so that this module
needs neither network nor torch: `datasets.fetching` gets the files, `datasets.checking` compares a copy with them.
"""

from __future__ import annotations

import hashlib
import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

PARTS = ("images", "splits", "lists")
DRIVE = "https://drive.usercontent.google.com/download"

Picks = dict[tuple[int, int], tuple[str, str]]  # (shots, seed) -> check values of train and val


@dataclass(frozen=True)
class Published:
    """The published form of a data set. Numbers and digests that are not known are 0 and "".

    Parameters
    ----------
    counts
        Images in train, val and test of CoOp's split; 0 where the data set has no such list of its own.
    classes
        Number of classes.
    images
        Which archive holds the images and what is in it, for messages.
    names_sha256
        `names_digest` of the class names in label order.
    split_drive_id
        Google Drive's id of CoOp's split file.
    split_sha256
        Digest of the split file without white space (`datasets.splits.json_digest`).
    base_new_test
        Test images of the base and of the new half of the classes.
    aliases
        Other names that archives and other projects give to the data set's folder.
    image_aliases
        The same for the folder of the images.
    image_holds
        Pattern of folder names by which the images' folder is recognised where it has another name or none.
    picks
        `picks_digest` of the few-shot train and val lists, by shots and seed.
    """

    counts: tuple[int, int, int]
    classes: int
    images: str
    names_sha256: str = ""
    split_drive_id: str = ""
    split_sha256: str = ""
    base_new_test: tuple[int, int] = (0, 0)
    aliases: tuple[str, ...] = ()
    image_aliases: tuple[str, ...] = ()
    image_holds: str = ""
    picks: Picks = field(default_factory=dict)

    @property
    def split_source(self) -> str:
        """Where the split file comes from, for messages."""
        return google_drive(self.split_drive_id) if self.split_drive_id else ""


@dataclass(frozen=True)
class Download:
    """One file to fetch, kept under `file` in the data set's folder until it is unpacked.

    Addresses are those that the publishers gave, or of a named mirror. MD5 sums are those that torchvision's data sets
    carry; without one, a file is recognised by its content (`datasets.fetching.checks`).

    Parameters
    ----------
    part
        One of `PARTS`: the images, CoOp's split file, or another list, which is needed only without a split file.
    url
        Address; "" where nothing can be fetched without a login, or at all. `otherwise` then says what to do.
    saved_as
        Name of the file where it is not the last part of the address.
    md5
        MD5 sum of the file, if known.
    names_sha256
        For a list of class names: `names_digest` of them.
    gives
        Path in the data set's folder -> path in the archive; empty for a file that is no archive.
    inside
        Path of the archive in the archive that holds these.
    gigabytes
        Rounded size, for people; 0 where it is small or not known.
    otherwise
        What to do by hand; `{folder}` stands for the data set's folder.
    """

    part: str
    url: str = ""
    saved_as: str = ""
    md5: str = ""
    names_sha256: str = ""
    gives: dict[str, str] = field(default_factory=dict)
    inside: str = ""
    gigabytes: float = 0.0
    otherwise: str = ""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.saved_as or self.url.rpartition("/")[2]

    @property
    def names(self) -> list[str]:
        """What stands in the data set's folder when this download is done, relative to it."""
        return list(self.gives) or [self.file]

    def targets(self, folder: str) -> list[str]:
        """Return the same as paths below `folder`."""
        return [osp.join(folder, name) for name in self.names]

    @property
    def host(self) -> str:
        """The server, or the file's id on Google Drive; "" without an address."""
        url = urlsplit(self.url)
        return google_drive(parse_qs(url.query)["id"][0]) if self.url.startswith(DRIVE) else url.netloc

    @property
    def origin(self) -> str:
        """File, size and server in words, like "dtd-r1.0.1.tar.gz, 0.6 GB, from www.robots.ox.ac.uk"."""
        size = f", {self.gigabytes:g} GB" if self.gigabytes else ""
        return f"{self.file}{size}, {f'from {self.host}' if self.host else 'by hand'}"


def google_drive(file_id: str) -> str:
    """Return a file's place on Google Drive in words."""
    return f"Google Drive, file id {file_id}"


def drive_url(file_id: str) -> str:
    """Return the address that sends a file of Google Drive."""
    return f"{DRIVE}?{urlencode({'id': file_id, 'export': 'download'})}"


def names_digest(classnames: Sequence[str]) -> str:
    """Return SHA-256 (hex) of class names in label order, joined by line feeds."""
    return hashlib.sha256("\n".join(classnames).encode()).hexdigest()


def picks_digest(labels_and_paths: Sequence[tuple[int, str]]) -> str:
    """Return the fingerprint of few-shot picks in their order.

    Parameters
    ----------
    labels_and_paths
        Label and path below the image folder of every picked image.

    Returns
    -------
    str
        First 16 hex digits of SHA-256 over the lines "label<TAB>path", joined by line feeds.
    """
    lines = "\n".join(f"{label}\t{path}" for label, path in labels_and_paths)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
