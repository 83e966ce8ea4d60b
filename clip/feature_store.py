"""Features of a frozen image tower on disk: computed once, read by every later test and by other processes.

An entry is a folder named by a digest of everything that the features depend on (`key_of`), and holds

    pooled.bin   (n, D), and where places are wanted
    local.bin    (n, M, D), both raw in the tower's number format, in the order of the images
    entry.json   shapes, sizes, checksums, and what the key was made of; its modification time is the last use

It is written batch by batch under another name and renamed when it is complete, so a build that was killed leaves
nothing that looks complete.  Reading maps the files into memory.  Sizes are compared at every opening; the checksums at
the first one of each process, which costs about as much as reading the files.  Whatever does not fit is removed, and
built again.

This module knows nothing of data sets, and decides nothing about when features may be reused.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from .features import ImageFeatures
from .packed import state_of

FORMAT = 1
VARIABLE = "PLOT_FEATURE_CACHE"  # environment variable that names the folder
INFO = "entry.json"
PARTIAL = ".partial"  # suffix of an entry that is being written
LOCK = ".lock"  # suffix of an empty file that a building process holds
RESERVE = 1 << 30  # bytes that stay free on the disk
READ_AT_ONCE = 1 << 26  # bytes, when checksums are computed

_verified: dict[str, tuple[int, ...]] = {}  # folder -> inodes and times of the files that this process has checked


def shown(size: float) -> str:
    """Write a number of bytes for people: "2.3 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


# --- what features depend on -----------------------------------------------------------------------------


def key_of(facts: Mapping[str, Any]) -> str:
    """Name the entry for what some features depend on.

    Parameters
    ----------
    facts
        Plain JSON data; two sets of facts share an entry exactly if they are equal.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps({"format": FORMAT, **facts}, sort_keys=True).encode()).hexdigest()[:32]


_digests: weakref.WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], str]] = weakref.WeakKeyDictionary()


def tower_digest(tower: nn.Module) -> str:
    """Digest what a tower computes with: its modules, and its weights with their types.

    Computed once for a tower, and again when its tensors were replaced or written to.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    tensors = {**dict(tower.named_parameters()), **dict(tower.named_buffers())}
    state = tuple((name, *state_of(tensor)) for name, tensor in tensors.items())
    known = _digests.get(tower)
    if known is not None and known[0] == state:
        return known[1]
    digest = hashlib.sha256()
    for name, module in tower.named_modules():
        facts = (name, type(module).__qualname__, module.extra_repr(), getattr(module, "num_heads", ""))
        digest.update(repr(facts).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor.detach()))
    _digests[tower] = (state, digest.hexdigest())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    """Lay out the values of a tensor, row by row, as a buffer of bytes."""
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


# --- entries ---------------------------------------------------------------------------------------------


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

    def open(self, key: str) -> ImageFeatures | None:
        """Map the features of all n images of an entry; None where there is no sound one.

        A damaged entry is removed, which is said in the log.  Writing into the tensors does not change the files.
        """
        folder = self.folder / key
        if not folder.is_dir():
            return None
        signature = _signature(folder)
        problem = check(folder, thoroughly=signature is None or signature != _verified.get(str(folder)))
        if problem:
            print(f"Feature cache: {folder} is damaged ({problem}) and will be built again")
            remove(folder)
            return None
        _verified[str(folder)] = signature or ()
        with suppress(OSError):  # a store that may only be read
            os.utime(folder / INFO)
        try:
            info = _read_info(folder)
            dtype = getattr(torch, info["dtype"])
            return ImageFeatures(*(_map(folder / f"{name}.bin", info[name], dtype) for name in ImageFeatures._fields))
        except (OSError, RuntimeError):  # evicted by another process at this moment
            return None

    @contextmanager
    def building(self, key: str) -> Iterator[None]:
        """Keep other processes from building `key` within the block: they wait here, and then find the entry.

        Where there are no locks, or the folder cannot be written, both go on, and the first one to finish wins.
        """
        path = self.folder / f".{key}{LOCK}"
        with ExitStack() as stack:
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(path, is_singleton=True)  # to wait for oneself would be to wait for ever
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    print("Feature cache: waiting for another process that computes the same features", flush=True)
                    lock.acquire()
                stack.callback(lock.release)
                if lock.lock_counter == 1:
                    for leftover in self.folder.glob(f"{key}.*{PARTIAL}"):  # of a build that was killed
                        remove(leftover)
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
            lock = FileLock(self.folder / f".{entry.key}{LOCK}")
            with suppress(OSError):  # Timeout, too: another process writes it
                if not entry.complete:
                    lock.acquire(timeout=0)
                remove(entry.folder)
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
            return f"{shown(needed)} are more than its limit of {shown(self.limit)}"
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        free = shutil.disk_usage(self.folder).free - RESERVE
        evictable = [entry for entry in entries if entry.complete]
        if needed > free + sum(entry.size for entry in evictable):
            return f"{shown(needed)} do not fit on the disk of {self.folder}, which is to keep {shown(RESERVE)} free"
        for entry in evictable:
            if total + needed <= self.limit and needed <= free:
                break
            remove(entry.folder)
            total, free = total - entry.size, free + entry.size
        return ""


