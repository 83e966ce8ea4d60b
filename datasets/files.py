"""Files and folders for the data sets: listing images, checking that they exist, saving where one may."""

from __future__ import annotations

import os
import os.path as osp
import shlex
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NoReturn, TypeVar

from dassl.utils import write_json

Item = TypeVar("Item")


def relative_posix(path: str, folder: str) -> str:
    """Return `path` relative to `folder` when it lies below it, else unchanged; with forward slashes."""
    prefix = folder.rstrip("/" + os.sep) + os.sep
    if path.startswith(prefix):
        path = path[len(prefix) :]
    return path.replace(os.sep, "/")


def list_folders(folder: str) -> list[str]:
    """Names of the visible sub-folders (or links to folders), sorted by code point: upper case first."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


@cache
def image_suffixes() -> frozenset[str]:
    """Return the endings of the names of pictures: of all that the engine reads, as they are found everywhere else."""
    try:
        from dassl.plain.image_formats import image_suffixes as read_here
    except ImportError:  # upstream's engine has no list: it reads whatever Pillow does
        from PIL import Image

        Image.init()
        return frozenset(Image.registered_extensions())
    return read_here()


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image: visible, with a suffix of `image_suffixes`."""
    return not name.startswith(".") and osp.splitext(name)[1].lower() in image_suffixes()


def list_images(folder: str, nested: bool = False) -> list[str]:
    """Paths of the visible images in `folder`, sorted; with `nested` also those in folders below it."""
    paths: list[str] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if nested else []
        paths += [osp.join(here, name) for name in names if is_image_name(name)]
    return sorted(paths)


def require_folder(folder: str, remedy: str) -> None:
    """Raise FileNotFoundError, naming the nearest folder that does exist, unless `folder` is one."""
    if not osp.isdir(folder):
        raise_no_folder(folder, remedy)


def raise_no_folder(folder: str, remedy: str) -> NoReturn:
    """Raise FileNotFoundError that names the missing folder, the nearest one that exists, and what to do."""
    parent = osp.dirname(folder)
    while not osp.isdir(parent) and osp.dirname(parent) != parent:
        parent = osp.dirname(parent)
    raise FileNotFoundError(f"no folder {folder} ({parent} exists); {remedy}")


def require_files(paths: Sequence[str], named_by: str, remedy: str) -> None:
    """Raise FileNotFoundError unless every path exists.

    The message names the first five and says how many are missing, as repr shows them: a name may hold what would
    command a terminal. One directory listing per folder rather than one look-up per file, which network storage makes
    slow.

    Parameters
    ----------
    paths
        The files.
    named_by
        What names them, for the message.
    remedy
        What to do, for the end of the message.
    """

    @cache
    def listed(folder: str) -> frozenset[str]:
        return frozenset(os.listdir(folder) if osp.isdir(folder) else ())

    # Some file systems find a name although they list another spelling of it (case, Unicode form).
    unlisted = [path for path in paths if osp.basename(path) not in listed(osp.dirname(path))]
    missing = [path for path in unlisted if not (listed(osp.dirname(path)) and osp.exists(path))]
    if missing:
        shown = "\n  ".join(map(repr, missing[:5])) + ("\n  ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"{len(missing)} of the {len(paths)} image files named by {named_by} do not exist:\n  {shown}\n{remedy}"
        )


def write_json_somewhere(content: Any, places: Sequence[str]) -> str | None:
    """Write to the first place that can be written: a data folder may be read-only.

    Returns
    -------
    str or None
        The place; None, with a warning, when none can be written: the content is a convenience that the next run makes
        again.
    """
    errors = []
    for path in places:
        try:
            write_json(content, path)
            return path
        except OSError as error:
            errors.append(f"{path}: {error.strerror or error}")
    warnings.warn(f"could not be saved, going on without: {'; '.join(errors)}", stacklevel=2)
    return None


def move(source: str, target: str) -> str:
    """Return the command for a shell that renames a folder, whatever the folders are called."""
    return shlex.join(["mv", source, target])


def grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    """Map every key to the items that have it; keys in the order in which they first appear, items in theirs."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def first_few(values: Iterable[Any], limit: int = 5) -> str:
    """Return the first values as 'a, b, c, ... (17 in all)'."""
    values = list(values)
    shown = ", ".join(str(value) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown}, ... ({len(values)} in all)"
