"""Training images are decoded once: an epoch of few-shot training is short, and decoding would be most of it.

`IMAGES` is the one memory of a process. It is filled before worker processes are forked, so that they share its pages,
and it outlives a run, so that the next run on the same images has them too. What is handed out has the pixels that
reading the file again would give, so random crops see exactly what they would have seen.

Images are never decoded at reduced size: JPEG decoders can (`Image.draft`), but the pixels after resizing are others,
by up to 4 levels of 255 for a smooth picture of 1600 x 1200 that is read at a quarter and resized to 224.
"""
from __future__ import annotations

import multiprocessing
import os
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from dassl.utils.images import AS_STORED, Reading, open_image, read_image
from dassl.utils.tools import FileState, file_state

BYTES_PER_PIXEL = 4  # what Pillow takes for RGB
LOOKED_AT = 64  # headers from which the size of a whole list is estimated


class Kept(NamedTuple):
    """A decoded image.

    Attributes
    ----------
    state : FileState
        Of the file, before it was read.
    reading : Reading
        How its pixels were taken.
    image : PIL image
        In RGB.
    """

    state: FileState
    reading: Reading
    image: Image.Image


class ImageMemory:
    """Decoded RGB images by path, of the state that the file was in; the least recently used go first.

    Attributes
    ----------
    size : int
        Bytes of all images.
    """

    def __init__(self) -> None:
        self.size = 0  # bytes
        self._images: OrderedDict[str, Kept] = OrderedDict()

    def holds(self, path: str, reading: Reading | None = None) -> bool:
        """Tell whether the image is here, read in that way (None: in any), and the file has not changed since."""
        kept = self._images.get(path)
        return kept is not None and reading in (None, kept.reading) and kept.state == file_state(path)

    def read(self, path: str, reading: Reading = AS_STORED) -> Image.Image:
        """Return the RGB image as `read_image` does, from memory where it is there: a copy, to be changed freely."""
        return self._images[path].image.copy() if self.holds(path, reading) else read_image(path, reading)

    def fill(self, paths: Iterable[str], limit: float, reading: Reading = AS_STORED) -> None:
        """Decode what is missing of some images, if all of them fit; otherwise nothing is kept of them.

        Older images make room. Files that cannot be read are left out: reading them will say why.

        Parameters
        ----------
        paths : iterable of str
            Files.
        limit : float
            Bytes for all images together.
        reading : Reading
            How their pixels are taken.
        """
        paths = list(dict.fromkeys(paths))
        if not paths or _estimate(paths) > limit:
            return
        for path in paths:
            if path in self._images:
                self._images.move_to_end(path)
        missing = [path for path in paths if not self.holds(path, reading)]
        if not missing:
            return
        with (
            ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,  # Pillow decodes without the interpreter lock
            tqdm(total=len(missing), desc="Reading training images", disable=None, leave=False, delay=1) as bar,
        ):
            for path, kept in zip(missing, pool.map(partial(_decode, reading=reading), missing), strict=True):
                bar.update()
                if kept is not None:
                    self._forget(path)
                    self._images[path] = kept
                    self.size += _bytes(kept.image)
        while self.size > limit and self._images:
            self._forget(next(iter(self._images)))

    def clear(self) -> None:
        """Forget all images."""
        self._images.clear()
        self.size = 0

    def _forget(self, path: str) -> None:
        kept = self._images.pop(path, None)
        if kept is not None:
            self.size -= _bytes(kept.image)


IMAGES = ImageMemory()


def workers_share_memory() -> bool:
    """Tell whether worker processes see what this process has in memory."""
    return multiprocessing.get_start_method() == "fork"


def _decode(path: str, reading: Reading) -> Kept | None:
    """Return an image with the state of its file before it was read; None where it cannot be."""
    state = file_state(path)
    try:
        return None if state is None else Kept(state, reading, read_image(path, reading))
    except OSError:
        return None


def _bytes(image: Image.Image) -> int:
    return image.width * image.height * BYTES_PER_PIXEL


def _estimate(paths: list[str]) -> float:
    """Return how many bytes the images will take, judged by the headers of some, evenly spread over the list."""
    looked_at, total = 0, 0
    for path in paths[:: -(-len(paths) // LOOKED_AT)]:
        try:
            with open_image(path) as image:
                total += _bytes(image)
                looked_at += 1
        except OSError:  # whoever reads it will hear
            continue
    return total / looked_at * len(paths) if looked_at else float("inf")
