"""Unpack a tar or zip archive, or parts of it, into a folder. Archives are not trusted.

What an archive may become is bounded by its own size, since pictures hardly shrink: a few kilobytes that unpack to
gigabytes are no data set. It must be whole, too: tarfile takes a damaged header for the end, without a word, so the
end is looked at here.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, NamedTuple

from tqdm import tqdm

from dassl.plain.text import first_few, printable
from dassl.plain.writing import require_room

__all__ = ["BadArchive", "is_archive", "unpack"]

CHUNK = 1 << 20
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError)  # last: encrypted
CONTRADICTORY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)  # a file in place of a folder, ...
MOST_RATIO = 20  # unpacked bytes for one of the archive, and lists of text shrink more:
MOST_ANYWAY = 64 << 20
MOST_MEMBERS = 3_000_000  # ImageNet has 1.3 million
MOST_AT_ONCE = 16 << 20  # bytes; tarfile reads long names and the like in one piece
COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


class BadArchive(ValueError):
    """Damaged, hostile, or without what it should hold."""


class Member(NamedTuple):
    """One entry of an archive.

    Parameters
    ----------
    name
        Its path, as the archive has it.
    ordinary
        Whether it is a file or a folder, and no link, device or sparse file.
    extract
        Writes it into the folder.
    end
        Bytes of the archive up to here, for the bar.
    """

    name: str
    ordinary: bool
    extract: Callable[[], object]
    end: int


def is_archive(path: Path) -> bool:
    """Whether the file begins like a tar, compressed or not, or is a zip."""
    if zipfile.is_zipfile(path):
        return True
    try:
        with open(path, "rb") as raw, open_tar(raw):
            return True
    except (*DAMAGED, BadArchive, OSError):
        return False


def unpack(archive: Path, folder: Path, wanted: Collection[str] = (".",)) -> None:
    """Unpack an archive, or parts of it.

    Parameters
    ----------
    archive
        A tar, compressed or not, or a zip.
    folder
        Where its members go; made if need be.
    wanted
        Paths in the archive: what is one of them, or lies below one, is written. By default everything.

    Raises
    ------
    BadArchive
        When a name leads out of the folder or would command a terminal, when a wanted member is neither file nor
        folder, when the archive is damaged or becomes too large, and when a wanted path is not in it.
    OSError
        When the disk has no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tops: dict[str, None] = {}
    try:
        with open(archive, "rb") as raw, tqdm(
            total=archive.stat().st_size, desc=f"unpacking {archive.name}", unit="B", unit_scale=True, disable=None
        ) as bar:
            read = read_zip if zipfile.is_zipfile(raw) else read_tar
            for count, member in enumerate(read(raw, folder), start=1):
                if count > MOST_MEMBERS:
                    raise BadArchive(f"{archive} has more than {MOST_MEMBERS:,} members; it is not to be trusted")
                path = safe_path(member.name, archive)
                bar.update(max(0, member.end - bar.n))
                tops |= dict.fromkeys(path.parts[:1])
                if any(path.is_relative_to(part) for part in wanted):
                    write_member(member, archive)
    except (*DAMAGED, OSError) as error:
        # without a number it is gzip's word for damage
        if isinstance(error, OSError) and error.errno and error.errno not in CONTRADICTORY:
            raise
        raise BadArchive(f"{archive} is damaged or no archive ({error})") from error
    if missing := [part for part in wanted if not (folder / part).exists()]:
        raise BadArchive(f"{archive} holds no {first_few(missing)}, but {first_few(map(printable, tops))}")


def most_bytes(raw: BinaryIO) -> int:
    """Return how many bytes the archive in the open file may become."""
    return MOST_ANYWAY + MOST_RATIO * os.fstat(raw.fileno()).st_size


