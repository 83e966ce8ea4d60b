"""One process at a time works in the folder of a run.

The lock is one of the operating system's on the file .lock, which says who holds it. It ends with its process, however
that ends, and is not inherited by the worker processes of loaders, so what a killed run leaves behind blocks nobody.
Where a file system has no such locks, the file alone decides: a process of this machine that it names must be gone.
On Windows nothing is locked.
"""
from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from dassl.plain.writing import FULL, StrPath, clear_leftovers, host, lives, room

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunFolderError", "hold_folder", "make_folder"]

LOCK_NAME = ".lock"
_held: set[str] = set()  # by this process, to which its own locks are no obstacle
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class RunFolderError(ValueError):
    """The output folder cannot be used for this run."""


def make_folder(folder: Path) -> None:
    """Raises RunFolderError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(folder, "made", error) from error


def refusal(folder: Path, what: str, error: OSError) -> Exception:
    """That a folder cannot be `what`: RunFolderError, but OSError where nothing is wrong with the folder's name."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in FULL:
        text = f"OUTPUT_DIR {folder} cannot be {what}: {reason}{room(str(folder.parent))}"
        return OSError(error.errno, f"{text}; free some space or choose another folder")
    return RunFolderError(f"OUTPUT_DIR {folder} cannot be {what}: {reason}; choose another")


@contextlib.contextmanager
def hold_folder(folder: StrPath) -> Iterator[None]:
    """Make the folder of a run and keep other runs out of it; then nothing tells of that.

    What killed processes have left half-written in it is removed. Raises RunFolderError, saying who works in the
    folder, where somebody does.
    """
    place = os.path.realpath(folder)
    make_folder(Path(place))
    if place in _held:
        raise _in_use(folder, _this_process())
    with _lock(Path(place, LOCK_NAME), folder) as file:
        _held.add(place)
        try:
            with contextlib.suppress(OSError):  # on a full disk; what matters is the lock
                file.write(json.dumps(_this_process()) + "\n")
                file.flush()
            clear_leftovers(place)
            yield
        finally:
            _held.discard(place)
            with contextlib.suppress(OSError):
                os.unlink(file.name)


@contextlib.contextmanager
def _lock(path: Path, folder: StrPath) -> Iterator[IO[str]]:
    """The lock file, locked and empty."""
    while True:
        try:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise refusal(Path(folder), "written to", error) from error
        with file:
            if not _try_lock(file):
                raise _in_use(folder, _holder(file))
            if _is_at(file, path):  # and has not been removed, by who held it, since it was opened
                file.truncate(0)
                yield file
                return


def _try_lock(file: IO[str]) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            return False
    holder = _holder(file)
    return holder.get("host") != host() or not lives(int(holder.get("pid", 0)))


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": host(), "since": datetime.now().astimezone().isoformat(" ", "seconds")}


def _holder(file: IO[str]) -> dict[str, Any]:
    """{} where nobody has written yet."""
    try:
        file.seek(0)
        holder = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _in_use(folder: StrPath, holder: dict[str, Any]) -> RunFolderError:
    who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}" if len(holder) == 3 else "a process"
    return RunFolderError(f"another run is at work in {folder} ({who}); wait for it, or choose another output folder")
