"""Writing an entry, batch by batch, under a name that nobody takes for one."""
from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..features import ImageFeatures
from . import keys
from .files import INFO, build_folder, remove

if TYPE_CHECKING:
    from .store import FeatureStore

TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


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
        self.folder = build_folder(store.folder, key)
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
                data = keys.bytes_of(tensor)
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
            self.info |= {"format": keys.FORMAT, "key": self.key, "about": self.about, "facts": self.facts}
            self.info["files"] = {
                name: {"bytes": (self.folder / f"{name}.bin").stat().st_size, "crc32": self._sums[name]}
                for name in self._files
            }
            (self.folder / INFO).write_text(json.dumps(self.info, indent=1) + "\n", encoding="utf-8")
            os.rename(self.folder, self.store.folder / self.key)
        except OSError as problem:
            # Another process was as busy, and faster; or our own rename was done, but the server's answer lost
            exists = problem.errno in TAKEN or (self.store.folder / self.key / INFO).is_file()
            self._give_up("" if exists else f"{problem.strerror or problem}")
