"""Ink and paper of the demo world: flat shapes in local coordinates, in the style of the day.

A `Pen` draws one object. It maps the object's own coordinates (x right, y down, the object fills about
[-1, 1] in both) through a placement (where, how large, how tilted, mirrored) onto a square Pillow image that
is SUPERSAMPLE times larger than the result, and it remembers every named part for the captions.

A `Style` says what ink does: the colour behind each colour name, outlines, shaky hands, chalk hatching.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from PIL import Image, ImageDraw

SIZE = 128  # pixels of the finished picture, both ways
SUPERSAMPLE = 2  # drawn this much larger, then reduced: antialiasing

RGB = tuple[int, int, int]
Points = list[tuple[float, float]]

COLOURS: dict[str, RGB] = {
    "red": (205, 45, 40),
    "orange": (236, 134, 36),
    "yellow": (242, 208, 56),
    "green": (66, 150, 66),
    "blue": (48, 98, 190),
    "purple": (128, 66, 160),
    "pink": (236, 146, 178),
    "brown": (124, 78, 46),
    "black": (36, 36, 42),
    "white": (246, 246, 246),
    "gray": (140, 142, 148),
}
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")


@dataclass(frozen=True)
class Part:
    """A named part as drawn, for the captions.

    Parameters
    ----------
    name
        What it is: "sail".
    shape
        Its plain form: "triangle".
    colour
        A key of COLOURS, whatever ink the style has for it.
    texture
        "plain", "striped" or "dotted".
    x, y
        Its centre, in [0, 1] of the picture from the upper left.
    """

    name: str
    shape: str
    colour: str
    texture: str
    x: float
    y: float


@dataclass(frozen=True)
class Style:
    """What ink does on this sheet. Lengths are fractions of the picture's side.

    The photo world uses the defaults, which are flat paint without outlines; the chalk world sets them all.
    """

    palette: dict[str, RGB] = field(default_factory=lambda: dict(COLOURS))
    outline: RGB | None = None  # colour of the contour; None draws none
    outline_width: float = 0.008
    strokes: int = 1  # how often a contour is drawn over
    wobble: float = 0.0  # how far a contour strays
    hatch: float | None = None  # distance of chalk strokes that fill a shape; None fills flat
    flat: float = 1.0  # opacity of the flat fill (under the hatching, where there is any)


@dataclass(frozen=True)
class Placement:
    """Where an object stands in the picture.

    Parameters
    ----------
    x, y
        Its centre, in [0, 1] of the picture from the upper left.
    scale
        Half its size, in the same unit.
    tilt
        Angle in radians, clockwise.
    mirrored
        Whether left and right are exchanged.
    """

    x: float
    y: float
    scale: float
    tilt: float = 0.0
    mirrored: bool = False

    def place(self, points: Points) -> Points:
        """Map object coordinates to unit coordinates of the picture: mirror, turn, enlarge, move.

        With s the scale, t the tilt and m = -1 if mirrored, else 1:
        x' = x0 + s (m x cos t - y sin t) and y' = y0 + s (m x sin t + y cos t).
        """
        cos, sin = math.cos(self.tilt) * self.scale, math.sin(self.tilt) * self.scale
        sign = -1.0 if self.mirrored else 1.0
        return [(self.x + cos * sign * x - sin * y, self.y + sin * sign * x + cos * y) for x, y in points]


def ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Points:
    """Return points of an elliptical arc.

    Parameters
    ----------
    cx, cy
        Centre.
    rx, ry
        Radii.
    start, stop
        Where it begins and ends, in degrees clockwise from the right.
    """
    count = max(8, int((stop - start) / 12))
    angles = [math.radians(start + (stop - start) * i / count) for i in range(count + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def jitter(colour: RGB, rng: Random, amount: int = 14) -> RGB:
    """Return the same colour from another tube: all channels lighter or darker, and each a little by itself."""
    light = rng.randint(-amount, amount)
    red, green, blue = (max(0, min(255, c + light + rng.randint(-amount // 2, amount // 2))) for c in colour)
    return red, green, blue


class Pen:
    """Draws one object onto a picture and keeps the list of its named parts.

    Parameters
    ----------
    image
        The square picture, SUPERSAMPLE times larger than the result.
    placement
        Where the object stands in it.
    style
        What ink does.
    rng
        Source of all choices.

    Attributes
    ----------
    parts
        The named parts so far, in the order in which they were drawn.
    """

    def __init__(self, image: Image.Image, placement: Placement, style: Style, rng: Random):
        self.image = image
        self.placement = placement
        self.style = style
        self.rng = rng
        self.parts: list[Part] = []
        self.side = image.width
        self._draw = ImageDraw.Draw(image)

    # ---- choices
    def pick(self, *options: str) -> str:
        """Choose one of `options`, all equally likely."""
        return self.rng.choice(options)

    def vary(self, value: float, by: float = 0.15) -> float:
        """Return `value` times something within 1 -/+ `by`."""
        return value * self.rng.uniform(1 - by, 1 + by)

    def chance(self, probability: float) -> bool:
        """Whether something happens that does so with this probability."""
        return self.rng.random() < probability

    # ---- shapes
    def shape(self, points: Points, colour: str, part: str = "", form: str = "shape", texture: str = "plain",
              second: str = "white") -> None:  # fmt: skip
        """Draw a filled polygon.

        Parameters
        ----------
        points
            Corners in object coordinates.
        colour
            Name of its colour.
        part
            Name under which it is remembered as a part of the object; "" for ornament.
        form
            Its plain geometric form in words.
        texture
            "plain", "striped" or "dotted".
        second
            Name of the colour of stripes and dots.
        """
        unit = self.placement.place(points)
        pixels = [(x * self.side, y * self.side) for x, y in unit]
        ink = jitter(self.style.palette[colour], self.rng)
        if texture == "plain" and self.style.hatch is None and self.style.flat == 1.0:
            self._draw.polygon(pixels, fill=ink)
        else:
            self._fill(pixels, ink, texture, jitter(self.style.palette[second], self.rng))
        if self.style.outline is not None:
            self._contour(pixels)
        if part:
            self._remember(part, form, colour, texture, unit)

    def disc(self, cx: float, cy: float, rx: float, ry: float | None, colour: str, part: str = "",
             texture: str = "plain", second: str = "white", form: str = "circle") -> None:  # fmt: skip
        """Draw a filled ellipse around (cx, cy) with radii rx and ry (None: a circle); the rest as in `shape`."""
        self.shape(ellipse(cx, cy, rx, rx if ry is None else ry), colour, part, form, texture, second)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: str, part: str = "", texture: str = "plain",
            second: str = "white", form: str = "square") -> None:  # fmt: skip
        """Draw a filled rectangle with two opposite corners; the rest as in `shape`."""
        self.shape([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, part, form, texture, second)

    def line(self, points: Points, width: float, colour: str, part: str = "", form: str = "line") -> None:
        """Draw a stroke through `points`, `width` wide in object units; it may be a `part` of the plain `form`."""
        unit = self.placement.place(points)
        pixels = self._shaky([(x * self.side, y * self.side) for x, y in unit])
        thick = max(2, round(width * self.placement.scale * self.side))
        self._draw.line(pixels, fill=jitter(self.style.palette[colour], self.rng), width=thick, joint="curve")
        if part:
            self._remember(part, form, colour, "plain", unit)

    # ---- ink
    def _remember(self, part: str, form: str, colour: str, texture: str, unit: Points) -> None:
        """Keep a part for the captions, at the mean of its corners."""
        x = sum(p[0] for p in unit) / len(unit)
        y = sum(p[1] for p in unit) / len(unit)
        self.parts.append(Part(part, form, colour, texture, x, y))

    def _fill(self, pixels: Points, ink: RGB, texture: str, second: RGB) -> None:
        """Pattern and chalk strokes, cut out by the polygon; only its bounding box is touched."""
        left, top = (max(0, math.floor(min(p[k] for p in pixels))) for k in (0, 1))
        right, bottom = (min(self.side, math.ceil(max(p[k] for p in pixels)) + 1) for k in (0, 1))
        if right <= left or bottom <= top:
            return
        box = (left, top, right, bottom)
        width, height = right - left, bottom - top
        mask = Image.new("L", (width, height), 0)
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in pixels], fill=255)
        under = self.image.crop(box)
        layer = Image.blend(under, Image.new("RGB", (width, height), ink), self.style.flat)
        pen = ImageDraw.Draw(layer)
        if self.style.hatch is not None:
            self._parallel(pen, width, height, self.style.hatch * self.side, ink, self.rng.uniform(-1.2, 1.2))
        if texture == "striped":
            gap = max(7.0, 0.28 * min(width, height))
            self._parallel(pen, width, height, gap, second, self.placement.tilt, thick=gap / 2)
        elif texture == "dotted":
            gap = max(8.0, 0.3 * min(width, height))
            for row in range(int(height / gap) + 2):
                for column in range(int(width / gap) + 2):
                    x, y = (column + 0.5 * (row % 2)) * gap, row * gap
                    pen.ellipse([x - gap / 4, y - gap / 4, x + gap / 4, y + gap / 4], fill=second)
        self.image.paste(layer, box, mask)

    def _parallel(self, pen: ImageDraw.ImageDraw, width: int, height: int, gap: float, ink: RGB, angle: float,
                  thick: float | None = None) -> None:  # fmt: skip
        """Parallel strokes across a width x height layer, `gap` pixels apart, `angle` from the horizontal."""
        reach = math.hypot(width, height)  # the diagonal: strokes of this length cross the layer at any angle
        cos, sin = math.cos(angle), math.sin(angle)
        offset = -reach / 2
        shaky = thick is None
        while offset < reach / 2:
            drift = self.rng.uniform(-0.3, 0.3) * gap if shaky else 0.0
            cx, cy = width / 2 - sin * (offset + drift), height / 2 + cos * (offset + drift)
            lean = self.rng.uniform(-0.06, 0.06) * reach if shaky else 0.0
            ends = [(cx - cos * reach, cy - sin * reach - lean), (cx + cos * reach, cy + sin * reach + lean)]
            pen.line(ends, fill=ink, width=max(1, round(gap * 0.55 if thick is None else thick)))
            offset += gap

    def _shaky(self, pixels: Points) -> Points:
        """Draw the same polyline by an unsteady hand: every corner strays by a Gaussian step."""
        if not self.style.wobble:
            return pixels
        reach = self.style.wobble * self.side
        return [(x + self.rng.gauss(0, reach), y + self.rng.gauss(0, reach)) for x, y in pixels]

    def _contour(self, pixels: Points) -> None:
        """Draw the outline, as often as the style says."""
        width = max(1, round(self.style.outline_width * self.side))
        for _ in range(self.style.strokes):
            self._draw.line(self._shaky([*pixels, pixels[0]]), fill=self.style.outline, width=width, joint="curve")
