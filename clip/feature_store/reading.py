"""Reading an entry that another process, or another machine, may take away or replace at any moment.

The files are opened once and stay open; sizes, checksums and rows all come from what was opened then.  On a file system
of this machine an open file stays readable when its name is gone.  On a network file system reading it fails, which is
an OSError here; in a file that is mapped into memory it would end the process (SIGBUS), so there nothing is mapped.
"""
from __future__ import annotations

import errno
import json
import mmap
import os
import weakref
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dassl.plain.locking import is_local

from ..features import ImageFeatures
from . import keys
from .files import INFO

READ_AT_ONCE = 1 << 26  # bytes, when checksums are computed


class Damaged(Exception):
    """An entry is not what was written; the text says how."""


class StoredFeatures:
    """The features of an entry, in files that are open as long as this object lives.

    Parameters
    ----------
    folder
        The entry's.

    Attributes
    ----------
    signature
        What changes when a file is replaced or written to: numbers, sizes and times of the files.  The time of
        `entry.json` is left out: it is the last use.

    Raises
    ------
    Damaged
        For a description or a size that is wrong, and for a file that is missing.
    OSError
        Where nothing can be read at the moment: no such entry, a stale handle, no permission.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}
        with ExitStack() as stack:
            try:
                self.info = json.loads((folder / INFO).read_text(encoding="utf-8"))
                if self.info["format"] != keys.FORMAT:
                    raise Damaged(f"it has format {self.info['format']}, not {keys.FORMAT}")
                self.dtype = getattr(torch, self.info["dtype"])
                for name in ImageFeatures._fields:
                    file = stack.enter_context(open(folder / f"{name}.bin", "rb", buffering=0))
                    size, needed = os.fstat(file.fileno()).st_size, self._bytes(name)
                    if not size == self.info["files"][name]["bytes"] == needed:
                        raise Damaged(f"{name}.bin has {size} bytes instead of {needed}")
                    self._files[name] = file
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise Damaged(f"{type(error).__name__}: {error}") from error
            except FileNotFoundError as error:
                if not folder.is_dir():
                    raise
                raise Damaged(f"{Path(error.filename).name} is missing") from error
            weakref.finalize(self, stack.pop_all().close)
        stats = [os.fstat(file.fileno()) for file in self._files.values()]
        self.signature = tuple(number for stat in stats for number in (stat.st_ino, stat.st_size, stat.st_mtime_ns))

    def __len__(self) -> int:
        return self.info["pooled"][0]

    def _bytes(self, name: str) -> int:
        return torch.Size(self.info[name]).numel() * self.dtype.itemsize

    def verify(self) -> None:
        """Read all bytes; raise Damaged where a checksum differs."""
        for name, file in self._files.items():
            file.seek(0)
            checksum = 0
            while data := file.read(READ_AT_ONCE):
                checksum = zlib.crc32(data, checksum)
            if checksum != self.info["files"][name]["crc32"]:
                raise Damaged(f"{name}.bin has other bytes than were written")

    def rows(self, first: int, stop: int) -> ImageFeatures:
        """Read the features of images first, ..., stop - 1 into memory.

        Raises
        ------
        OSError
            Where the files are gone from a network file system.
        """
        return ImageFeatures(*(self._read(name, first, stop) for name in ImageFeatures._fields))

    def all(self) -> ImageFeatures:
        """Give the features of all n images; writing into them does not change the files.

        They are mapped where the file system is this machine's own: pages come and go as they are needed, and processes
        share them.  From any other they are read into memory.

        Raises
        ------
        OSError
            As `rows` does.
        """
        if not is_local(self.folder):
            return self.rows(0, len(self))
        return ImageFeatures(*map(self._map, ImageFeatures._fields))

    def _read(self, name: str, first: int, stop: int) -> Tensor:
        shape = [stop - first, *self.info[name][1:]]
        row = torch.Size(shape[1:]).numel() * self.dtype.itemsize
        data = torch.empty((stop - first) * row, dtype=torch.uint8)
        buffer: Any = data.numpy()
        file, rest = self._files[name], memoryview(buffer)
        file.seek(first * row)
        while rest:
            count = file.readinto(rest)
            if not count:
                raise OSError(errno.EIO, "the file became shorter", file.name)
            rest = rest[count:]
        return data.view(self.dtype).view(shape)

    def _map(self, name: str) -> Tensor:
        shape = self.info[name]
        if not self._bytes(name):
            return torch.empty(shape, dtype=self.dtype)
        pages = mmap.mmap(self._files[name].fileno(), 0, access=mmap.ACCESS_COPY)
        return torch.frombuffer(pages, dtype=self.dtype).view(shape)
