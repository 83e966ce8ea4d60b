"""Scenes: a background, one or two things, a few bystanders, and the manner in which all this is drawn.

Two domains share the things and differ in everything else:

* `photo_scene`: what the demo CLIP is trained on. Flat paint, true colours, things in their usual places,
  sometimes a black and white, blurred or outlined picture. Comes with what its captions need to know.
* `chalk_scene`: what the few-shot task asks about. Chalk hatching and shaky double contours on dark
  boards, colours turned around the colour wheel, unusual places, other sizes and tilts, clutter, grain.

A scene depends on its seed string and on nothing else.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from .canvas import BRIGHT, COLOURS, RGB, SIZE, SUPERSAMPLE, Part, Pen, Placement, Style, ellipse, jitter
from .objects import OBJECTS

# place: (sky, ground) colours; the horizon lies where the sky ends
PLACES: dict[str, tuple[RGB, RGB]] = {
    "sea": ((168, 208, 236), (44, 104, 168)),
    "lake": ((196, 222, 240), (86, 150, 190)),
    "beach": ((150, 206, 240), (232, 212, 154)),
    "field": ((160, 208, 242), (112, 172, 80)),
    "hills": ((184, 214, 238), (128, 168, 96)),
    "street": ((198, 212, 224), (112, 112, 118)),
    "snow": ((188, 206, 226), (238, 242, 248)),
    "desert": ((244, 214, 164), (222, 178, 106)),
    "night": ((24, 30, 66), (44, 54, 62)),
    "sky": ((136, 192, 240), (196, 224, 246)),
    "underwater": ((58, 140, 190), (26, 82, 142)),
    "wall": ((226, 206, 186), (172, 134, 104)),
}
MANNERS = ("plain", "plain", "plain", "plain", "gray", "blurred", "outlined", "lines", "noisy", "tinted")


@dataclass(frozen=True)
class Thing:
    """One object as drawn.

    Parameters
    ----------
    name
        What it is: a key of OBJECTS.
    parts
        Its named parts, in the order in which they were drawn.
    x, y
        Its centre, in [0, 1] of the picture from the upper left.
    scale
        Half its size, in the same unit.
    """

    name: str
    parts: tuple[Part, ...]
    x: float
    y: float
    scale: float


@dataclass(frozen=True)
class Scene:
    """A picture with what can be said about it.

    Parameters
    ----------
    image
        The picture, SIZE x SIZE pixels, RGB.
    things
        One or two objects, which the captions are about.
    place
        Where they are: a key of PLACES.
    extras
        Names of the bystanders that were drawn.
    manner
        One of MANNERS, or "chalk".
    """

    image: Image.Image
    things: tuple[Thing, ...]
    place: str
    extras: tuple[str, ...] = ()
    manner: str = "plain"


# ---- backgrounds
def _gradient(side: int, upper: RGB, lower: RGB, horizon: float, rng: Random) -> Image.Image:
    """Paint sky above and ground below, both with a soft vertical shade."""
    rows = np.linspace(0.0, 1.0, side)[:, None]  # one column of the picture: all columns are alike
    sky = np.array(jitter(upper, rng), dtype=np.float32) * (0.92 + 0.16 * rows)
    ground = np.array(jitter(lower, rng), dtype=np.float32) * (1.08 - 0.2 * rows)
    column = np.where(rows < horizon, sky, ground).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(column[:, None, :], side, axis=1))


def background(place: str, rng: Random, style: Style) -> tuple[Image.Image, list[str]]:
    """Paint a place and its bystanders.

    Parameters
    ----------
    place
        A key of PLACES.
    rng
        Source of all choices.
    style
        What ink does; the bystanders are drawn in it.

    Returns
    -------
    tuple
        The picture, SUPERSAMPLE times larger than the result, and the names of the bystanders.
    """
    side = SIZE * SUPERSAMPLE
    horizon = rng.uniform(0.5, 0.75) if place not in ("sky", "underwater") else rng.uniform(0.85, 1.1)
    image = _gradient(side, *PLACES[place], horizon, rng)
    draw, extras = ImageDraw.Draw(image), []
    if place == "hills":
        for _ in range(3):
            x, r = rng.uniform(0, side), rng.uniform(0.2, 0.4) * side
            top = horizon * side - 0.35 * r
            draw.ellipse([x - 1.6 * r, top, x + 1.6 * r, top + 2 * r], fill=jitter((106, 150, 84), rng, 24))
        draw.rectangle([0, (horizon + 0.08) * side, side, side], fill=jitter(PLACES["hills"][1], rng))
    elif place in ("sea", "lake"):
        for _ in range(rng.randint(4, 9)):
            x, y = rng.uniform(0, side), rng.uniform(horizon + 0.04, 1) * side
            draw.line([(x, y), (x + 0.05 * side, y - 3), (x + 0.1 * side, y)], fill=(190, 216, 236), width=2)
    elif place == "street":
        y = (horizon + 1) / 2 * side
        for i in range(6):
            draw.rectangle([i * 0.2 * side, y, (i * 0.2 + 0.1) * side, y + 4], fill=(236, 232, 220))
    elif place == "night":
        for _ in range(rng.randint(8, 20)):
            x, y = rng.uniform(0, side), rng.uniform(0, horizon) * side
            draw.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=(250, 246, 210))
    elif place == "underwater":
        for _ in range(rng.randint(3, 8)):
            x, y, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.01, 0.025) * side
            draw.ellipse([x - r, y - r, x + r, y + r], outline=(200, 228, 244), width=2)
        extras.append("bubbles")
    elif place == "wall" and rng.random() < 0.5:
        for i in range(1, 8):
            draw.line([(i * side / 8, 0), (i * side / 8, horizon * side)], fill=(206, 180, 156), width=2)
    if place not in ("underwater", "wall"):
        extras += _sky_bystanders(image, place, horizon, style, rng)
    return image, extras


def _sky_bystanders(image: Image.Image, place: str, horizon: float, style: Style, rng: Random) -> list[str]:
    """Draw some of sun or moon, clouds, birds and trees; returns the names of those that were drawn."""
    extras = []
    if rng.random() < 0.35:
        pen = Pen(image, Placement(rng.choice([0.12, 0.88]), rng.uniform(0.1, 0.2), rng.uniform(0.06, 0.1)), style, rng)
        pen.disc(0, 0, 1, None, "white" if place == "night" else "yellow")
        extras.append("moon" if place == "night" else "sun")
    if rng.random() < 0.4 and place != "night":
        for _ in range(rng.randint(1, 3)):
            pen = Pen(image, Placement(rng.random(), rng.uniform(0.05, 0.3), rng.uniform(0.06, 0.1)), style, rng)
            for x in (-1, 0, 1):
                pen.disc(x, 0.2 * abs(x), 0.9, 0.6, "white")
        extras.append("cloud")
    if rng.random() < 0.2:
        for _ in range(rng.randint(1, 4)):
            pen = Pen(image, Placement(rng.random(), rng.uniform(0.08, 0.4), 0.04), style, rng)
            pen.line([(-1, -0.4), (0, 0.2), (1, -0.4)], 0.25, "black")
        extras.append("birds")
    if rng.random() < 0.25 and place in ("field", "hills", "snow"):
        for _ in range(rng.randint(1, 3)):
            pen = Pen(image, Placement(rng.random(), horizon - 0.03, rng.uniform(0.06, 0.1)), style, rng)
            OBJECTS["tree"][0](pen)
        extras.append("trees")
    return extras


# ---- the photo world (training of the demo CLIP)
def photo_scene(seed: str) -> Scene:
    """Draw a training scene: one thing (two in a third of the scenes), mostly where such things are found."""
    rng = Random(seed)
    return _photo(rng.sample(list(OBJECTS), 2 if rng.random() < 0.3 else 1), rng)


def photo_of(name: str, seed: str) -> Scene:
    """Draw a scene like those of training with one given thing."""
    return _photo([name], Random(seed))


def _photo(names: list[str], rng: Random) -> Scene:
    """Draw the named things side by side, the first one's usual place behind them, in any manner."""
    manner = rng.choice(MANNERS)
    place = rng.choice(OBJECTS[names[0]][1]) if rng.random() < 0.7 else rng.choice(list(PLACES))
    style = _photo_style(manner, rng)
    image, extras = background(place, rng, style)
    if manner == "lines":
        paper = Image.new("RGB", image.size, jitter((236, 232, 222), rng, 24))
        image = Image.blend(paper, image, rng.uniform(0.0, 0.5))
    things = []
    for i, name in enumerate(names):
        scale = rng.uniform(0.24, 0.44) if len(names) == 1 else rng.uniform(0.18, 0.25)
        x = rng.uniform(0.36, 0.64) if len(names) == 1 else (0.27, 0.73)[i] + rng.uniform(-0.05, 0.05)
        y = rng.uniform(0.45, 0.6)
        placement = Placement(x, y, scale, rng.gauss(0, 0.06), rng.random() < 0.5)
        pen = Pen(image, placement, style, rng)
        OBJECTS[name][0](pen)
        things.append(Thing(name, tuple(pen.parts), x, y, scale))
    image = _develop(image.resize((SIZE, SIZE), Image.Resampling.BOX), manner, rng)
    return Scene(image, tuple(things), place, tuple(extras), manner)


