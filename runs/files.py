"""Files that commands write and read, and the lines that they print about them.

What is written is there whole or not at all.  What is read may come from anybody: its shape is checked, and every text
in it is made fit for a terminal, since a folder's or a class's name can hold control characters.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dassl.plain.reading import parse_json, wrong
from dassl.plain.text import printable
from dassl.plain.writing import atomic_write, disk_failed


class ResultsError(Exception):
    """Something the caller can mend: bad input, nothing to read, nowhere to write (exit status 2)."""


class DiskError(ResultsError):
    """The disk is full or failing: there is nothing wrong with the command (exit status 1)."""


def write_atomic(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it into place; makes the folder.

    A link stays one: what it leads to is replaced.  A pipe or device (/dev/stdout) is written to as it is.

    Raises
    ------
    ResultsError
        With the reason (no permission); `path` is then as it was before.
    DiskError
        Likewise, where the disk is full.
    """
    path = Path(path)
    try:
        with path.open("wb") if is_special(path) else atomic_write(os.path.realpath(path), "wb") as file:
            write(file)
    except OSError as error:
        kind = DiskError if disk_failed(error) else ResultsError
        raise kind(f"cannot write {path}: {error.strerror or error}") from error
    return path


def is_special(path: Path) -> bool:
    """Tell whether a path is a pipe or device, whose place a file must not take."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8, like `write_atomic`; what UTF-8 cannot say (a file name of other bytes) becomes ?."""
    return write_atomic(path, lambda file: file.write(text.encode("utf-8", "replace")))


def to_stderr(message: object) -> None:
    """Print a line on stderr, whatever the names in it hold."""
    print(printable(message), file=sys.stderr)


def to_stdout(message: object) -> None:
    """Print a line on stdout, whatever the names in it hold."""
    print(printable(message))


def visible_folders(output: str | Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder at or below `output` with the names of its files; hidden folders below it are passed over.

    What lies in a hidden folder is no result: `.cluster` has what a sweep has submitted.
    """
    for folder, children, names in os.walk(output):
        children[:] = sorted(child for child in children if not child.startswith("."))
        yield Path(folder), names


def find_files(output: str | Path, name: str, parent: str = "") -> list[Path]:
    """Return the files at or below `output`, except in hidden folders, sorted.

    Parameters
    ----------
    output
        The folder.
    name
        What they are called, with * for anything.
    parent
        Name of the folder that they lie in; "" for any.
    """
    return sorted(
        folder / match
        for folder, names in visible_folders(output)
        if parent in ("", folder.name)
        for match in fnmatch.filter(names, name)
    )


def read_shaped(path: Path, shape: Any) -> Any:
    """Read the JSON in `path`, with every text as it can be shown.

    Parameters
    ----------
    path
        The file.
    shape
        What it must hold (`dassl.plain.reading.wrong`).

    Raises
    ------
    ValueError
        Where the file cannot be read, or is not of that shape.
    """
    try:
        tree = load_for_people(path)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if bad := wrong(tree, shape):
        raise ValueError(f"it has no valid {bad}")
    return tree


def load_for_people(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file as `load_json` does, with every text as it can be shown.

    Of a file all of whose text can be shown, which is nearly every one, only the whole is looked at.
    """
    text = Path(path).read_text(encoding="utf-8")
    tree = parse_json(text)
    plain = "\\" not in text and text.replace("\n", "").isprintable()
    return tree if plain else for_people(tree)


def for_people(value: Any) -> Any:
    """Return plain data with every text as it can be shown: anybody may have named the folders that names come from."""
    if isinstance(value, str):
        return printable(value)
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, Mapping):
        return {printable(key): for_people(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_people(item) for item in value]
    return printable(value)
