"""Keep other processes out of the folder of a run while one works in it.

The lock is one of the operating system's (filelock) on the file .lock; the file .holder says who has it. It ends with
its process, however that ends, so what a killed run leaves behind blocks nobody.

A file system that several machines share may have no such locks, or grant one to each machine. There a second file,
.lock.lease, decides as well: its holder renews it again and again, and one that was not renewed for `LEASE` seconds, as
the other side measures them, counts no more. So after a machine has died, another one waits that long, once.
"""
from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

from dassl.plain.locking import is_local
from dassl.plain.reading import COUNT, TEXT, parse_json, wrong
from dassl.plain.writing import FULL, StrPath, clear_leftovers, host, room

__all__ = ["FolderInUse", "RunFolderError", "hold_folder", "holder_of", "make_folder", "refusal"]

LOCK_NAME, LEASE_NAME, HOLDER_NAME = ".lock", ".lock.lease", ".holder"
HOLDER = {"pid": COUNT, "host": TEXT, "since": TEXT}
MOST_BYTES = 10_000  # of what says who holds a folder
LEASE = 120.0  # seconds; it is renewed three times as often, and another machine's changes are seen within 60
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # of the file system


class RunFolderError(ValueError):
    """The output folder cannot be used for this run."""


class FolderInUse(RunFolderError):
    """Another process works in the folder; `holder` says which, where and since when."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


def make_folder(folder: Path) -> None:
    """Make the folder of a run and its parents; RunFolderError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(folder, "made", error) from error


def refusal(folder: Path, action: str, error: OSError) -> Exception:
    """Return the error that says that `folder` cannot be `action` ("made", "written to").

    It is a RunFolderError, but an OSError on a full disk, where another name would not help.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in FULL:
        text = f"OUTPUT_DIR {folder} cannot be {action}: {reason}{room(str(folder.parent))}"
        return OSError(error.errno, f"{text}; free some space or choose another folder")
    return RunFolderError(f"OUTPUT_DIR {folder} cannot be {action}: {reason}; choose another")


@contextlib.contextmanager
def hold_folder(folder: StrPath) -> Iterator[None]:
    """Make the folder of a run and keep other runs out of it; afterwards no trace of that is left.

    What killed processes have left half-written in the folder is removed.

    Raises
    ------
    FolderInUse
        At once, where another run works in the folder.
    RunFolderError
        Where the folder cannot be made or written to.
    """
    place = Path(os.path.realpath(folder))
    make_folder(place)
    with _locks(place, folder):
        try:
            with contextlib.suppress(OSError):  # on a full disk; what matters is the lock
                since = datetime.now().astimezone().isoformat(" ", "seconds")
                holder = {"pid": os.getpid(), "host": host(), "since": since}
                (place / HOLDER_NAME).write_text(json.dumps(holder) + "\n")
            clear_leftovers(place)
            yield
        finally:
            for name in (HOLDER_NAME, LOCK_NAME):  # before the release, after which they may be another run's
                with contextlib.suppress(OSError):
                    (place / name).unlink()


def _locks(place: Path, folder: StrPath) -> contextlib.ExitStack:
    """Acquire the folder's lock, its lease, or both; they are released when the stack is closed."""
    lock: BaseFileLock = FileLock(place / LOCK_NAME, fallback_to_soft=False)
    lease = SoftFileLease(place / LEASE_NAME, lease_duration=LEASE)
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        stack.callback(lease.release)
        try:
            try:
                lock.acquire(timeout=0)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if not lock.is_locked or not is_local(place):
                _acquire(lease, place, folder)
        except Timeout:
            raise _in_use(folder, holder_of(place)) from None
        except OSError as error:
            if not lock.is_locked:
                raise refusal(Path(folder), "written to", error) from error
        return stack.pop_all()


def _acquire(lease: BaseFileLock, place: Path, folder: StrPath) -> None:
    """Acquire the lease; where another machine has it, having waited for a sign of its life."""
    holder = holder_of(place)
    if holder.get("host") == host() or not (place / LEASE_NAME).exists():  # filelock sees whether that process lives
        lease.acquire(timeout=0)
        return
    patience = 1.5 * LEASE
    who = f"{folder} is, or was, in use by {_who(holder)}"
    print(f"{who}: waiting up to {patience:.0f} s for a sign of life", flush=True)
    lease.acquire(timeout=patience)


def holder_of(folder: Path) -> dict[str, Any]:
    """Return pid, host and since of who holds a folder; {} where nobody does, or where that is not known.

    A process that was killed leaves its name behind.
    """
    path = folder / HOLDER_NAME
    try:
        holder = parse_json(path.read_text()) if path.is_file() and path.stat().st_size < MOST_BYTES else None
    except (OSError, ValueError):
        return {}
    return holder if holder is not None and not wrong(holder, HOLDER) else {}


def _in_use(folder: StrPath, holder: dict[str, Any]) -> FolderInUse:
    who = _who(holder)
    message = f"another run is at work in {folder} ({who}); wait for it, or choose another output folder"
    return FolderInUse(message, who)


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}, since {holder['since']}" if holder else "a process"
