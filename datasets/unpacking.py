"""Unpack parts of a tar or zip archive into a folder, and move them into place. Archives are not trusted."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, BinaryIO, NamedTuple

from tqdm import tqdm

from clip.download import CHUNK, require_room

from .files import first_few

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError)  # last: encrypted


class BadArchive(ValueError):
    """Damaged, hostile, or without what it should hold."""


class Member(NamedTuple):
    """One entry of an archive, in the archive's order."""

    name: str
    kind: str  # "file", "folder", or "other": links and devices
    open: Callable[[], IO[bytes] | None]
    end: int  # bytes of the archive up to here, for the bar


def is_archive(path: Path) -> bool:
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def unpack(archive: Path, folder: Path, wanted: Collection[str]) -> None:
    """Write those members of `archive` that are, or lie below, one of the `wanted` paths into `folder`.

    Raises BadArchive when a name leads out of the folder, when a wanted member is neither file nor folder, when
    the archive is damaged, and when a wanted path is not in it; OSError when the disk has no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tops: dict[str, None] = {}
    try:
        with open(archive, "rb") as raw, tqdm(
            total=archive.stat().st_size, desc=f"unpacking {archive.name}", unit="B", unit_scale=True, disable=None
        ) as bar:
            read = read_zip if zipfile.is_zipfile(raw) else read_tar
            for member in read(raw, folder):
                path = safe_path(member.name, archive)
                bar.update(max(0, member.end - bar.n))
                tops |= dict.fromkeys(path.parts[:1])
                if any(path.is_relative_to(part) for part in wanted):
                    write_member(member, folder / path, archive)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's; gzip reports damage as an OSError without number
            raise
        raise BadArchive(f"{archive} is damaged or no archive ({error})") from error
    if missing := [part for part in wanted if not (folder / part).exists()]:
        raise BadArchive(f"{archive} holds no {first_few(missing)}, but {first_few(tops)}")


def read_zip(raw: BinaryIO, folder: Path) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as archive:
        infos = archive.infolist()
        require_room(folder, sum(info.file_size for info in infos))
        for info in infos:
            mode = info.external_attr >> 16
            special = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
            kind = "other" if special else "folder" if info.is_dir() else "file"
            end = info.header_offset + info.compress_size
            yield Member(info.filename, kind, lambda info=info: archive.open(info), end)  # type: ignore[misc]


def read_tar(raw: BinaryIO, folder: Path) -> Iterator[Member]:
    """Also reads on to the end of the stream, where gzip keeps its check sum."""
    require_room(folder, os.fstat(raw.fileno()).st_size)  # at least; pictures hardly shrink
    raw.seek(0)
    with tarfile.open(fileobj=raw) as archive:
        for info in archive:
            kind = "file" if info.isreg() else "folder" if info.isdir() else "other"
            yield Member(info.name, kind, lambda info=info: archive.extractfile(info), raw.tell())  # type: ignore[misc]
        stream: Any = archive.fileobj
        while stream.read(CHUNK):
            pass


def safe_path(name: str, archive: Path) -> PurePosixPath:
    """The name as a path below the folder; BadArchive if it is absolute or leads elsewhere, on any system."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
        raise BadArchive(f"{archive}: the member {name!r} leads out of the folder; the archive is not to be trusted")
    return path


def write_member(member: Member, path: Path, archive: Path) -> None:
    if member.kind == "other":
        raise BadArchive(f"{archive}: the member {member.name!r} is a link or device; data sets hold only files")
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = member.open()
    assert content is not None  # a regular file
    with content, open(path, "wb") as file:
        shutil.copyfileobj(content, file, CHUNK)


def move_into(source: Path, target: Path) -> None:
    """Move a file or folder to `target`, in one step where nothing is; else the files of `source` replace those of
    the same name, and others stay."""
    if source.is_dir() and target.is_dir():
        for child in sorted(source.iterdir()):
            move_into(child, target / child.name)
        source.rmdir()
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
