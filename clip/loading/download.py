"""Fetch a file once: checked, resumed when it was cut off, and never half there.

The bytes go to NAME.part beside the target, which takes the target's name only when they are right. Beside it,
NAME.part.origin says which file of the server they are the beginning of (its ETag or date, and length), so that two
files are never joined. On a network file system, where a lock may hold on one machine alone, it is NAME.HOST.part,
and where there is no lock a name of the process's own: two processes never append to one file. Proxies come from the
usual environment variables (https_proxy, no_proxy, ...).

`download` fetches CLIP's weights: CLIP_MIRROR replaces the first part of OpenAI's addresses, up to and including
/clip/models, so a mirror serves <digest>/<file> below it. `download_file` serves any source and check.
"""
from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tqdm import tqdm

from dassl.plain.locking import is_local, waiting_lock
from dassl.plain.writing import clear_leftovers, host, require_room, temporary_name
from dassl.utils.tools import read_json, write_json

MODELS_URL = "https://openaipublic.azureedge.net/clip/models"
ATTEMPTS = 3  # connections per call; each one goes on where the last broke off
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1 << 20
LONGEST_WAIT = 24 * 3600.0  # seconds for which another process's download is waited for, however alive it is
ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}  # hashlib's name -> the usual one
AGENT = "plot-prompt-learning"  # some servers turn urllib's own name away


