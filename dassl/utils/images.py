"""The one place that opens pictures. Their files are not trusted: who made them, nobody knows.

Only the formats in FORMATS are decoded, only regular files are opened (a pipe would be waited for without end), and a
picture's size is looked at before it is decoded.
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from dassl.plain.image_formats import FORMATS

from .tools import StrPath, not_regular, printable

__all__ = ["LONGEST_SIDE", "ImageError", "open_image", "read_image", "to_rgb"]

# Of a picture, in multiples of its shorter side, which is resized to that of the network: at 224 pixels, the longest
# then has 224 x 22,400 pixels in 20 MB. Photographs are nowhere near: the thinnest of Caltech101's is 3.75.
LONGEST_SIDE = 100


class ImageError(OSError):
    """A file that is not read as a picture; `reason` is the message without the file's name.

    Worker processes send errors on by type and text, so there is no constructor of its own: see `of`.
    """

    reason = ""

    @classmethod
    def of(cls, path: StrPath, reason: str) -> ImageError:
        """Make the error that names a file and says what is wrong with it."""
        error = cls(f"cannot read the image {printable(os.fspath(path))}: {reason}")
        error.reason = reason
        return error


@contextlib.contextmanager
def open_image(path: StrPath) -> Iterator[Image.Image]:
    """Open the picture at `path` and read its header; the pixels are decoded when they are first asked for.

    Raises
    ------
    FileNotFoundError
        Where there is no file.
    ImageError
        Where it cannot be read, and also for whatever is raised within the block: Pillow's decoders raise nearly
        anything on damaged files.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"No file exists at {printable(os.fspath(path))}")
    try:
        if problem := not_regular(path):
            raise ImageError.of(path, problem)
        if os.path.getsize(path) == 0:
            raise ImageError.of(path, "it is empty")
        with Image.open(path, formats=FORMATS) as image:
            _check_size(path, image)
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError.of(path, f"it is damaged, or no picture in one of the formats {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError.of(path, f"{printable(error)} Make the picture smaller, or take it out") from error
    except MemoryError as error:
        raise ImageError.of(path, "there is too little memory to decode it; make it smaller, or take it out") from error
    except Exception as error:
        raise ImageError.of(path, printable(error) or type(error).__name__) from error


def _check_size(path: StrPath, image: Image.Image) -> None:
    """Refuse a picture that resizing the shorter side would make huge."""
    short, long = sorted(image.size)
    if not 0 < long <= LONGEST_SIDE * short:
        raise ImageError.of(
            path,
            f"it has {image.width:,} x {image.height:,} pixels, but the longer side may be at most {LONGEST_SIDE} "
            "times the shorter, which is resized to the network's input; cut it into pieces, or take it out",
        )


def read_image(path: StrPath) -> Image.Image:
    """Read the picture at `path` as RGB; OSError, naming the file, when it is missing, not decodable or too thin."""
    with open_image(path) as image:
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture to RGB.

    Of a grey one of 16 bits the upper 8 are taken: Pillow cuts every value at 255, which turns nearly all of it white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # as before Pillow 11.3
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
