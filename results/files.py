"""Output files: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


class ResultsError(Exception):
    """Something the caller can mend: bad input, nothing to read, nowhere to write (exit status 2)."""


def write_atomic(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it into place; makes the folder.

    Raises ResultsError with the reason (a full disk, no permission); `path` is then as it was before.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        with os.fdopen(handle, "wb") as file:
            write(file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files
        os.replace(temporary, path)
    except BaseException as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise ResultsError(f"cannot write {path}: {error.strerror or error}") from error
        raise
    return path


def write_text(path: str | Path, text: str) -> Path:
    """UTF-8, atomically."""
    return write_atomic(path, lambda file: file.write(text.encode("utf-8")))
