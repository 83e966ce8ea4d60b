"""Fetch a weights file once: checked by its SHA-256, resumed when it was cut off, and never half there.

The bytes go to NAME.part beside the target, which takes the target's name only when its digest is right.
Proxies come from the usual environment variables (https_proxy, no_proxy, ...). CLIP_MIRROR replaces the
first part of OpenAI's addresses, up to and including /clip/models: a mirror serves <digest>/<file> below it.
"""
from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

MODELS_URL = "https://openaipublic.azureedge.net/clip/models"
ATTEMPTS = 3  # connections per call; each one goes on where the last broke off
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1 << 20


class _Interrupted(Exception):
    """The connection ended early; what came is kept."""


BROKEN = (_Interrupted, ConnectionError, TimeoutError, http.client.HTTPException)


def default_root() -> Path:
    """Where weights are kept if nobody says otherwise: ~/.cache/clip, as upstream."""
    return Path.home() / ".cache" / "clip"


def sha256_of(path: str | Path) -> str:
    """Hex digest of a file, read piece by piece."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def mirrored(url: str) -> str:
    """`url`, or its place on the mirror that CLIP_MIRROR names."""
    mirror = os.environ.get("CLIP_MIRROR", "").rstrip("/")
    return mirror + url[len(MODELS_URL):] if mirror and url.startswith(MODELS_URL + "/") else url


def download(url: str, root: str | Path | None = None) -> str:
    """Path of the file that `url` names, below `root` (default ~/.cache/clip), fetched if it is not there.

    The last component of the URL is the file's name, the one before it its SHA-256. A file that is there
    with this digest is returned without network; one with another digest is fetched again, with a warning.

    Raises RuntimeError if the target is no regular file, the network fails (saying what to put where by
    hand), the disk does, or what came has another digest.
    """
    *_, expected, name = url.split("/")
    root = Path(root).expanduser() if root is not None else default_root()
    target, part = root / name, root / f"{name}.part"
    if target.exists() and not target.is_file():
        raise RuntimeError(f"{target} exists and is not a regular file; move it away to download {name}")
    if target.is_file():
        if sha256_of(target) == expected:
            return str(target)
        warnings.warn(f"{target} exists, but its SHA-256 is not {expected}; downloading it again",
                      stacklevel=3)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(part) as file:
            if not (target.is_file() and sha256_of(target) == expected):  # maybe another process has
                _fetch(mirrored(url), file, expected, name)
                os.replace(part, target)
    except (urllib.error.URLError, *BROKEN) as error:
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise RuntimeError(
            f"cannot download {name}: {reason}. On a machine without network, get the file from "
            f"{mirrored(url)} (SHA-256 {expected}) and put it at {target}. Behind a proxy, set https_proxy; "
            "for a mirror, CLIP_MIRROR. What arrived is kept, and the next try goes on from there."
        ) from error
    except OSError as error:
        raise RuntimeError(f"cannot write {target}: {error}; make room or choose another folder") from error
    return str(target)


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """The part file, to append to, held by this process alone where there is flock; removed if left empty."""
    while True:
        with open(part, "a+b") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            except (ImportError, OSError):  # Windows, and some network file systems
                pass
            if not _is_still(part, file):  # renamed meanwhile by the process that held it
                continue
            try:
                yield file
            finally:
                if _is_still(part, file) and _size(file) == 0:
                    part.unlink()
            return


def _is_still(part: Path, file: BinaryIO) -> bool:
    """Whether `part` names the open file; another process may take the name away at any moment."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(part))
    except FileNotFoundError:
        return False


def _fetch(url: str, file: BinaryIO, expected: str, name: str) -> None:
    """Fill the part file and check it; one that was resumed and comes out wrong is fetched anew."""
    resumed = _size(file) > 0
    for attempt in range(ATTEMPTS):
        try:
            _receive(url, file, name)
            break
        except BROKEN:
            if attempt == ATTEMPTS - 1:
                raise
    file.flush()
    if sha256_of(file.name) == expected:
        return
    file.truncate(0)
    if resumed:
        return _fetch(url, file, expected, name)
    raise RuntimeError(f"what came from {url} has not the SHA-256 {expected} and was thrown away; the "
                       "server (or a proxy on the way) sent something else. Try again, or another mirror "
                       "(CLIP_MIRROR)")


def _receive(url: str, file: BinaryIO, name: str) -> None:
    """One connection: append what is missing, or start over where the server knows no ranges."""
    have = _size(file)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        source = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to send, so the digest decides
            raise
        error.close()
        return
    with source:
        start = source.headers.get("Content-Range", "")
        if not (source.status == 206 and start.startswith(f"bytes {have}-")):
            if source.status == 206:
                raise _Interrupted(f"the server answered another range than asked: {start!r}")
            file.truncate(0)
            have = 0
        length = source.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(desc=name, total=total, initial=have, unit="iB", unit_scale=True, ncols=80, disable=None)
        with bar:
            while chunk := source.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    file.flush()
    if total is not None and _size(file) < total:
        raise _Interrupted(f"the connection ended after {_size(file):,} of {total:,} bytes")


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