def _photo_style(manner: str, rng: Random) -> Style:
    """Return the ink of a manner: contours for "outlined", thin ink on paper for "lines", else flat paint."""
    if manner == "outlined":
        return Style(outline=(24, 24, 28), outline_width=rng.uniform(0.005, 0.012))
    if manner == "lines":
        ink = jitter(rng.choice(((50, 46, 60), (70, 44, 36), (40, 60, 80))), rng)
        return Style(outline=ink, outline_width=rng.uniform(0.006, 0.012), flat=rng.uniform(0.0, 0.3))
    return Style()


def _develop(image: Image.Image, manner: str, rng: Random) -> Image.Image:
    """Add the photographic side of a manner, and the little noise that every photo has."""
    if manner == "gray":
        image = image.convert("L").convert("RGB")
    elif manner == "blurred":
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 2.2)))
    elif manner == "tinted":
        image = Image.blend(image, Image.new("RGB", image.size, COLOURS[rng.choice(BRIGHT)]), rng.uniform(0.15, 0.35))
    return grain(image, rng, rng.uniform(16, 30) if manner == "noisy" else rng.uniform(1, 6))


def grain(image: Image.Image, rng: Random, sigma: float) -> Image.Image:
    """Add Gaussian noise of `sigma` grey levels, most of it the same in all channels."""
    noise = np.random.default_rng(rng.getrandbits(63))  # numpy draws fast; its seed is drawn from the scene's stream
    shared = noise.standard_normal((*image.size, 1), dtype=np.float32)
    own = noise.standard_normal((*image.size, 3), dtype=np.float32)
    pixels = np.asarray(image, dtype=np.float32) + sigma * (0.9 * shared + 0.4 * own)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


