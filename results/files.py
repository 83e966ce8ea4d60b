"""Files: written whole or not at all, and read with all that they say in a shape to be shown; and lines that tell of
them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from dassl.reading import load_json, wrong
from dassl.text import printable


class ResultsError(Exception):
    """Something the caller can mend: bad input, nothing to read, nowhere to write (exit status 2)."""


def write_atomic(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it into place; makes the folder.

    A link stays one: what it leads to is replaced.  A pipe or device (/dev/stdout) is written to as it is.
    Raises ResultsError with the reason (a full disk, no permission); `path` is then as it was before.
    """
    path = Path(path)
    temporary = None
    try:
        if is_special(path):
            with path.open("wb") as file:
                write(file)
            return path
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
        with os.fdopen(handle, "wb") as file:
            write(file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files
        os.replace(temporary, target)
    except BaseException as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise ResultsError(f"cannot write {path}: {error.strerror or error}") from error
        raise
    return path


def is_special(path: Path) -> bool:
    """Whether there is something that is neither file nor folder, which a file must not take the place of."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_text(path: str | Path, text: str) -> Path:
    """UTF-8, atomically; what UTF-8 cannot say (a file name of other bytes) becomes ?."""
    return write_atomic(path, lambda file: file.write(text.encode("utf-8", "replace")))


def tell(message: object) -> None:
    """A line on stderr, whatever the names in it hold."""
    print(printable(message), file=sys.stderr)


def say(message: object) -> None:
    """Likewise on stdout."""
    print(printable(message))


def read_shaped(path: Path, shape: Any) -> Any:
    """The JSON in `path`, with every text as it can be shown.  Raises ValueError where it is not of `shape`."""
    try:
        tree = load_json(path)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if bad := wrong(tree, shape):
        raise ValueError(f"it has no valid {bad}")
    return for_people(tree)


def for_people(value: Any) -> Any:
    """Plain data with every text as it can be shown: names come from folders that anybody may have named."""
    if isinstance(value, Mapping):
        return {printable(key): for_people(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [for_people(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else printable(value)
