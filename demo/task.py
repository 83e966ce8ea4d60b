"""The few-shot task on disk: 14 classes of the chalk world, 40 train, 8 val and 40 test images each.

    <folder>/images/<class>/<split>_<number>.jpg
    <folder>/split_zhou_Demo.json     CoOp's format
    <folder>/demo_world.json          written last: generator version and the SHA-256 of every file

What is there and intact is kept, what is missing or damaged is drawn again, and everything is drawn again
when the generator has changed. Each file appears under its name only when it is complete, and two processes
that write at once write the same, so a reader never sees half a file.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from dassl.plain.writing import atomic_write
from dassl.utils import read_json, write_json

from .scenes import chalk_scene

VERSION = 2  # raise it when the pictures change: folders written by an older version are then drawn again

CLASSES = (  # in label order
    "church", "hot air balloon", "house", "ice cream", "lighthouse", "mushroom", "rocket", "sailboat", "snowman",
    "steamship", "train", "truck", "umbrella", "windmill",
)  # fmt: skip
IMAGES_PER_CLASS = {"train": 40, "val": 8, "test": 40}
SPLIT_FILE = "split_zhou_Demo.json"
MARKER = "demo_world.json"


def listing() -> dict[str, list[list[Any]]]:
    """Return the split file: split -> [[path below images/, label, class name], ...], by class in label order."""
    return {
        split: [
            [f"{name.replace(' ', '_')}/{split}_{number:03d}.jpg", label, name]
            for label, name in enumerate(CLASSES)
            for number in range(count)
        ]
        for split, count in IMAGES_PER_CLASS.items()
    }


def draw(path: str, name: str) -> bytes:
    """Draw the JPEG file of one image; it depends on its path (below images/) and class only."""
    return jpeg(chalk_scene(name, path).image)


def jpeg(image: Image.Image) -> bytes:
    """Return the file of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def write_task(folder: str | Path, progress: bool = True) -> int:
    """Make the task in `folder` complete.

    Parameters
    ----------
    folder
        Folder of the data set; made if need be.
    progress
        Whether a bar is shown where the console is a terminal.

    Returns
    -------
    int
        How many images had to be drawn.

    Raises
    ------
    OSError
        Where the folder cannot be written to (no space left, say); the message has the remedy.
    """
    folder = Path(folder)
    split = listing()
    pictures = {path: partial(draw, path, name) for entries in split.values() for path, _, name in entries}
    return write_pictures(folder / "images", pictures, folder / MARKER, VERSION, progress, {folder / SPLIT_FILE: split})


def write_pictures(
    folder: Path,
    pictures: Mapping[str, Callable[[], bytes]],
    marker: Path,
    version: int,
    progress: bool = True,
    tables: Mapping[Path, Any] | None = None,
) -> int:
    """Make a folder of drawn pictures complete; return how many had to be drawn.

    Parameters
    ----------
    folder
        Where they belong; made if need be.
    pictures
        path below it -> what draws the file.
    marker, version
        The JSON file that is written last, and the number of the generator that it says.
    progress
        Whether a bar is shown where the console is a terminal.
    tables
        Other JSON files, with their contents.

    Raises
    ------
    OSError
        As in `write_task`.
    """
    known = _known_digests(marker, version)
    todo = [path for path in pictures if _digest(folder / path) != known.get(path, "")]
    tables = tables or {}
    if not todo and all(_content(path) == content for path, content in tables.items()):
        return 0
    try:
        digests = {path: known[path] for path in pictures if path in known}
        for path in tqdm(todo, desc=f"Drawing {folder}", unit="image", disable=None if progress else True, leave=False):
            picture = pictures[path]()
            with atomic_write(folder / path, "wb") as file:
                file.write(picture)
            digests[path] = hashlib.sha256(picture).hexdigest()
        for table, content in tables.items():
            write_json(content, table)
        write_json({"version": version, "sha256": digests}, marker)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write the demo data below {marker.parent} ({error.strerror}); it needs 12 MB in a folder that "
            "may be written to: make room, or choose another DATASET.ROOT (--root)",
        ) from error
    return len(todo)


def _known_digests(marker: Path, version: int) -> dict[str, str]:
    """Digests of the images that a version of the generator wrote; {} when there are none."""
    content = _content(marker)
    return content["sha256"] if isinstance(content, dict) and content.get("version") == version else {}


def _content(path: Path) -> Any:
    """Read what a JSON file says; None when it is missing or damaged."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