class DownloadError(RuntimeError):
    """A file cannot be had; the text also says what to do.

    Attributes
    ----------
    reason
        Why, in short.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Interrupted(Exception):
    """The connection ended early; what came is kept."""


BROKEN = (_Interrupted, ConnectionError, TimeoutError, http.client.HTTPException)


# --- what is fetched, and how it is known to be right ---------------------------------------------------


@dataclass(frozen=True)
class Source:
    """An address that answers with the bytes of one file."""

    url: str

    def open(self, headers: dict[str, str]) -> Any:
        """Ask for the file.

        Parameters
        ----------
        headers
            Further headers of the request, as Range.

        Returns
        -------
        http.client.HTTPResponse
            The server's response.

        Raises
        ------
        urllib.error.URLError
            When there is no file to have.
        """
        return urllib.request.urlopen(request(self.url, headers), timeout=TIMEOUT)

    @property
    def page(self) -> str:
        """Where a person gets the file."""
        return self.url


def request(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """Return a request under our own name, which servers do not turn away."""
    return urllib.request.Request(url, headers={"User-Agent": AGENT, **headers})


class Check(Protocol):
    """How the right bytes are known; its text goes into messages."""

    def problem(self, path: Path) -> str:
        """Say what is wrong with the file, as "has not the ..."; "" if nothing is."""


@dataclass(frozen=True)
class Digest:
    """Known by a hash (hex) of the whole file; `algorithm` is one of ALGORITHMS."""

    algorithm: str
    value: str

    def problem(self, path: Path) -> str:
        """Say what is wrong with the file; "" if nothing is."""
        return "" if digest_of(path, self.algorithm) == self.value else f"has not the {self}"

    def __str__(self) -> str:
        return f"{ALGORITHMS[self.algorithm]} {self.value}"


def digest_of(path: str | Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file, read piece by piece, with a bar where it takes long.

    Parameters
    ----------
    path
        The file.
    algorithm
        One of ALGORITHMS.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file, tqdm(
        desc="checking", total=_size(file), unit="iB", unit_scale=True, ncols=80, leave=False, delay=2, disable=None
    ) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


# --- CLIP's weights --------------------------------------------------------------------------------------


def mirrored(url: str) -> str:
    """`url`, or its place on the mirror that CLIP_MIRROR names."""
    mirror = os.environ.get("CLIP_MIRROR", "").rstrip("/")
    return mirror + url[len(MODELS_URL):] if mirror and url.startswith(MODELS_URL + "/") else url


def download(url: str, root: str | Path | None = None) -> str:
    """Fetch one of CLIP's weights unless it is there.

    Parameters
    ----------
    url
        The address. Its last component is the file's name, the one before it its SHA-256.
    root
        The folder to keep it in; by default ~/.cache/clip.

    Returns
    -------
    str
        Path of the file. One that is there with the right digest needs no network; one with another digest is fetched
        again, with a warning.

    Raises
    ------
    RuntimeError
        As `download_file` does.
    """
    *_, expected, name = url.split("/")
    root = Path.home() / ".cache" / "clip" if root is None else Path(root).expanduser()
    return str(download_file(Source(mirrored(url)), root / name, Digest("sha256", expected), "CLIP_MIRROR"))


# --- any file --------------------------------------------------------------------------------------------


def download_file(source: Source, target: Path, check: Check, mirror: str, room: float = 1.0) -> Path:
    """Fetch a file unless it is there and right; safe when several processes do it at once.

    Parameters
    ----------
    source
        Where it comes from.
    target
        Where it goes.
    check
        How the right file is recognised.
    mirror
        Name of the setting for another address, for messages.
    room
        Free space that is asked for before the first byte, in multiples of the file's size.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    DownloadError
        If the network fails (saying what to put where by hand), or what came is wrong.
    RuntimeError
        If the target is no regular file, or the disk fails.
    """
    name = target.name
    if target.exists() and not target.is_file():
        raise RuntimeError(f"{target} exists and is not a regular file; move it away to download {name}")
    if target.is_file():
        if not (problem := check.problem(target)):
            return target
        warnings.warn(f"{target} exists, but it {problem}; downloading it again", stacklevel=4)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(f"{name}.part")) as held:
            part = _part_of(target, held)
            if target.is_file() and not check.problem(target):  # another process has fetched it meanwhile
                return target
            try:
                with open(part, "ab") as file:
                    _fetch(source, file, check, name, mirror, room)
            except BaseException:
                if not held or not part.stat().st_size:  # else the next try goes on from there
                    part.unlink()
                    _origin_path(part).unlink(missing_ok=True)
                raise
            _origin_path(part).unlink(missing_ok=True)
            os.replace(part, target)
    except (urllib.error.URLError, *BROKEN) as error:
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise DownloadError(
            str(reason),
            f"cannot download {name}: {reason}. On a machine without network, get the file from "
            f"{source.page} ({check}) and put it at {target}. Behind a proxy, set https_proxy; "
            f"for a mirror, {mirror}. What arrived is kept, and the next try goes on from there if the file "
            "is still the same.",
        ) from error
    except OSError as error:
        raise RuntimeError(f"cannot write {target}: {error}; make room or choose another folder") from error
    return target


def _part_of(target: Path, locked: bool) -> Path:
    """Name the file that this process, and no other at the same time, appends to."""
    if not locked:
        clear_leftovers(target.parent, target.name)
        return Path(temporary_name(target))
    return target.with_name(f"{target.name}.part" if is_local(target.parent) else f"{target.name}.{host()}.part")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock on behalf of `path` while other processes wait, as long as the one that holds it shows signs of life.

    The lock is a file beside it, PATH.lock, that goes when it is released.

    Yields
    ------
    bool
        False on a file system without locks, and where who holds it seems to be gone: the block is done without it.
    """
    lock = f"{path}.lock"
    with waiting_lock(lock, lambda what: print(f"{what} ({path})", file=sys.stderr), LONGEST_WAIT) as held:
        try:
            yield held
        finally:
            if held:
                with contextlib.suppress(OSError):
                    os.unlink(lock)


def _fetch(source: Source, file: BinaryIO, check: Check, name: str, mirror: str, room: float) -> None:
    """Fill the part file and check it; one that was resumed and comes out wrong is fetched anew."""
    resumed = _size(file) > 0
    for attempt in range(ATTEMPTS):
        try:
            _receive(source, file, name, room, isinstance(check, Digest))
            break
        except BROKEN:
            if attempt == ATTEMPTS - 1:
                raise
    problem = check.problem(Path(file.name))
    if not problem:
        return
    _start_over(file)
    if resumed:
        return _fetch(source, file, check, name, mirror, room)
    raise DownloadError(
        f"what came {problem} and was thrown away",
        f"what came from {source.url} {problem} and was thrown away; the server (or a proxy on the way) sent something "
        f"else. Try again, or another mirror ({mirror})",
    )


