"""Copies of pictures in a folder for each class, for people who sort their photographs.

An original is never moved or changed, and nothing that lies in the target is overwritten. A copy keeps its picture's
name; where another picture has that name already, because two came from different folders or an earlier call put one
there, the copy gets a number: "IMG_1 (2).jpg". A picture that is there with the same content is not copied again, so
that a call can be repeated.
"""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dassl.plain.text import first_few, printable
from dassl.plain.writing import clear_leftovers, copy_new, disk_failed
from runs.files import DiskError, ResultsError
from runs.restore.source import PredictError

from .classifier import NONE, Prediction

NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*]')  # of files on some system, where a copied folder must still work
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
LONGEST = 100  # bytes of a folder's name
LONGEST_FILE = 255  # bytes of a file's name on most systems


def folder_names(classes: Iterable[str]) -> dict[str, str]:
    """Choose a folder for every class, also for one whose name could not be a folder's.

    Returns
    -------
    dict
        Class name -> the name of its folder: the same, where a folder may be called that. No two classes share one,
        not even where capitals do not count.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(classes):
        legal = NOT_IN_NAMES.sub("_", printable(name)).strip(" .")
        legal = legal.encode()[:LONGEST].decode(errors="ignore").rstrip(" .") or "_"
        if legal.partition(".")[0].casefold() in DEVICES:
            legal = f"_{legal}"
        number = 1
        while _folded(_numbered(legal, number)) in taken:
            number += 1
        names[name] = _numbered(legal, number)
        taken.add(_folded(names[name]))
    return names


def check_target(folder: Path, places: Sequence[str | Path]) -> None:
    """Raise PredictError where copies would lie among the pictures that the next call reads."""
    if folder.exists() and not folder.is_dir():
        raise PredictError(f"--sort-into {folder} is a file; name a folder")
    for place in map(Path, places):
        if place.is_dir() and folder.resolve().is_relative_to(place.resolve()):
            raise PredictError(
                f"--sort-into {folder} lies in {place}, which is searched for pictures: its copies would be read as "
                "pictures the next time; name a folder outside of it"
            )


class Sorter:
    """Puts copies of pictures into folders of the classes that they are taken for.

    Parameters
    ----------
    folder
        Of the classes' folders, which are made as they are needed.
    classes
        All that may come.
    threshold
        Pictures whose likeliest class has a probability below it go to the folder for none of these.

    Attributes
    ----------
    copied
        How many pictures were copied, by class.
    present
        How many were there already, with the same content.
    """

    def __init__(self, folder: Path, classes: Sequence[str], threshold: float | None = None) -> None:
        self.folder, self.threshold = folder, threshold
        self.copied: Counter[str] = Counter()
        self.present = 0
        self._names = folder_names([*classes, NONE])
        clear_leftovers(folder)

    def sort(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Pass predictions on, and copy the picture of each on the way.

        Raises
        ------
        ResultsError
            Where a picture cannot be copied; those before it are.
        """
        for prediction in predictions:
            assert prediction.path is not None
            answer = prediction.answer(self.threshold)
            place = self.folder / self._names[answer]
            try:
                if copy_into(prediction.path, place):
                    self.copied[answer] += 1
                else:
                    self.present += 1
            except OSError as error:
                kind = DiskError if disk_failed(error) else ResultsError
                raise kind(f"cannot copy {prediction.path} into {place}: {error.strerror or error}") from error
            yield prediction

    def summary(self) -> str:
        """Return a line about what was copied."""
        total = sum(self.copied.values())
        counts = first_few((f"{name} {count}" for name, count in self.copied.most_common()), 8)
        line = f"copied: {total} image{'s' * (total != 1)} into {self.folder}" + (f" ({counts})" if counts else "")
        return line + (f"; {self.present} there already" if self.present else "")


def copy_into(path: Path, folder: Path) -> bool:
    """Copy a file into a folder, under its name or that and a number.

    Returns
    -------
    bool
        False where the folder holds the same content under such a name already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        target = folder / _numbered(path.stem, number, path.suffix)
        if os.path.lexists(target):
            if target.is_file() and filecmp.cmp(path, target, shallow=False):
                return False
            number += 1
            continue
        try:
            copy_new(path, target)
            return True
        except FileExistsError:  # another process was faster: look at what it put there
            continue


def _numbered(stem: str, number: int, suffix: str = "") -> str:
    """Return a name with its number, shortened where it would be too long; the first one has none."""
    if number == 1:
        return stem + suffix
    end = f" ({number}){suffix}"
    room = LONGEST_FILE - len(os.fsencode(end))
    return os.fsencode(stem)[:room].decode("utf-8", "ignore") + end


def _folded(name: str) -> str:
    """Return what is left of a name on a system that sees no capitals and joins accents with their letters."""
    return unicodedata.normalize("NFC", name).casefold()
