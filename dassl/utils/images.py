"""The one place that opens pictures. Their files are not trusted: who made them, nobody knows.

Only the formats of `dassl.plain.image_formats` are decoded, only regular files are opened (a pipe would be waited for
without end), and a picture's size is looked at before it is decoded. Of a file with several pictures (an animation, the
pages of a TIFF) the first is read.

What the pixels become is a choice, `Reading`: published results read them as they are stored, and of one's own pictures
a person expects what a viewer shows.
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from dassl.plain.image_formats import HEIF, HEIF_REMEDY, is_heif, readable_formats

from .tools import StrPath, not_regular, printable

__all__ = ["AS_STORED", "LONGEST_SIDE", "ImageError", "Reading", "open_image", "read_image", "to_rgb"]

# Of a picture, in multiples of its shorter side, which is resized to that of the network: at 224 pixels, the longest
# then has 224 x 22,400 pixels in 20 MB. Photographs are nowhere near: the thinnest of Caltech101's is 3.75.
LONGEST_SIDE = 100

ORIENTATION = 0x0112  # the EXIF tag: how the picture has to be turned to stand upright; 1 is upright
TURNS = {  # the tag's other values, from the specification of EXIF: where the stored first row and column belong
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UPRIGHT = ("TIFF", "HEIF")  # formats whose decoders turn the picture


class Reading(NamedTuple):
    """How stored pixels become an RGB picture.

    Attributes
    ----------
    upright : bool
        Turn the picture as its EXIF orientation says, as viewers do.
    background : str
        Name of the colour that transparent pixels are laid on. Empty: transparency is dropped, and what lies under it
        comes to light.
    """

    upright: bool = False
    background: str = ""

    @classmethod
    def from_cfg(cls, cfg: Any) -> Reading:
        """Return what INPUT.EXIF_ORIENTATION and INPUT.ALPHA say; a tree without these keys reads as published."""
        return cls(bool(cfg.INPUT.get("EXIF_ORIENTATION", False)), str(cfg.INPUT.get("ALPHA", "")))


AS_STORED = Reading()  # as published results read pictures


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
        with Image.open(path, formats=readable_formats()) as image:
            _check_size(path, image)
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError.of(path, _why_unidentified(path)) from error
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


def _why_unidentified(path: StrPath) -> str:
    """Say why no decoder recognises a file."""
    formats = readable_formats()
    with open(path, "rb") as file:
        if is_heif(file.read(12)) and HEIF not in formats:
            return HEIF_REMEDY
    return f"it is damaged, or no picture in one of the formats {', '.join(formats)}"


def read_image(path: StrPath, reading: Reading = AS_STORED) -> Image.Image:
    """Read the picture at `path` as RGB.

    Raises
    ------
    OSError
        Naming the file, when it is missing, not decodable or too thin.
    """
    with open_image(path) as image:
        return to_rgb(image, reading)


def to_rgb(image: Image.Image, reading: Reading = AS_STORED) -> Image.Image:
    """Convert a picture to RGB; the picture itself may be decoded by this, but is not changed.

    Of a grey one of 16 bits the upper 8 are taken: Pillow cuts every value at 255, which turns nearly all of it white.
    """
    turn = _turn_of(image) if reading.upright else None
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # as before Pillow 11.3
        image = _upper_bits(image)
    image = _without_alpha(image, reading.background) if reading.background else image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def _upper_bits(image: Image.Image) -> Image.Image:
    """Return the upper 8 of 16 bits of grey; with transparency where one value is declared transparent."""
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _without_alpha(image: Image.Image, background: str) -> Image.Image:
    """Lay a picture on a coloured ground; one without transparency is merely converted."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa") and "transparency" not in image.info:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, background)
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return how a picture has to be turned to stand upright; None where nothing says so.

    Of TIFF and HEIC the decoders turn the picture themselves. A damaged EXIF block says nothing, and does not make the
    picture unreadable.
    """
    if image.format in UPRIGHT:
        return None
    image.load()  # here, where damaged pixels raise: reading the tag of a PNG would decode them, too
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # its parser raises nearly anything
        return None