class Writer:
    """Takes features batch by batch; the entry exists once the block has ended well and all images were given.

    A full disk ends the writing, not the program.

    Attributes
    ----------
    problem
        Why there is no entry; "" as long as all is well.
    size
        Bytes of the whole entry, known from the first batch on.
    """

    def __init__(self, store: FeatureStore, key: str, facts: Mapping[str, Any], count: int, about: str) -> None:
        self.store, self.key, self.facts, self.count, self.about = store, key, dict(facts), count, about
        self.folder = store.folder / f"{key}.{os.getpid()}-{uuid.uuid4().hex[:8]}{PARTIAL}"
        self.problem = ""
        self.seen = 0
        self.size = 0
        self.info: dict[str, Any] = {}
        self._files: dict[str, Any] = {}
        self._sums: dict[str, int] = {}

    def __enter__(self) -> Writer:
        return self

    def add(self, features: ImageFeatures) -> None:
        """Write features of the next images."""
        if self.problem:
            return
        try:
            if not self._files:
                self._begin(features)
            for name, tensor in features._asdict().items():
                data = _bytes(tensor)
                self._files[name].write(data)
                self._sums[name] = zlib.crc32(data, self._sums[name])
            self.seen += len(features.pooled)
        except OSError as error:
            self._give_up(f"{error.strerror or error}")

    def _begin(self, features: ImageFeatures) -> None:
        per_image = sum(tensor[0].numel() * tensor.element_size() for tensor in features)
        self.size = self.count * per_image
        self.folder.mkdir(parents=True)
        problem = self.store.make_room(self.size)
        if problem:
            raise OSError(problem)
        self.info = {"dtype": str(features.pooled.dtype).removeprefix("torch.")}
        self.info |= {name: [self.count, *tensor.shape[1:]] for name, tensor in features._asdict().items()}
        self._files = {name: (self.folder / f"{name}.bin").open("wb") for name in features._fields}
        self._sums = dict.fromkeys(features._fields, 0)

    def _give_up(self, problem: str) -> None:
        self.problem = problem
        for file in self._files.values():
            with suppress(OSError):
                file.close()
        remove(self.folder)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None or self.seen != self.count:
            self._give_up(self.problem or f"only {self.seen} of {self.count} images came")
            return
        try:
            for file in self._files.values():
                file.close()
            self.info |= {"format": FORMAT, "key": self.key, "about": self.about, "facts": self.facts}
            self.info["files"] = {
                name: {"bytes": (self.folder / f"{name}.bin").stat().st_size, "crc32": self._sums[name]}
                for name in self._files
            }
            (self.folder / INFO).write_text(json.dumps(self.info, indent=1) + "\n", encoding="utf-8")
            os.rename(self.folder, self.store.folder / self.key)
        except OSError as problem:
            there = (self.store.folder / self.key / INFO).is_file()  # another process was as busy, and faster
            self._give_up("" if there else f"{problem.strerror or problem}")


def check(folder: Path, thoroughly: bool = True) -> str:
    """Look for damage in an entry.

    Parameters
    ----------
    folder
        The entry's.
    thoroughly
        Also read all bytes and compare checksums, and not only sizes.

    Returns
    -------
    str
        What is wrong, or "".
    """
    try:
        info = _read_info(folder)
        if info["format"] != FORMAT:
            return f"it has format {info['format']}, not {FORMAT}"
        dtype = getattr(torch, info["dtype"])
        for name in ImageFeatures._fields:
            path, expected = folder / f"{name}.bin", info["files"][name]
            needed = torch.Size(info[name]).numel() * dtype.itemsize
            size = path.stat().st_size
            if not size == expected["bytes"] == needed:
                return f"{path.name} has {size} bytes instead of {needed}"
            if thoroughly and _checksum(path) != expected["crc32"]:
                return f"{path.name} has other bytes than were written"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def remove(folder: Path) -> None:
    """Take an entry away, first out of sight: nobody shall open one that is half gone."""
    gone = folder.with_name(f"{folder.name.partition('.')[0]}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    with suppress(OSError):
        os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _read_info(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INFO).read_text(encoding="utf-8"))


def _describe(folder: Path, key: str) -> Entry:
    size, used, about = 0, 0.0, ""
    complete = not folder.name.endswith(PARTIAL)
    with suppress(OSError, ValueError, AttributeError):
        files = [path.stat() for path in folder.iterdir()]
        size, used = sum(file.st_size for file in files), max((file.st_mtime for file in files), default=0.0)
        if complete:
            used = (folder / INFO).stat().st_mtime
            about = _read_info(folder).get("about", "")
    return Entry(key, folder, size, used, about if complete else "unfinished", complete)


def _signature(folder: Path) -> tuple[int, ...] | None:
    """Describe an entry's files by what changes when one of them is replaced or written to.

    The time of `entry.json` is left out: it is the last use.
    """
    try:
        stats = [(folder / f"{name}.bin").stat() for name in ImageFeatures._fields]
        return tuple(number for stat in stats for number in (stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except OSError:
        return None


def _checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while data := file.read(READ_AT_ONCE):
            total = zlib.crc32(data, total)
    return total


def _map(path: Path, shape: list[int], dtype: torch.dtype) -> Tensor:
    size = torch.Size(shape).numel()
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.from_file(str(path), shared=False, size=size, dtype=dtype).view(shape)
