"""Fetch what a data set lacks: download, check, unpack beside it, move into place.

A file beside the data set's folder is locked meanwhile, so that a second fetch waits and then finds everything
there. Whatever breaks off leaves the data set as it was, and the part of the download that came.
"""

from __future__ import annotations

import contextlib
import os
import os.path as osp
import shutil
from collections.abc import Sequence
from pathlib import Path

from clip.loading.download import Check, download_file, locked
from dassl.plain.writing import abandoned, host
from dassl.utils.unpacking import BadArchive, unpack

from ..base import SplitDataset
from ..files import move
from ..layout import find_folder, find_layout
from ..published import Download
from . import MIRROR
from .downloads import check_of, missing_downloads, wanted_downloads
from .sources import source_of

UNPACKED = 1.1  # bytes of the content for one of an archive; pictures hardly shrink
WORKSHOP = ".unpacking"  # .HOST-PID: folder in the data set's, while an archive is unpacked


def fetch(
    kind: type[SplitDataset],
    root: str,
    parts: Sequence[str] = (),
    again: bool = False,
    keep: bool = False,
    mirror: str = "",
) -> list[str]:
    """Fetch what a data set lacks.

    Parameters
    ----------
    kind
        The data set.
    root
        The folder that holds the data sets' folders; made if need be.
    parts
        Which of `PARTS` to fetch; by default all that a run needs.
    again
        Whether to fetch also what is there.
    keep
        Whether to keep the archives after unpacking. Those that were there before are always kept.
    mirror
        Address of a mirror, as `datasets.fetching.sources` explains.

    Returns
    -------
    list of str
        What went wrong, in words that say what to do; empty if nothing did.
    """
    folder = osp.join(root, kind.dataset_dir)
    if not (downloads := plan(kind, root, parts, again)):
        return []
    if problem := _misnamed(kind, root, folder, downloads):
        return [problem]
    Path(root).mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    with locked(Path(folder)):
        for download in plan(kind, root, parts, again):  # once more: another process may have fetched it
            try:
                _obtain(download, check_of(download, kind), Path(folder), keep, mirror)
                print(f"{download.file} -> {', '.join(download.targets(folder))}", flush=True)
            except (RuntimeError, OSError, ValueError) as error:
                problems.append(f"{kind.config}: {error}")
        with contextlib.suppress(OSError):
            Path(folder).rmdir()  # if nothing came
    return list(dict.fromkeys(problems))


def plan(kind: type[SplitDataset], root: str, parts: Sequence[str], again: bool) -> list[Download]:
    """Return what there is to fetch, images first; the arguments are those of `fetch`."""
    if again:
        return wanted_downloads(kind, parts)
    return missing_downloads(kind, find_folder(root, kind) or osp.join(root, kind.dataset_dir), parts)


def preview(kind: type[SplitDataset], root: str, parts: Sequence[str], again: bool) -> str:
    """Say what `fetch` would do: files, sizes, addresses, and where they go."""
    folder = osp.join(root, kind.dataset_dir)
    downloads = plan(kind, root, parts, again)
    if downloads and (problem := _misnamed(kind, root, folder, downloads)):
        return problem
    lines = [f"{kind.__name__} ({kind.config}): " + ("would fetch" if downloads else "nothing to fetch")]
    for download in downloads:
        lines += [f"  {download.origin}", f"    {download.url}"] if download.url else [f"  {download.origin}"]
        lines.append(f"    check: {check_of(download, kind)}; becomes {', '.join(download.targets(folder))}")
    by_hand = dict.fromkeys(d.otherwise.format(folder=folder) for d in downloads if d.otherwise)
    return "\n".join([*lines, *(f"  {line}" for line in by_hand)])


def _misnamed(kind: type[SplitDataset], root: str, folder: str, downloads: Sequence[Download]) -> str:
    """Say what to rename first, so that nothing is fetched that is there under another name.

    Returns "" where folder and images have their usual names, or there is nothing yet.
    """
    layout = find_layout(root, kind)
    if layout is None:
        return ""
    images = osp.normpath(osp.join(folder, kind.image_folder))
    if layout.folder != osp.normpath(folder):
        source, target = layout.folder, folder
    elif layout.images not in (images, folder) and any(download.part == "images" for download in downloads):
        source, target = layout.images, images
    else:
        return ""
    return f"{kind.config}: {source} seems to be it; rename it and try again: {move(source, target)}"


def _obtain(download: Download, check: Check, folder: Path, keep: bool, mirror: str) -> None:
    """Fetch, unpack and place one file.

    Raises
    ------
    RuntimeError
        When it cannot be fetched.
    OSError
        When it cannot be written, or moved into its place.
    ValueError
        When an archive that the user put there is not the right one, or is damaged.
    """
    file = folder / download.file
    own = file.is_file()  # put there by the user, or kept by an earlier fetch
    if download.url:
        levels = 0 if not download.gives else 2 if download.inside else 1
        source = source_of(download.url, mirror)
        download_file(source, file, check, f"--mirror or {MIRROR}", 1 + UNPACKED * levels)
    elif not own:
        raise RuntimeError(f"{download.part}: {download.otherwise.format(folder=folder)}")
    elif problem := check.problem(file):
        raise ValueError(f"{file} {problem}; get it again")
    if not download.gives:
        return
    try:
        _unpack_into(download, file, folder)
    except BadArchive:
        if not own:  # what we fetched ourselves is of no use
            file.unlink()
        raise
    except OSError as error:
        raise OSError(error.errno, f"{error}; {file} is kept, and the same command unpacks it") from error
    if own:
        print(f"note: {file} was there before and is kept")
    elif not keep:
        file.unlink()


def _unpack_into(download: Download, archive: Path, folder: Path) -> None:
    """Unpack what a download gives into a folder of its own, then move it into the data set's."""
    for left in folder.glob(f"{WORKSHOP}.*"):
        machine, _, pid = left.name.removeprefix(f"{WORKSHOP}.").rpartition("-")
        if pid.isdecimal() and abandoned(left, machine, int(pid)):  # of a fetch that was killed
            shutil.rmtree(left, ignore_errors=True)
    workshop = folder / f"{WORKSHOP}.{host()}-{os.getpid()}"  # without a lock, another process may unpack as well
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    try:
        if download.inside:
            unpack(archive, workshop / "outer", [download.inside])
            archive = workshop / "outer" / download.inside
        unpack(archive, workshop / "inner", list(download.gives.values()))
        for target, source in download.gives.items():
            move_into(workshop / "inner" / source, folder / target)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def move_into(source: Path, target: Path) -> None:
    """Move a file or folder to `target`, in one step where nothing is there.

    Otherwise the files of `source` replace those of the same name, and others stay.
    """
    if source.is_dir() and target.is_dir():
        for child in sorted(source.iterdir()):
            move_into(child, target / child.name)
        source.rmdir()
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
