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
    """Pixel (x, y) comes from (a x + b y + c, d x + e y + f), for the `matrix` a ... f; `fill` is black by default."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resampling, fillcolor=fill)


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
