"""The formats that pictures are read in: one list, for whoever opens files and whoever looks for them in folders.

Pillow knows dozens more. Each is a decoder that a file from anywhere would reach, whatever its name, and one of them
starts another program. HEIC, what phones of Apple write, is read by a package of its own, which may be missing; such
files count as pictures all the same, so that they are reported and not silently left out.
"""
from __future__ import annotations

from functools import cache

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # Pillow's names
ALSO_CALLED = ("MPO", "DIB")  # JPEGs of phones that hold a second picture, and bitmaps without the file's header
HEIF = "HEIF"  # the name under which pillow-heif registers its decoder
HEIF_SUFFIXES = (".heic", ".heics", ".heif", ".heifs", ".hif")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # HEVC-coded, single or series
HEIF_REMEDY = 'it is a HEIC picture, which needs pillow-heif: pip install -e ".[heic]", or convert it to JPEG'


@cache
def reads_heif() -> bool:
    """Register the decoder of HEIC pictures with Pillow; False where pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def readable_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that can be decoded here."""
    return (*FORMATS, HEIF) if reads_heif() else FORMATS


def is_heif(start: bytes) -> bool:
    """Tell a HEIC picture by the first 12 bytes of its file: a box of the type ftyp, then the brand."""
    return start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS


@cache
def image_suffixes() -> frozenset[str]:
    """Return the endings of the names of pictures in lower case, like ".jpg"."""
    from PIL import Image

    Image.init()
    kinds = {*FORMATS, *ALSO_CALLED}
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds}
    return frozenset({*known, *HEIF_SUFFIXES})
