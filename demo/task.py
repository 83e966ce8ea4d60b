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
import json
import os
import uuid
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .scenes import chalk_scene

VERSION = 2  # raise it when the pictures change: folders written by an older version are then drawn again

# In label order.
CLASSES = (
    "church",
    "hot air balloon",
    "house",
    "ice cream",
    "lighthouse",
    "mushroom",
    "rocket",
    "sailboat",
    "snowman",
    "steamship",
    "train",
    "truck",
    "umbrella",
    "windmill",
)
IMAGES_PER_CLASS = {"train": 40, "val": 8, "test": 40}
SPLIT_FILE = "split_zhou_Demo.json"
MARKER = "demo_world.json"


def listing() -> dict[str, list[list[Any]]]:
    """The split file: split -> [[path below images/, label, class name], ...], by class in label order."""
    return {
        split: [
            [f"{name.replace(' ', '_')}/{split}_{number:03d}.jpg", label, name]
            for label, name in enumerate(CLASSES)
            for number in range(count)
        ]
        for split, count in IMAGES_PER_CLASS.items()
    }


def draw(path: str, name: str) -> bytes:
    """The JPEG file of one image of the task; it depends on its path (below images/) and class only."""
    buffer = io.BytesIO()
    chalk_scene(name, path).image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def write_task(folder: str | Path, progress: bool = True) -> int:
    """Make the task in `folder` complete; returns how many images had to be drawn.

    Raises OSError (say, no space left, or a read-only folder) with the remedy.
    """
    folder = Path(folder)
    images = folder / "images"
    known = _marker(folder)
    split = listing()
    entries = [entry for items in split.values() for entry in items]
    todo = [(path, name) for path, _, name in entries if _digest(images / path) != known.get(path, "")]
    split_path = folder / SPLIT_FILE
    if not todo and _content(split_path) == split:
        return 0
    try:
        digests = {path: known[path] for path, _, _ in entries if path in known}
        for path, name in tqdm(
            todo, desc=f"Drawing {images}", unit="image", disable=None if progress else True, leave=False
        ):
            content = draw(path, name)
            _write(images / path, content)
            digests[path] = hashlib.sha256(content).hexdigest()
        _write(split_path, _as_json(split))
        _write(folder / MARKER, _as_json({"version": VERSION, "sha256": digests}))
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write the demo data below {folder} ({error.strerror}); it needs 12 MB in a folder that "
            "may be written to: make room, or choose another DATASET.ROOT (--root)",
        ) from error
    return len(todo)


def _marker(folder: Path) -> dict[str, str]:
    """Digests that this version of the generator noted in `folder`; {} when there are none."""
    marker = _content(folder / MARKER)
    if not isinstance(marker, dict) or marker.get("version") != VERSION:
        return {}
    return marker["sha256"]


def _content(path: Path) -> Any:
    """What a JSON file says; None when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _as_json(content: Any) -> bytes:
    """As CoOp writes its split files."""
    return json.dumps(content, indent=4, separators=(",", ": ")).encode("ascii")


def _write(path: Path, content: bytes) -> None:
    """Write under a name of our own in the same folder, then move into place; a failure leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
