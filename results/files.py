"""Output files: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from dassl.writing import atomic_write, disk_failed


class ResultsError(Exception):
    """Something the caller can mend: bad input, nothing to read, nowhere to write (exit status 2)."""


class DiskError(ResultsError):
    """The disk is full or failing: there is nothing wrong with the command (exit status 1)."""


def write_atomic(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it into place; makes the folder.

    A link stays one: what it leads to is replaced.  A pipe or device (/dev/stdout) is written to as it is.
    Raises ResultsError with the reason (no permission), DiskError for a full disk; `path` is then as it was before.
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
    """Whether there is something that is neither file nor folder, which a file must not take the place of."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_text(path: str | Path, text: str) -> Path:
    """UTF-8, atomically."""
    return write_atomic(path, lambda file: file.write(text.encode("utf-8")))
