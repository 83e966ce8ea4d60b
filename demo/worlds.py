"""Worlds with knobs: the same drawings, changed in one respect at a time, for controlled experiments.

A `World` says what its pictures are like. All are painted flat and in true colours, as the photo world is, somewhere in
a place. Two families of classes:

* the things of the few-shot task (`parts` 0), which differ in everything;
* twelve houses (`parts` 1, 2 or 3) that are alike but for so many coloured signs on their wall. A class is a
  combination of what the signs are, so every sign counts, and names say it in words of the demo CLIP's captions:
  "house with a red circle and a pink square". No two signs share a colour, since a text encoder hardly tells "a red
  circle and a blue square" from "a blue circle and a red square".

Place, scribbles, the thing, its company and what is hidden are drawn from random streams of their own, which depend on
the picture's seed alone. So the same picture of two worlds differs in nothing but what the turned knob says.

On disk a world is a folder that the data set Folder reads, with fixed parts for training, validation and test:

    <folder>/<split>/<class>/<number>.jpg
    <folder>/world.json            written last: generator version and the SHA-256 of every file
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .canvas import SIZE, Pen, Placement, Style
from .objects import OBJECTS
from .scenes import PLACES, Scene, Thing, background, grain, scribbles
from .task import CLASSES, jpeg, write_pictures

VERSION = 1  # raise it when the pictures change
IMAGES_PER_CLASS = {"train": 32, "val": 4, "test": 100}
MARKER = "world.json"

Signs = tuple[tuple[str, str], ...]  # (form, colour) of each sign of a house
SIGNS: dict[int, tuple[Signs, ...]] = {  # by the number of signs: those of the twelve classes
    1: tuple(((form, colour),) for form in ("circle", "triangle")
             for colour in ("red", "yellow", "green", "blue", "purple", "pink")),
    2: tuple((("circle", first), ("square", second)) for first, second in product(
        ("red", "yellow", "green", "blue"), ("pink", "purple", "orange"))),
    3: tuple((("circle", first), ("square", second), ("triangle", third)) for first, second, third in product(
        ("red", "yellow", "blue"), ("pink", "green"), ("purple", "orange"))),
}  # fmt: skip
SIGN = 0.32  # half the size of a sign, in units of half the house
MIDDLE, CORNER = (0.0, 0.1), (0.64, 0.54)  # of the wall; and how far from there the corners are in which signs lie
STEP = 2 * SIGN + 0.02  # between the middles of signs that are near each other
COMPANY = 0.6  # size of the second thing, of the first


@dataclass(frozen=True)
class World:
    """What the pictures of a world are like.

    Attributes
    ----------
    share
        Area of the square in which the thing is drawn, as a share of the picture's.
    clutter
        Number of scribbles behind it.
    parts
        0: the classes are the things of the few-shot task. 1 to 3: houses, which so many signs tell apart.
    near
        Whether the signs lie together, in a corner of the wall, or each in a corner of its own.
    occlusion
        Share of the thing that is hidden, from a random side on: what is behind it is seen there.
    objects
        1, or 2: a thing of another class keeps company, in the background and smaller (COMPANY). The label is that of
        the larger one.
    """

    share: float = 0.2
    clutter: int = 4
    parts: int = 0
    near: bool = False
    occlusion: float = 0.0
    objects: int = 1

    def __post_init__(self) -> None:
        for name, allowed, meaning in (
            ("share", 0.02 <= self.share <= 1, "a number from 0.02 to 1"),
            ("clutter", 0 <= self.clutter <= 100, "a whole number from 0 to 100"),
            ("parts", self.parts in (0, *SIGNS), f"one of {[0, *SIGNS]}"),
            ("near", not self.near or self.parts > 1, "False unless parts is 2 or more"),
            ("occlusion", 0 <= self.occlusion < 1, "a number from 0 to below 1"),
            ("objects", self.objects in (1, 2), "1 or 2"),
        ):
            if not allowed:
                raise ValueError(f"{name} of a world must be {meaning}, got {getattr(self, name)}")

    @classmethod
    def parse(cls, text: str) -> World:
        """Read "share=0.3,clutter=10"; knobs that are not named keep their defaults, and "" is the default world.

        Raises
        ------
        ValueError
            For a knob that there is not, or a value that it does not have.
        """
        kinds: dict[str, type] = {field.name: type(field.default) for field in fields(cls)}
        truths = {"true": True, "false": False}
        values: dict[str, Any] = {}
        for pair in filter(None, text.split(",")):
            name, _, value = pair.partition("=")
            if name not in kinds:
                raise ValueError(f"a world has no knob {name!r}; it has {', '.join(kinds)}")
            try:
                values[name] = truths[value.lower()] if kinds[name] is bool else kinds[name](value)
            except (ValueError, KeyError):
                raise ValueError(f"{pair}: {name} is of the kind {kinds[name].__name__}") from None
        return cls(**values)

    @property
    def name(self) -> str:
        """Its folder: the knobs that are not as by default, like "world-share0.3-clutter10"."""
        changed = (f"{field.name}{getattr(self, field.name):g}" for field in fields(self)
                   if getattr(self, field.name) != field.default)  # fmt: skip
        return "-".join(["world", *changed])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        if not self.parts:
            return CLASSES
        return tuple(sorted(house_name(signs) for signs in SIGNS[self.parts]))

    def recipe(self, label: int, places: Random) -> Callable[[Pen], None]:
        """Return what draws the thing of a class; `places` is the source of where its signs lie."""
        name = self.classes[label]
        if not self.parts:
            return OBJECTS[name][0]
        signs = next(signs for signs in SIGNS[self.parts] if house_name(signs) == name)
        spots = sign_places(len(signs), self.near, places)
        return lambda pen: house(pen, signs, spots)


def house_name(signs: Signs) -> str:
    """Return "house with a red circle and a pink square"."""
    phrases = [f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {form}" for form, colour in signs]
    return f"house with {' and '.join(phrases)}"


def sign_places(count: int, near: bool, rng: Random) -> list[tuple[float, float]]:
    """Choose where the signs of a house lie, in its own coordinates.

    Far, each has a corner of the wall: the second is opposite of the first, the third between them.  Near, they are in
    one corner, STEP apart.  Any sign may be in any of the spots.
    """
    right, down = rng.choice((-1, 1)), rng.choice((-1, 1))
    x, y = CORNER
    spots = [(x, y), (x - STEP, y), (x, y - STEP)] if near else [(x, y), (-x, -y), (x, -y)]
    return [(MIDDLE[0] + right * x, MIDDLE[1] + down * y) for x, y in rng.sample(spots[:count], count)]


def house(pen: Pen, signs: Signs, spots: list[tuple[float, float]]) -> None:
    """Draw a white or gray wall with the signs at their spots, under a roof that is brown or black."""
    pen.box(-1, -0.8, 1, 1, pen.pick("white", "gray"), "wall")
    roof = [(-1.05, -0.8), (-0.7, -1.05), (0.7, -1.05), (1.05, -0.8)]
    pen.shape(roof, pen.pick("brown", "black"), "roof", "trapezoid")
    for (form, colour), (x, y) in zip(signs, spots, strict=True):
        if form == "circle":
            pen.disc(x, y, SIGN, None, colour, form)
        elif form == "square":
            pen.box(x - SIGN, y - SIGN, x + SIGN, y + SIGN, colour, form)
        else:
            pen.shape([(x - SIGN, y + SIGN), (x + SIGN, y + SIGN), (x, y - SIGN)], colour, form, form)


# ---- pictures
class Drawing(NamedTuple):
    """A picture before it is finished, with the truth about it.

    Attributes
    ----------
    image
        SUPERSAMPLE times larger than the result.
    things
        The one that the label is about, then its company, if any.
    whole, visible
        (side, side) bool: the pixels that the labelled thing covers, and those of them that are not hidden.
    place
        A key of PLACES.
    """

    image: Image.Image
    things: tuple[Thing, ...]
    whole: np.ndarray
    visible: np.ndarray
    place: str


def draw_world(label: int, seed: str, world: World) -> Drawing:
    """Draw a picture of a class of a world; `seed`, label and world decide everything."""
    def stream(name: str) -> Random:
        return Random(f"{seed}/{name}")

    place = stream("scenery").choice(list(PLACES))
    image, _ = background(place, stream("scenery/paint"), Style())
    scribbles(image, Style(), stream("clutter"), world.clutter, behind=True)
    placement = _placement(world.share, stream("place"))
    things: tuple[Thing, ...] = ()
    if world.objects == 2:
        rng = stream("company")
        other = rng.choice([other for other in range(len(world.classes)) if other != label])
        beside = _beside(placement, rng)
        image, _, company = _draw(image, world, other, beside, (stream("company/paint"), stream("company/signs")))
        things = (company,)
    drawn, whole, thing = _draw(image, world, label, placement, (stream("paint"), stream("signs")))
    visible = whole & ~_hidden(whole, world.occlusion, stream("occlusion"))
    image = Image.composite(drawn, image, Image.fromarray(visible))
    return Drawing(image, (thing, *things), whole, visible, place)


def world_scene(label: int, seed: str, world: World) -> Scene:
    """Draw a picture of a class of a world, finished."""
    drawing, rng = draw_world(label, seed, world), Random(f"{seed}/finish")
    image = grain(drawing.image.resize((SIZE, SIZE), Image.Resampling.BOX), rng, rng.uniform(1, 6))
    return Scene(image, drawing.things, drawing.place)


def _placement(share: float, rng: Random) -> Placement:
    """Place a square of this share of the picture anywhere within it, a little tilted."""
    scale = math.sqrt(share) / 2
    x, y = (scale + rng.random() * (1 - 2 * scale) for _ in range(2))
    return Placement(x, y, scale, rng.gauss(0, 0.1), rng.random() < 0.5)


def _beside(first: Placement, rng: Random) -> Placement:
    """Place the company: in the corner that is farthest from the first thing."""
    scale = COMPANY * first.scale
    x, y = (1 - scale if centre < 0.5 else scale for centre in (first.x, first.y))
    return Placement(x, y, scale, rng.gauss(0, 0.1), rng.random() < 0.5)


def _draw(
    image: Image.Image, world: World, label: int, placement: Placement, streams: tuple[Random, Random]
) -> tuple[Image.Image, np.ndarray, Thing]:
    """Draw a thing on a copy; return that, the pixels that it changed, and what was drawn."""
    paint, places = streams
    drawn = image.copy()
    pen = Pen(drawn, placement, Style(), paint)
    world.recipe(label, places)(pen)
    covered = (np.asarray(drawn) != np.asarray(image)).any(axis=2)
    thing = Thing(world.classes[label], tuple(pen.parts), placement.x, placement.y, placement.scale)
    return drawn, covered, thing


def _hidden(whole: np.ndarray, share: float, rng: Random) -> np.ndarray:
    """Choose which pixels of a thing are hidden: those beyond a straight line at a random angle, the share of them."""
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.nonzero(whole)
    along = math.cos(angle) * columns + math.sin(angle) * rows
    hidden = np.zeros_like(whole)
    beyond = np.argsort(-along, kind="stable")[: round(share * len(along))]
    hidden[rows[beyond], columns[beyond]] = True
    return hidden


# ---- on disk
def write_world(root: str | Path, world: World, progress: bool = True) -> int:
    """Make the folder of a world below `root` complete; return how many images had to be drawn.

    Parameters, errors and what is kept as in `task.write_task`.
    """
    def draw(label: int, seed: str) -> Callable[[], bytes]:
        return lambda: jpeg(world_scene(label, seed, world).image)

    pictures = {
        f"{split}/{name.replace(' ', '_')}/{number:03d}.jpg": draw(label, f"{split}/{label}/{number}")
        for split, count in IMAGES_PER_CLASS.items()
        for label, name in enumerate(world.classes)
        for number in range(count)
    }
    folder = Path(root) / world.name
    return write_pictures(folder, pictures, folder / MARKER, VERSION, progress)
