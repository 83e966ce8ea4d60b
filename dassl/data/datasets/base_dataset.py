"""`Datum`, one labelled image, and `DatasetBase`, the lists of them that a data set consists of.

The names of `Datum`'s attributes and this module's path occur in few-shot files that other programs
pickled, so neither may change.
"""

from __future__ import annotations

import logging
import os
import os.path as osp
import random
from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from dassl.plain.text import first_few
from dassl.utils import check_isfile
from dassl.utils.unpacking import unpack

log = logging.getLogger(__name__)


def _read_only(attribute: str) -> Any:
    """Return a property that shows an attribute of the object, and cannot be set."""
    return property(attrgetter(attribute))


class Datum:
    """One image on disk with its label; its parameters are read-only attributes.

    Code that has already checked many paths at once may build instances around the constructor with
    `Datum.__new__` and the four underscored attributes, as unpickling does.

    Parameters
    ----------
    impath : str
        Path of an existing file; an AssertionError for anything else.
    label : int
        The class, from 0.
    domain : int
        Where the image is from (photograph, sketch, ...), from 0, for data sets that tell.
    classname : str
        The class's name, as trainers put it into their prompts.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = "") -> None:
        if not isinstance(impath, str):
            raise AssertionError(f"impath must be a str, got {type(impath).__name__}: {impath!r}")
        if not check_isfile(impath):
            raise AssertionError(f"no image file at {impath!r}")
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    impath: str = _read_only("_impath")
    label: int = _read_only("_label")
    domain: int = _read_only("_domain")
    classname: str = _read_only("_classname")

    def __repr__(self) -> str:
        rest = f"label={self._label}, domain={self._domain}, classname={self._classname!r}"
        return f"Datum({self._impath!r}, {rest})"


class DatasetBase:
    """A data set: lists of `Datum` for training (labelled and unlabelled), validation and test.

    Classes are what occurs in `train_x`: labels must be 0, 1, ..., num_classes - 1, each with exactly one name. A
    subclass reads its lists in a constructor that takes `cfg`, and hands them to this one's.

    Parameters
    ----------
    train_x, train_u, val, test : list of Datum, optional
        Labelled and unlabelled training images, validation and test images. Only `train_x` must not be empty.

    Attributes
    ----------
    dataset_dir : str
        Folder below DATASET.ROOT, set by subclasses; absolute once built.
    domains : sequence of str
        The domains that a user may choose from, set by subclasses.
    lab2cname : dict
        Label -> class name, by ascending label. Read-only, as are all that follow, and the four lists.
    classnames : list of str
        Class names by label.
    num_classes : int
        Number of classes C: the largest label + 1.

    Raises
    ------
    ValueError
        Where there is no labelled image, a label below the highest is missing, or one has two names.
    """

    dataset_dir: str = ""
    domains: Sequence[str] = []

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        if not train_x:
            raise ValueError(f"{type(self).__name__}: no labelled training image, so no class is known")
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)
        if len(self._classnames) != self._num_classes:
            unused = sorted(set(range(self._num_classes)) - set(self._lab2cname))
            raise ValueError(
                f"{type(self).__name__}: labels go up to {self._num_classes - 1}, but no training image has "
                f"label {first_few(unused)}; give every class an image or number the labels without gaps"
            )

    train_x: list[Datum] = _read_only("_train_x")
    train_u: list[Datum] | None = _read_only("_train_u")
    val: list[Datum] | None = _read_only("_val")
    test: list[Datum] | None = _read_only("_test")
    lab2cname: dict[int, str] = _read_only("_lab2cname")
    classnames: list[str] = _read_only("_classnames")
    num_classes: int = _read_only("_num_classes")

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum]) -> int:
        """Return the largest label + 1."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum]) -> tuple[dict[int, str], list[str]]:
        """Return label -> name in ascending order of labels, and the names in that order.

        Raises ValueError when one label carries two names.
        """
        names: dict[int, str] = {}
        for item in data_source:
            known = names.setdefault(item.label, item.classname)
            if known != item.classname:
                raise ValueError(
                    f"label {item.label} has two class names, {known!r} and {item.classname!r} "
                    f"({item.impath}); every label needs exactly one"
                )
        mapping = {label: names[label] for label in sorted(names)}
        return mapping, list(mapping.values())

    def check_input_domains(self, source_domains: Sequence[str], target_domains: Sequence[str]) -> None:
        """Raise ValueError when a domain is not one of `self.domains`."""
        self.is_input_domain_valid(source_domains)
        self.is_input_domain_valid(target_domains)

    def is_input_domain_valid(self, input_domains: Sequence[str]) -> None:
        """Raise ValueError when a domain is not one of `self.domains`."""
        for domain in input_domains:
            if domain not in self.domains:
                raise ValueError(f"no domain named {domain!r}; known: {', '.join(self.domains) or 'none'}")

    def split_dataset_by_label(self, data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        """Return label -> items; labels in the order they are first seen, items in the order given."""
        return _grouped(data_source, "label")

    def split_dataset_by_domain(self, data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        """Return domain -> items; domains in the order they are first seen, items in the order given."""
        return _grouped(data_source, "domain")

    def generate_fewshot_dataset(
        self,
        *data_sources: list[Datum],
        num_shots: int = -1,
        repeat: bool = False,
        rng: random.Random | None = None,
    ) -> Any:
        """Draw the same number of random images of every class.

        Classes come in the order they are first seen and images in the order drawn, so that a given random state
        yields the published few-shot picks: exactly one `random.sample(items, num_shots)` for each class of each list.

        Parameters
        ----------
        *data_sources : list of Datum
            Lists to draw from, each for itself.
        num_shots : int
            Images of a class; below 1 the lists are returned as they are.
        repeat : bool
            A class with too few images is filled up by drawing with replacement. Otherwise it is taken whole, without
            a draw.
        rng : random.Random, optional
            The generator to draw from; by default Python's global one.

        Returns
        -------
        list
            A list of Datum for one list, else a list of those.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        log.info(f"Creating a {num_shots}-shot dataset")
        draw: Any = rng if rng is not None else random
        output = []
        for data_source in data_sources:
            chosen: list[Datum] = []
            for items in self.split_dataset_by_label(data_source).values():
                if len(items) >= num_shots:
                    chosen += draw.sample(items, num_shots)
                elif repeat:
                    chosen += draw.choices(items, k=num_shots)
                else:
                    chosen += items
            output.append(chosen)
        return output[0] if len(output) == 1 else output

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Fetch a file from Google Drive, and unpack a .zip, .tar or .tar.gz beside it.

        Needs the package `gdown`.

        Parameters
        ----------
        url : str
            Address at Google Drive.
        dst : str
            File to write.
        from_gdrive : bool
            Must be True: other sources are a NotImplementedError.

        Raises
        ------
        BadArchive
            (a ValueError) For an archive that is damaged, or not to be trusted: see `dassl.utils.unpacking`.
        """
        if not from_gdrive:
            raise NotImplementedError(
                f"only Google Drive downloads are built in; fetch {url} yourself to {dst}"
            )
        try:
            import gdown
        except ImportError as error:
            raise ImportError(
                f"downloading from Google Drive needs `pip install gdown` (or fetch {url})"
            ) from error
        folder = osp.dirname(osp.abspath(dst))
        os.makedirs(folder, exist_ok=True)
        gdown.download(url, dst, quiet=False)
        if dst.endswith((".zip", ".tar", ".tar.gz", ".tgz")):
            unpack(Path(dst), Path(folder))
            log.info(f"Unpacked {dst} into {folder}")


def _grouped(items: Iterable[Datum], attribute: str) -> dict[int, list[Datum]]:
    groups: dict[int, list[Datum]] = {}
    for item in items:
        groups.setdefault(getattr(item, attribute), []).append(item)
    return groups