# ---- the chalk world (the few-shot task)
BOARDS: tuple[tuple[RGB, RGB], ...] = (  # board and contour: slate, blueprint, school green, clay
    ((46, 54, 64), (228, 226, 214)),
    ((30, 58, 96), (222, 230, 236)),
    ((40, 74, 60), (232, 232, 220)),
    ((84, 52, 46), (240, 226, 206)),
)


def chalk_scene(name: str, seed: str) -> Scene:
    """Draw a scene of the few-shot task: one thing in chalk, in an unlikely place, among clutter.

    Parameters
    ----------
    name
        A key of OBJECTS.
    seed
        Seed string; with the name it decides everything.
    """
    rng = Random(seed)
    board, contour = rng.choice(BOARDS)
    style = Style(
        palette=_turned(rng),
        outline=contour,
        outline_width=rng.uniform(0.007, 0.012),
        strokes=2,
        wobble=rng.uniform(0.004, 0.009),
        hatch=rng.uniform(0.022, 0.04),
        flat=rng.uniform(0.1, 0.45),
    )
    place = rng.choice(list(PLACES))
    scenery, _ = background(place, rng, Style(palette=style.palette))
    image = Image.blend(Image.new("RGB", scenery.size, jitter(board, rng)), scenery, rng.uniform(0.1, 0.4))
    scribbles(image, style, rng, rng.randint(3, 7), behind=True)
    scale = rng.uniform(0.24, 0.4)
    x, y = rng.uniform(0.34, 0.66), rng.uniform(0.4, 0.6)
    pen = Pen(image, Placement(x, y, scale, rng.gauss(0, 0.16), rng.random() < 0.5), style, rng)
    OBJECTS[name][0](pen)
    scribbles(image, style, rng, rng.randint(0, 3), behind=False)
    image = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.65, 1.0))
    image = grain(image, rng, rng.uniform(6, 18))
    return Scene(image, (Thing(name, tuple(pen.parts), x, y, scale),), place, (), "chalk")


def _turned(rng: Random) -> dict[str, RGB]:
    """Turn the palette around the colour wheel by a quarter to three quarters, and wash it out."""
    # In hue, lightness and saturation: hue + turn, lightness pressed into [0.15, 0.85], saturation times wash.
    turn, wash = rng.uniform(0.25, 0.75), rng.uniform(0.55, 0.95)
    palette = {}
    for name, (red, green, blue) in COLOURS.items():
        hue, light, saturation = colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)
        light = 0.15 + 0.7 * light
        mixed = colorsys.hls_to_rgb((hue + turn) % 1.0, light, saturation * wash)
        palette[name] = (round(255 * mixed[0]), round(255 * mixed[1]), round(255 * mixed[2]))
    return palette


def scribbles(image: Image.Image, style: Style, rng: Random, count: int, behind: bool) -> None:
    """Draw small scribbles and shapes: near the border, or anywhere when `behind` the main thing."""
    for _ in range(count):
        angle, reach = (rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.6) if behind else rng.uniform(0.42, 0.6))
        x, y = 0.5 + reach * math.cos(angle), 0.5 + reach * math.sin(angle)
        pen = Pen(image, Placement(x, y, rng.uniform(0.05, 0.09), rng.uniform(0, 6.28)), style, rng)
        kind = rng.randrange(5)
        if kind == 0:
            pen.disc(0, 0, 1, None, pen.pick(*COLOURS))
        elif kind == 1:
            pen.shape([(-1, 0.8), (1, 0.8), (0, -1)], pen.pick(*COLOURS))
        elif kind == 2:
            pen.box(-1, -0.7, 1, 0.7, pen.pick(*COLOURS))
        elif kind == 3:
            pen.line([(rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5)) for _ in range(6)], 0.25, pen.pick(*COLOURS))
        else:
            pen.shape(ellipse(0, 0, 1, 1, 180, 360), pen.pick(*COLOURS))
