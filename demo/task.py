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
from pathlib import Path
from typing import Any

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
    buffer = io.BytesIO()
    chalk_scene(name, path).image.save(buffer, "JPEG", quality=88)
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
    images, split_path = folder / "images", folder / SPLIT_FILE
    known = _known_digests(folder / MARKER)
    split = listing()
    entries = [entry for items in split.values() for entry in items]
    todo = [(path, name) for path, _, name in entries if _digest(images / path) != known.get(path, "")]
    if not todo and _content(split_path) == split:
        return 0
    try:
        digests = {path: known[path] for path, _, _ in entries if path in known}
        bar = tqdm(todo, desc=f"Drawing {images}", unit="image", disable=None if progress else True, leave=False)
        for path, name in bar:
            content = draw(path, name)
            with atomic_write(images / path, "wb") as file:
                file.write(content)
            digests[path] = hashlib.sha256(content).hexdigest()
        write_json(split, split_path)
        write_json({"version": VERSION, "sha256": digests}, folder / MARKER)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write the demo data below {folder} ({error.strerror}); it needs 12 MB in a folder that "
            "may be written to: make room, or choose another DATASET.ROOT (--root)",
        ) from error
    return len(todo)


def _known_digests(marker: Path) -> dict[str, str]:
    """Digests of the images that this version of the generator wrote; {} when there are none."""
    content = _content(marker)
    return content["sha256"] if isinstance(content, dict) and content.get("version") == VERSION else {}


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
