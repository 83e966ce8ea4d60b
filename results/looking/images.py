"""Which image files there are, in the places that a command line names."""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dassl.plain.image_formats import image_suffixes
from runs.files import ResultsError


def find_images(places: Iterable[str | Path], leave_out: Path | None = None) -> list[Path]:
    """A file as it is given, whatever its name; of a folder all images below it, sorted.  Each path once.

    Hidden files and folders, and the folder `leave_out`, are not searched.  Raises ResultsError for a path that is not
    there and for a folder without images.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        if place.is_dir():
            found |= dict.fromkeys(_images_below(place, leave_out))
        elif place.exists():
            found[place] = None
        else:
            raise ResultsError(f"{place} does not exist; give image files, or folders that hold some")
    return list(found)


def _images_below(folder: Path, leave_out: Path | None) -> list[Path]:
    suffixes = image_suffixes()
    images, others = [], Counter[str]()
    for here, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and not _same(here, name, leave_out)]
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith(".") or suffix not in suffixes:
                others[suffix or "files without suffix"] += 1
            else:
                images.append(Path(here, name))
    if not images:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(4))
        raise ResultsError(f"no image in {folder} ({f'it holds {kinds}' if kinds else 'it is empty'})")
    return sorted(images)


def _refuse(error: OSError) -> None:
    raise ResultsError(f"{error.filename} cannot be searched: {error.strerror}")


def _same(here: str, name: str, folder: Path | None) -> bool:
    return folder is not None and folder.is_dir() and os.path.samefile(os.path.join(here, name), folder)