def _receive(source: Source, file: BinaryIO, name: str, room: float, exact: bool) -> None:
    """Append what is missing by one connection, or start over where the server knows no ranges or has another file.

    Parameters
    ----------
    source
        Where the file comes from.
    file
        The part file, open to append to.
    name
        Name of the file, for the bar.
    room
        Free space to ask for, in multiples of the file's size.
    exact
        Whether it would be noticed in the end if two files were joined, so that a server need not tell them apart.

    Raises
    ------
    _Interrupted
        When the connection ended early, or the server sent something else than asked; another try may succeed.
    OSError
        When the disk has no room.
    """
    origin = _Origin.read(file)
    same_place = origin.url == source.url and origin.tag
    if _size(file) and not (same_place or exact):
        _start_over(file)
    have = _size(file)
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and same_place:
        headers["If-Range"] = origin.tag
    try:
        response = source.open(headers)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to send, so the check decides
            raise
        error.close()
        size = error.headers.get("Content-Range", "").removeprefix("bytes */")
        other_size = size.isdecimal() and int(size) != have
        if other_size or origin.differs(error.headers):
            _start_over(file)
            has = f"the file has {int(size):,}" if other_size else "the server has another file"
            raise _Interrupted(f"{have:,} bytes were kept, but {has}") from error
        return
    with response:
        length = response.headers.get("Content-Length")
        if response.status == 206:
            start, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            other_size = None not in (origin.size, _number(whole)) and origin.size != _number(whole)
            if not start.startswith(f"{have}-") or other_size or origin.differs(response.headers):
                _start_over(file)
                raise _Interrupted(f"the server sent another file, or another part of it ({start!r}), than asked")
            total = have + int(length) if length else _number(whole)
        else:
            _start_over(file)
            have, total = 0, _number(length or "")
        require_room(Path(file.name).parent, room * (total or 0) - have)
        if not have:
            _Origin(source.url, _tag(response.headers), total).write(file)
        bar = tqdm(desc=name, total=total, initial=have, unit="iB", unit_scale=True, ncols=80, disable=None)
        with bar:
            while chunk := response.read1(CHUNK):  # what there is: of a stalled connection nothing shall be lost
                file.write(chunk)
                file.flush()
                bar.update(len(chunk))
    if total is not None and _size(file) < total:
        raise _Interrupted(f"the connection ended after {_size(file):,} of {total:,} bytes")


@dataclass(frozen=True)
class _Origin:
    """Which file of which server a part file is the beginning of."""

    url: str = ""
    tag: str = ""  # what If-Range takes: an ETag, or else a date
    size: int | None = None

    @classmethod
    def read(cls, part: BinaryIO) -> _Origin:
        """Nothing is known where there is no readable file of it."""
        try:
            content = read_json(_origin_path(part.name))
            return cls(str(content["url"]), str(content["tag"]), content["size"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, part: BinaryIO) -> None:
        write_json(asdict(self), _origin_path(part.name))

    def differs(self, headers: Message) -> bool:
        """Whether an answer says that it is of another file."""
        tag = _tag(headers)
        return bool(tag and self.tag and tag.startswith('"') == self.tag.startswith('"') and tag != self.tag)


def _tag(headers: Message) -> str:
    """Return the ETag, or else the date of the last change, or "".

    A weak ETag does not count: it tells only that two files mean the same.
    """
    tag = headers.get("ETag") or ""
    return tag if tag.startswith('"') else headers.get("Last-Modified") or ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _origin_path(part: str | Path) -> Path:
    return Path(f"{part}.origin")


def _start_over(part: BinaryIO) -> None:
    part.truncate(0)
    _origin_path(part.name).unlink(missing_ok=True)


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
