"""How a downloaded file is known to be the published one, where no hash of the file itself is known.

Each is a check as clip/loading/download.py wants it: `problem` says what is wrong with a file, the text what is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dassl.utils import read_json
from dassl.utils.unpacking import is_archive

from ..base import SplitDataset
from ..loaders.imagenet import read_classnames
from ..published import names_digest
from ..splits import SPLITS, json_digest


@dataclass(frozen=True)
class IsArchive:
    """An archive whose hash is not known: only what an HTML page of an error would be is noticed.

    Unpacking finds what is damaged.
    """

    def problem(self, path: Path) -> str:
        """Say what is wrong with the file; "" if nothing is."""
        return "" if is_archive(path) else "is no tar or zip archive"

    def __str__(self) -> str:
        return "no hash is known"


@dataclass(frozen=True)
class PublishedSplit:
    """CoOp's split file of a data set.

    It is known by its content without white space, or, where that digest is not known, by its counts and class names.
    """

    kind: type[SplitDataset]

    def problem(self, path: Path) -> str:
        """Say what is wrong with the file; "" if nothing is."""
        published = self.kind.published
        assert published is not None
        try:
            split = read_json(path)
            if published.split_sha256:
                right = json_digest(split) == published.split_sha256
            else:
                names = {label: name for part in SPLITS for _, label, name in split[part]}
                counts = tuple(len(split[part]) for part in SPLITS)
                digest = names_digest([names[label] for label in sorted(names)])
                right = (counts, digest) == (published.counts, published.names_sha256)
        except (KeyError, TypeError, ValueError):  # damaged JSON is a ValueError
            return "is no split file"
        return "" if right else f"is not {self}"

    def __str__(self) -> str:
        return f"the published split of {self.kind.__name__}"


@dataclass(frozen=True)
class PublishedNames:
    """classnames.txt of ImageNet, or cat_to_name.json of the flowers: known by the names, in order of the labels."""

    sha256: str

    def problem(self, path: Path) -> str:
        """Say what is wrong with the file; "" if nothing is."""
        try:
            if ".json" in path.suffixes:  # perhaps with .part after it
                content = read_json(path)
                names = [content[key] for key in sorted(content, key=int)]
            else:
                names = list(read_classnames(str(path)).values())
        except (AttributeError, KeyError, TypeError, ValueError):
            return "is no list of class names"
        return "" if names_digest(names) == self.sha256 else f"does not hold {self}"

    def __str__(self) -> str:
        return f"the published names, sha256 {self.sha256[:16]}"
