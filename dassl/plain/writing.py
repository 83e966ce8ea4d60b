"""Files that are there whole or not at all, whatever ends the process that writes them, and on a full disk too.

A file that is being written is called .NAME.HOST-PID-RANDOM.tmp and lies beside the one that it will become; the name
tells whose it is, so that what a killed process left behind is known and cleared.
"""
from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

__all__ = [
    "abandoned", "atomic_write", "clear_leftovers", "copy_new", "disk_failed", "host", "lives", "require_room", "room",
]

StrPath = str | os.PathLike[str]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK = (*FULL, errno.EROFS, errno.EIO)

OURS = re.compile(r"\.(?P<name>.+)\.(?P<host>\w*)-(?P<pid>\d+)-[0-9a-f]{8}\.tmp", re.DOTALL)
FORGOTTEN = 24 * 3600  # seconds without a byte after which no process is writing any more, wherever it runs


# --- writing ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_write(path: StrPath, mode: str = "w", size: int | None = None) -> Iterator[IO[Any]]:
    """Open a file to write to that appears under `path` only when the block ends well.

    What is written goes to a temporary name in the same folder, which is then renamed: a reader sees the old file or
    the new one, never half of one.

    Parameters
    ----------
    path : path
        The file; parent folders are made.
    mode : str
        "w" for text, in UTF-8, or "wb" for bytes.
    size : int, optional
        Bytes that are to be written, where that is known, for the message.

    Raises
    ------
    OSError
        When writing fails (a full disk, say); the temporary file goes away, the old file stays, and the text says so.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f'mode must be "w" or "wb", got {mode!r}')
    path = os.fspath(path)
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    clear_leftovers(folder or ".", os.path.basename(path))
    temporary = temporary_name(path)
    try:
        with open(temporary, mode.replace("w", "x"), encoding=None if mode == "wb" else "utf-8") as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and disk_failed(error):
            kept = "the old file is as it was" if os.path.exists(path) else "no file was left behind"
            remedy = "free some space or choose another folder"
            text = f"{os.strerror(error.errno or 0)} while writing {path}{room(folder, size)}: {kept}; {remedy}"
            raise OSError(error.errno, text) from error
        raise


def copy_new(source: StrPath, target: StrPath) -> None:
    """Copy a file, with its times, to a name that nothing has: it appears there whole or not at all.

    Raises
    ------
    FileExistsError
        Where something has that name; it stays as it is.
    OSError
        Where copying fails; nothing is left behind.
    """
    temporary = temporary_name(target)
    try:
        shutil.copy2(source, temporary)
        try:
            os.link(temporary, target)  # which, unlike a rename, never takes another file's place
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: first take the name, then fill it
            with open(target, "xb"):
                pass
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def disk_failed(error: BaseException) -> bool:
    """Tell an error of a disk that is full, read-only or broken from one of a name that is wrong."""
    return isinstance(error, OSError) and error.errno in DISK


def room(folder: str, size: int | None = None) -> str:
    """Return how many bytes are needed and how many are free, for a message."""
    try:
        free = f"{shutil.disk_usage(folder or '.').free / 1e6:.1f} MB free in {folder or '.'}"
    except OSError:
        return ""
    return f" ({free})" if size is None else f" ({size / 1e6:.1f} MB needed, {free})"


def require_room(folder: StrPath, need: float) -> None:
    """Raise OSError (ENOSPC) unless the disk that holds `folder` has `need` bytes to spare."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise OSError(errno.ENOSPC, f"{need / 1e9:,.1f} GB are needed there, {free / 1e9:,.1f} GB are free")


# --- what is left behind ---------------------------------------------------------------------------------


def host() -> str:
    """Return the name of this machine, as far as it goes into a file name."""
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32]


def lives(pid: int) -> bool:
    """Tell whether a process of this machine lives; True where nobody can tell."""
    if os.name != "posix":  # elsewhere the question would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def temporary_name(path: StrPath) -> str:
    """Return where to write what is to become `path`: a new name in the same folder."""
    folder, name = os.path.split(os.fspath(path))
    return os.path.join(folder, f".{_short(name)}.{host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def _short(name: str) -> str:
    """Return as much of a name as leaves room for the rest, also where each character takes several bytes."""
    return name.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "ignore")


def clear_leftovers(folder: StrPath, name: str = "") -> None:
    """Remove temporary files whose process has died, or not written for a day.

    Parameters
    ----------
    folder : path
        Where they lie.
    name : str
        The file that they were to become; empty for all in `folder` and below.
    """
    place = Path(folder)
    with contextlib.suppress(OSError):
        paths: Iterable[Path] = place.iterdir() if name else place.rglob(".*.tmp")
        for path in paths:
            match = OURS.fullmatch(path.name)
            if match is None or (name and match["name"] != _short(name)):
                continue
            with contextlib.suppress(OSError):
                if abandoned(path, match["host"], int(match["pid"])):
                    path.unlink()


def abandoned(path: Path, machine: str, pid: int) -> bool:
    """Tell whether nobody writes a file, or a folder of files, any more.

    Parameters
    ----------
    path
        What was being written.
    machine, pid
        Who wrote it: `host()` and the number of the process there.

    Returns
    -------
    bool
        True where that process was one of this machine and has died, and where nothing was written for a day, wherever
        the process runs.

    Raises
    ------
    OSError
        Where `path` is gone.
    """
    if machine == host() and not lives(pid):
        return True
    latest = max(place.lstat().st_mtime for place in (path, *(path.iterdir() if path.is_dir() else ())))
    return _time_of(path.parent) - latest > FORGOTTEN


def _time_of(folder: Path) -> float:
    """Return the time by the clock of a folder's file system, which need not be this machine's."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # a folder that may only be read
        return time.time()
