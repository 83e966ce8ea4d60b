"""What AutoAugment and RandAugment have in common: operations on PIL images that draw nothing, by name."""
from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

Operation = Callable[[Image.Image, float], Image.Image]  # image, strength


def moved(
    image: Image.Image,
    *matrix: float,
    resampling: Image.Resampling = Image.Resampling.NEAREST,
    fill: tuple[int, ...] | None = None,
) -> Image.Image:
    """Move the pixels of an image by an affine map.

    Parameters
    ----------
    image : PIL image
        It keeps its size.
    *matrix : float
        a ... f: pixel (x, y) of the result comes from (a x + b y + c, d x + e y + f).
    resampling : Image.Resampling
        How values between pixels are made.
    fill : tuple, optional
        Colour of what is uncovered, black by default.
    """
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resampling, fillcolor=fill)


# strength: a factor (1 leaves the image as it is), a number of bits, or a threshold from 0 to 256
PLAIN: dict[str, Operation] = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "Color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "Contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Identity": lambda image, _: image,
    "Invert": lambda image, _: ImageOps.invert(image),
    "Posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "Sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "Solarize": lambda image, threshold: ImageOps.solarize(image, threshold),  # type: ignore[arg-type]
}