def read_zip(raw: BinaryIO, folder: Path) -> Iterator[Member]:
    """Go through the members of a zip; the sizes that it declares are what zipfile reads at the most."""
    with zipfile.ZipFile(raw) as archive:
        infos = archive.infolist()
        total = sum(info.file_size for info in infos)
        if total > most_bytes(raw):
            raise BadArchive(_too_large(raw, total))
        require_room(folder, total)
        for info in infos:
            mode = info.external_attr >> 16
            ordinary = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)  # 0: not made on a Unix
            end = info.header_offset + info.compress_size
            yield Member(info.filename, ordinary, partial(archive.extract, info, folder), end)


def read_tar(raw: BinaryIO, folder: Path) -> Iterator[Member]:
    """Go through the members of a tar, and on to the end of the stream, where gzip keeps its check sum."""
    require_room(folder, os.fstat(raw.fileno()).st_size)  # at least; pictures hardly shrink
    with open_tar(raw) as (archive, stream):
        # Python's own filter, where it has one (3.10.12, 3.11.4): it refuses less than we do, and sets safe modes.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        for info in archive:
            ordinary = (info.isreg() or info.isdir()) and not info.issparse()
            require_room(folder, info.size if ordinary else 0)
            yield Member(info.name, ordinary, partial(archive.extract, info, folder), raw.tell())
            archive.members.clear()  # type: ignore[attr-defined]  # a million of them take a gigabyte
        stream.check_end()


@contextlib.contextmanager
def open_tar(raw: BinaryIO) -> Iterator[tuple[tarfile.TarFile, _Bounded]]:
    """Open a tar, compressed or not.

    Yields
    ------
    tuple
        The tar, and its unpacked stream, of which no more than `most_bytes` are read. tarfile's own decompression would
        hide how much a header asks for.
    """
    raw.seek(0)
    magic = raw.read(6)
    raw.seek(0)
    opens = next((opens for start, opens in COMPRESSIONS.items() if magic.startswith(start)), contextlib.nullcontext)
    with opens(raw) as unpacked:
        stream: Any = _Bounded(unpacked, raw)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            yield archive, stream


class _Bounded:
    """The unpacked stream of a tar, to be read once from its beginning to its end."""

    def __init__(self, stream: Any, raw: BinaryIO) -> None:
        self.stream, self.raw, self.most = stream, raw, most_bytes(raw)
        self.last = b""  # what was read last: before the end of the archive, its first block

    def read(self, size: int) -> bytes:
        if size > MOST_AT_ONCE:
            raise BadArchive(f"{self.raw.name} has a header of {size:,} bytes; it is not to be trusted")
        self._check(self.stream.tell())
        self.last = self.stream.read(size)
        return self.last

    def seek(self, position: int) -> int:
        self._check(position)
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()

    def _check(self, position: int) -> None:
        if position > self.most:
            raise BadArchive(_too_large(self.raw, position))

    def check_end(self) -> None:
        """Raise ReadError unless the archive ends where its members do: with blocks of zeros and nothing after them."""
        if len(self.last) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends without an end-of-archive marker: it is cut")
        while self.last:
            if self.last.strip(b"\0"):
                raise tarfile.ReadError("a member's header is damaged, and what follows it cannot be read")
            self.read(CHUNK)


def _too_large(raw: BinaryIO, size: int) -> str:
    return (
        f"{raw.name} has {os.fstat(raw.fileno()).st_size:,} bytes and would become {size:,} or more, but at most "
        f"{most_bytes(raw):,} are unpacked; it is not to be trusted"
    )


def safe_path(name: str, archive: Path) -> PurePosixPath:
    """Return the name as a path below the folder; BadArchive if it is absolute or leads elsewhere, on any system."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
        raise BadArchive(f"{archive}: the member {name!r} leads out of the folder; the archive is not to be trusted")
    return path


def write_member(member: Member, archive: Path) -> None:
    """Extract a file or folder; BadArchive for anything else, and for a name that would command a terminal."""
    name = member.name.encode("utf-8", "replace").decode()  # bytes that are no UTF-8 do no harm
    if printable(name) != name:
        raise BadArchive(f"{archive}: the member {member.name!r} has control characters in its name")
    if not member.ordinary:
        raise BadArchive(f"{archive}: {member.name!r} is a link or device, or a sparse file; data sets hold only files")
    member.extract()
