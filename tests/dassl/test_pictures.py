"""How stored pixels become a picture: as published results read them, and as a person sees them."""

import struct

import numpy as np
import pytest
from PIL import Image

from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.plain import image_formats
from dassl.utils import read_image
from dassl.utils.images import AS_STORED, ORIENTATION, Reading, to_rgb
from tests.support.data import BAD_IMAGES, make_cfg, write_bad_images, write_picture

SEEN = Reading(upright=True, background="white")
RAMP = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3  # (height, width, 3): every pixel is another


def tagged(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


# --- upright ---------------------------------------------------------------------------------------------

STORED = {  # orientation -> what a camera stores so that this tag brings RAMP back, by the specification's words
    1: lambda a: a,  # row 0 is the top, column 0 the left side
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.transpose(1, 0, 2),  # left, top
    6: lambda a: a.transpose(1, 0, 2)[::-1],  # right, top
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],  # left, bottom
}


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("value", STORED)
def test_a_picture_is_turned_as_its_tag_says(tmp_path, suffix, value):
    path = tmp_path / f"a.{suffix}"
    turned = np.ascontiguousarray(STORED[value](RAMP))
    Image.fromarray(turned).save(path, exif=tagged(value), **{"webp": {"lossless": True}}.get(suffix, {}))
    assert np.array_equal(read_image(path, SEEN), RAMP)
    if suffix != "tif":  # of which newer Pillows turn the pixels themselves
        assert np.array_equal(read_image(path), turned)
    with Image.open(path) as decoded:
        assert np.array_equal(to_rgb(decoded, SEEN), RAMP)


def test_a_photograph_of_a_phone(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30), "red").save(path, exif=tagged(6))
    assert read_image(path).size == (40, 30) and read_image(path, SEEN).size == (30, 40)


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*" + b"\xff" * 60, b"Exif\0\0", tagged(9).tobytes(), b"no EXIF"])
def test_a_strange_tag_turns_nothing(tmp_path, exif):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30), "red").save(path, exif=exif)
    assert read_image(path, SEEN).size == (40, 30)


def test_damaged_pixels_are_found_on_the_way_to_the_tag(tmp_path):
    write_bad_images(tmp_path)
    for name in BAD_IMAGES:
        with pytest.raises(OSError, match=name):
            read_image(tmp_path / name, SEEN)


# --- transparency ----------------------------------------------------------------------------------------


def transparent(kind: str) -> Image.Image:
    """Two pixels: the left one red (or mid grey) and visible, the right one of some other colour and not."""
    if kind in ("P", "P bytes"):
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((1, 0), 1)
        image.info["transparency"] = 1 if kind == "P" else b"\xff\0"
    elif kind == "RGBA":
        image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
        image.putpixel((1, 0), (0, 0, 255, 0))
    elif kind == "LA":
        image = Image.new("LA", (2, 1), (128, 255))
        image.putpixel((1, 0), (9, 0))
    elif kind == "RGB":
        image = Image.new("RGB", (2, 1), (255, 0, 0))
        image.putpixel((1, 0), (1, 2, 3))
        image.info["transparency"] = (1, 2, 3)
    elif kind == "L":
        image = Image.new("L", (2, 1), 128)
        image.putpixel((1, 0), 9)
        image.info["transparency"] = 9
    else:
        image = Image.fromarray(np.array([[128 << 8, 9 << 8]], np.uint16))
        image.info["transparency"] = 9 << 8
    return image


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "P bytes", "RGB", "L", "I;16"])
def test_what_nobody_sees_is_not_read(tmp_path, kind):
    image, path = transparent(kind), tmp_path / "a.png"
    try:
        image.save(path, transparency=image.info.get("transparency"))
    except OSError:
        pytest.skip("this Pillow cannot write such a file")
    visible = (255, 0, 0) if kind in ("RGBA", "P", "P bytes", "RGB") else (128, 128, 128)
    for background, colour in (("white", (255, 255, 255)), ("black", (0, 0, 0)), ("grey", (128, 128, 128))):
        seen = read_image(path, Reading(background=background))
        assert (seen.mode, seen.getpixel((0, 0)), seen.getpixel((1, 0))) == ("RGB", visible, colour)
    assert max(read_image(path).getpixel((1, 0))) in (3, 9, 255)  # as published: what lies under it
    assert np.array_equal(to_rgb(image, SEEN), read_image(path, SEEN))


def test_half_transparent_pixels_are_mixed_and_opaque_ones_exact(tmp_path):
    pixels = np.dstack([RAMP, np.full((6, 4), 255, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", SEEN), RAMP)
    Image.new("RGBA", (1, 1), (200, 100, 0, 51)).save(tmp_path / "b.png")  # 51 of 255: a fifth
    assert read_image(tmp_path / "b.png", SEEN).getpixel((0, 0)) == (244, 224, 204)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "1", "I;16"])
def test_without_transparency_nothing_changes(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    grey = np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000
    (Image.fromarray(grey) if mode == "I;16" else Image.fromarray(RAMP).convert(mode)).save(path)
    assert np.array_equal(read_image(path, SEEN), read_image(path))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_several_pictures_the_first_is_read(tmp_path, suffix):
    first, second = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    red, green, blue = read_image(tmp_path / f"a.{suffix}", SEEN).getpixel((3, 3))
    assert red > 200 and green < 60 and blue < 60


# --- formats ---------------------------------------------------------------------------------------------


@pytest.fixture
def without_heif(monkeypatch):
    monkeypatch.setattr(image_formats, "reads_heif", lambda: False)


def heic(path, orientation: int = 1):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    Image.new("RGB", (64, 48), "red").save(path, "HEIF", exif=tagged(orientation))
    return path


def test_pictures_of_apples_phones(tmp_path):
    picture = read_image(heic(tmp_path / "IMG_1.HEIC"), SEEN)
    assert picture.mode == "RGB" and picture.size == (64, 48) and picture.getpixel((9, 9))[0] > 200
    heic(tmp_path / "misnamed.jpg")  # as messengers do
    assert read_image(tmp_path / "misnamed.jpg").size == (64, 48)


def test_a_missing_reader_is_named(tmp_path, without_heif):
    box = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic"
    (tmp_path / "IMG_1.HEIC").write_bytes(box + bytes(100))
    with pytest.raises(OSError, match=r"IMG_1.HEIC: it is a HEIC picture, .*pip install -e \"\.\[heic\]\""):
        read_image(tmp_path / "IMG_1.HEIC")
    (tmp_path / "b.heic").write_bytes(b"something else, and long enough")
    with pytest.raises(OSError, match=r"b.heic: it is damaged, or no picture in one of the formats JPEG, [^H]*PPM$"):
        read_image(tmp_path / "b.heic")


# --- the keys --------------------------------------------------------------------------------------------


def test_a_data_set_reads_as_its_keys_say(tmp_path):
    path = tmp_path / "a.png"
    image = Image.open(write_picture(path, size=(40, 30))).convert("RGBA")
    image.putalpha(0)
    image.save(path, exif=tagged(6))
    cfg = make_cfg()
    plain = DatasetWrapper(cfg, [Datum(str(path))])[0]["img"]
    assert Reading.from_cfg(cfg) == AS_STORED and plain.size == (40, 30) and len(plain.getcolors(9999)) > 1000
    cfg.INPUT.EXIF_ORIENTATION, cfg.INPUT.ALPHA = True, "white"
    seen = DatasetWrapper(cfg, [Datum(str(path))])[0]["img"]
    assert seen.size == (30, 40) and seen.getcolors() == [(1200, (255, 255, 255))]
