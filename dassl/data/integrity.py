"""Is this the data we think it is? A fingerprint of a data set, and a check that its images decode."""

from __future__ import annotations

import hashlib
import os
import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from dassl.utils.images import ImageError, open_image
from dassl.utils.tools import FileState, file_state, printable

from .image_memory import IMAGES

SPLITS = ("train_x", "train_u", "val", "test")
MOST_DECODED = 20_000  # images of a split; decoding takes milliseconds each, and 16 shots of ImageNet are 16,000
MOST_REMEMBERED = 200_000  # files whose state is known to be good, from run to run of a process
CHUNK = 32  # images per task, so that a hundred thousand of them do not become as many tasks
SHOWN = 12  # bad files that a message names


def fingerprint(dataset: Any) -> str:
    """Return a digest of what a data set holds: split, label, path and class name of every image, in order.

    It is that of the data as it is used, after few-shot and base/new selection. Paths below `dataset.dataset_dir` are
    taken relative to it, so the same data elsewhere has the same fingerprint; the pixels are not read.

    Returns
    -------
    str
        SHA-256 in hex.
    """
    folder = osp.abspath(dataset.dataset_dir) if dataset.dataset_dir else None
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        items = getattr(dataset, "train_x" if split == "train" else split) or []
        for item in items:
            path = _relative_posix(item.impath, folder)
            digest.update(
                f"{split}\t{item.label}\t{path}\t{item.classname}\n".encode("utf-8", "surrogateescape")
            )
    return digest.hexdigest()


def _relative_posix(path: str, folder: str | None) -> str:
    """Return `path` relative to the absolute `folder` when it lies below it, with forward slashes."""
    if folder is not None and path.startswith(folder + os.sep):
        path = path[len(folder) + 1 :]
    return path.replace(os.sep, "/")


def check_images(dataset: Any, progress: bool = True, splits: Iterable[str] = SPLITS) -> None:
    """Decode every training and validation image, and look at the beginning and the end of every test image.

    Files that this process has found sound before, and that have not changed, are not looked at again.
    Splits of more than MOST_DECODED images are not decoded either: damage in the middle of a file is found on the
    way. Of one's own pictures (`dataset.all_images`, where it has them) also those are looked at that this run does
    not use, and where something is wrong all are decoded, so that no further try finds more.

    Parameters
    ----------
    dataset : DatasetBase
        The data set.
    progress : bool
        Show a bar when the console is a terminal.
    splits : iterable of str
        Attributes of the data set to look at.

    Raises
    ------
    ValueError
        It names the first SHOWN bad files, how many there are, and what the data set says of them
        (`dataset.about_bad_images`).
    """
    decode: dict[str, bool] = {}  # path -> whether fully
    for name in splits:
        items = getattr(dataset, name) or []
        fully = name != "test" and len(items) <= MOST_DECODED
        for item in items:
            decode[item.impath] = decode.get(item.impath, False) or fully
    own = getattr(dataset, "all_images", ())
    decode = dict.fromkeys(own, False) | decode
    bad = bad_images(decode, progress)
    if bad and own:
        bad |= bad_images(dict.fromkeys(own, True), progress)
    if bad:
        shown = "\n  ".join(bad_lines(bad))
        advice = getattr(dataset, "about_bad_images", "")
        raise ValueError(
            f"{len(bad)} of {len(decode)} image files cannot be read:\n  {shown}\n"
            "replace them (the archive may be incompletely unpacked), or take them out of the data set"
            + (f"; {advice}" if advice else "")
        )


def bad_lines(bad: Mapping[str, str], limit: int = SHOWN) -> list[str]:
    """Return "path: reason" of the first bad files and how many more there are, for a message."""
    lines = [f"{printable(path)}: {reason}" for path, reason in list(bad.items())[:limit]]
    return lines + [f"... and {len(bad) - limit} more"] * (len(bad) > limit)


# --- looking at files ------------------------------------------------------------------------------------

_sound: dict[str, tuple[FileState | None, bool]] = {}  # found readable by this process: state, whether decoded


def bad_images(decode: Mapping[str, bool], progress: bool = True) -> dict[str, str]:
    """Return what `unreadable` does, but without looking at what this process knows to be sound."""
    unknown = {path: fully for path, fully in decode.items() if not _known_sound(path, fully)}
    bad = unreadable(unknown, progress=progress)
    if len(_sound) + len(unknown) - len(bad) > MOST_REMEMBERED:
        _sound.clear()
    sound = [path for path in unknown if path not in bad][:MOST_REMEMBERED]
    _sound.update((path, (file_state(path), unknown[path])) for path in sound)
    return bad


def _known_sound(path: str, fully: bool) -> bool:
    if IMAGES.holds(path):
        return True
    state, decoded = _sound.get(path, (None, False))
    return state is not None and (decoded or not fully) and state == file_state(path)


def unreadable(
    decode: Mapping[str, bool], title: str = "Checking images", progress: bool = True
) -> dict[str, str]:
    """Find the image files that cannot be read.

    Parameters
    ----------
    decode : mapping
        Path -> whether to decode it fully. Otherwise its header is read, and it is decoded only where it does not end
        as its format does: it may be cut.
    title : str
        Of a bar, which is shown when the console is a terminal.
    progress : bool
        Off: no bar.

    Returns
    -------
    dict
        Path -> reason, in the order of `decode`.
    """
    tasks = list(decode.items())
    chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
    bad: dict[str, str] = {}
    # Pillow lets go of the interpreter lock while it decodes, so threads do run side by side.
    with (
        ThreadPoolExecutor(max_workers=min(16, 2 * (os.cpu_count() or 1))) as pool,
        tqdm(total=len(tasks), desc=title, unit="image", disable=None if progress else True, leave=False) as bar,
    ):
        try:
            for chunk, found in zip(chunks, pool.map(_check_chunk, chunks), strict=True):
                bad |= found
                bar.update(len(chunk))
        except BaseException:  # Ctrl-C should not wait for the remaining images
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return bad


def _check_chunk(tasks: Sequence[tuple[str, bool]]) -> dict[str, str]:
    bad = {}
    for path, fully in tasks:
        try:
            with open_image(path) as image:
                if fully or not _has_its_end(path, image.format):
                    # A JPEG at an eighth of its size: all of the file is read, but most of the arithmetic is saved.
                    image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
                    image.load()
        except ImageError as error:
            bad[path] = error.reason
        except OSError as error:
            bad[path] = printable(error)
    return bad


_JPEG_END = b"\xff\xd9"
ENDS = {"JPEG": _JPEG_END, "MPO": _JPEG_END, "PNG": b"IEND\xaeB`\x82"}  # of a whole file, but for some trailing bytes
TAIL = 256


def _has_its_end(path: str, kind: str | None) -> bool:
    """Tell whether the last bytes of an image file say that it is whole; False also where this cannot be told."""
    end = ENDS.get(kind or "")
    if end is None:
        return False
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - TAIL))
        return end in file.read()
