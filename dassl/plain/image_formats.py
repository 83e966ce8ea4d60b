"""The formats that pictures are read in: one list, for whoever opens files and whoever looks for them in folders.

Pillow knows dozens more. Each is a decoder that a file from anywhere would reach, whatever its name, and one of them
starts another program.
"""
from __future__ import annotations

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # Pillow's names
ALSO_CALLED = ("MPO", "DIB")  # JPEGs of phones that hold a second picture, and bitmaps without the file's header


def image_suffixes() -> set[str]:
    """Return the endings of the names of such files, like ".jpg"."""
    from PIL import Image

    Image.init()
    kinds = {*FORMATS, *ALSO_CALLED}
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds}
