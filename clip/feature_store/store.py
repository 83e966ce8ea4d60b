"""The folder of all entries: opening one, keeping others from building it too, making room."""
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from dassl.plain.locking import waiting_lock
from dassl.plain.text import shown_bytes

from .files import INFO, PARTIAL, clear_builds, remove
from .reading import Damaged, StoredFeatures
from .writing import Writer

VARIABLE = "PLOT_FEATURE_CACHE"  # environment variable that names the folder
LOCK = ".lock"  # suffix of an empty file that a building process holds
RESERVE = 1 << 30  # bytes that stay free on the disk
LONGEST_WAIT = 3600.0  # seconds for which another process's build is waited for, however alive it is

_verified: dict[str, tuple[int, ...]] = {}  # folder -> inodes and times of the files that this process has checked


class Entry(NamedTuple):
    """What `show` says about an entry.

    Attributes
    ----------
    key
        32 hexadecimal digits.
    folder
        Where it lies.
    size
        In bytes, of all its files.
    used
        Time of the last use, in seconds since the epoch.
    about
        What the features are of, for people.
    complete
        False for a build that is under way, or was killed.
    """

    key: str
    folder: Path
    size: int  # bytes
    used: float  # seconds since the epoch
    about: str
    complete: bool


class FeatureStore:
    """The entries below a folder, at most `limit` bytes of them; the least recently used go first.

    Parameters
    ----------
    folder
        Made when something is first written; None or "" for the one that PLOT_FEATURE_CACHE
        names, or else ~/.cache/plot-features.
    limit
        In bytes, for all entries together.
    """

    def __init__(self, folder: str | Path | None = None, limit: float = float("inf")) -> None:
        self.folder = Path(folder or os.environ.get(VARIABLE) or "~/.cache/plot-features").expanduser()
        self.limit = limit

    def open(self, key: str) -> StoredFeatures | None:
        """Open an entry; None where there is no sound one.

        A damaged entry is removed, which is said in the log.  One that cannot be read at the moment is not: another
        machine may just be taking it away, or this one may not see it yet.
        """
        folder = self.folder / key
        problem = ""
        for _ in range(2):  # between two of its files another process may have put a new entry in the place of an old
            try:
                stored = StoredFeatures(folder)
                if _verified.get(str(folder)) != stored.signature:
                    stored.verify()
            except OSError:
                return None
            except Damaged as error:
                problem = str(error)
            else:
                _verified[str(folder)] = stored.signature
                with suppress(OSError):  # a store that may only be read
                    os.utime(folder / INFO)
                return stored
        print(f"Feature cache: {folder} is damaged ({problem}) and will be built again")
        remove(folder)
        return None

    @contextmanager
    def building(self, key: str, longest: float = LONGEST_WAIT) -> Iterator[None]:
        """Keep other processes from building `key` within the block: they wait here, and then find the entry.

        They wait as long as the builder shows signs of life (dassl/plain/locking.py); then they build it themselves.
        Where there are no locks, each machine has its own, or the folder cannot be written, all go on.  Each builds in
        a folder of its own, and the first one to finish wins.

        Parameters
        ----------
        key
            Of the entry.
        longest
            Seconds after which the wait ends in any case.
        """

        def notice(what: str) -> None:
            print(f"Feature cache: {what} (it computes the same features)", flush=True)

        with ExitStack() as stack:
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                path, info = self.folder / f".{key}{LOCK}", self.folder / key / INFO
                stack.enter_context(waiting_lock(path, notice, longest, info.is_file))
                clear_builds(self.folder, key)
            yield

    def write(self, key: str, facts: Mapping[str, Any], count: int, about: str = "") -> Writer:
        """Begin an entry; to be used in a `with` block within `building`.

        Parameters
        ----------
        key, facts
            `key_of(facts)`, and the facts themselves, which are kept for people.
        count
            Number of images; the entry comes into being only if all of them were given.
        about
            What they are, in a few words.
        """
        return Writer(self, key, facts, count, about)

    def entries(self) -> list[Entry]:
        """List all entries and what unfinished builds there are, the least recently used first."""
        described = []
        with suppress(OSError):
            for folder in self.folder.iterdir():
                name = folder.name.partition(".")[0]
                if folder.is_dir() and len(name) == 32 and not folder.name.startswith("."):
                    described.append(_describe(folder, name))
        return sorted(described, key=lambda entry: (entry.used, entry.key))

    def clear(self, entries: Iterable[Entry]) -> None:
        """Remove some of `entries()`, except what another process is writing."""
        for entry in entries:
            if entry.complete:
                remove(entry.folder)
            else:
                clear_builds(self.folder, entry.key)
            lock = FileLock(self.folder / f".{entry.key}{LOCK}", fallback_to_soft=False)
            with suppress(OSError):  # Timeout, too: another process builds it
                lock.acquire(timeout=0)
                os.unlink(lock.lock_file)
            lock.release()

    def make_room(self, needed: float) -> str:
        """Evict entries, the least recently used first, so that `needed` bytes more fit into the limit and on the disk.

        Returns
        -------
        str
            Why they cannot, or "" when they do.
        """
        if needed > self.limit:
            return f"{shown_bytes(needed)} are more than its limit of {shown_bytes(self.limit)}"
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        free = shutil.disk_usage(self.folder).free - RESERVE
        evictable = [entry for entry in entries if entry.complete]
        if needed > free + sum(entry.size for entry in evictable):
            free_room = f"is to keep {shown_bytes(RESERVE)} free"
            return f"{shown_bytes(needed)} do not fit on the disk of {self.folder}, which {free_room}"
        for entry in evictable:
            if total + needed <= self.limit and needed <= free:
                break
            remove(entry.folder)
            total, free = total - entry.size, free + entry.size
        return ""


def _describe(folder: Path, key: str) -> Entry:
    size, used, about = 0, 0.0, ""
    complete = not folder.name.endswith(PARTIAL)
    with suppress(OSError, ValueError, AttributeError):
        files = [path.stat() for path in folder.iterdir()]
        size, used = sum(file.st_size for file in files), max((file.st_mtime for file in files), default=0.0)
        if complete:
            used = (folder / INFO).stat().st_mtime
            about = json.loads((folder / INFO).read_text(encoding="utf-8")).get("about", "")
    return Entry(key, folder, size, used, about if complete else "unfinished", complete)


