"""The things of the demo world, each a recipe of named parts that lie in different places.

A recipe draws in object coordinates (x right, y down, about [-1, 1]) and varies its colours, textures,
proportions and optional parts. Several recipes share parts: a hull (sailboat, steamship), a tower
(lighthouse, windmill, rocket), walls and a roof (house, church, windmill), wheels (train, truck), a dome
(mushroom, umbrella, hot air balloon), stacked balls (snowman, ice cream).

The first part of several that are alike carries the name, so that a caption speaks of one "wheel" and knows where it
is. The order of the choices is part of a recipe: another order would draw another picture from the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .canvas import BRIGHT, Pen, Points, ellipse


def sailboat(pen: Pen) -> None:
    """Draw a hull on the water, a mast, a sail, often a jib and a flag; the sail may be striped."""
    sail, hull = pen.pick("white", *BRIGHT), pen.pick("brown", "red", "blue", "white", "black", "green")
    texture = pen.pick("plain", "plain", "striped")
    top = -pen.vary(0.9, 0.08)
    pen.line([(0, 0.45), (0, top)], 0.07, pen.pick("brown", "black"), "mast")
    pen.shape([(0.06, top), (0.06, 0.3), (pen.vary(0.75), 0.3)], sail, "sail", "triangle", texture,
        pen.pick("white", "red", "blue"))
    if pen.chance(0.65):
        pen.shape([(-0.06, top + 0.2), (-0.06, 0.3), (-pen.vary(0.55), 0.3)], sail, "jib", "triangle")
    if pen.chance(0.4):
        pen.shape([(0, top), (0.25, top - 0.06), (0, top - 0.12)], pen.pick(*BRIGHT), "flag", "triangle")
    pen.shape([(-0.85, 0.42), (0.9, 0.42), (0.6, 0.8), (-0.6, 0.8)], hull, "hull", "trapezoid")


def steamship(pen: Pen) -> None:
    """Draw a hull with a cabin and portholes, one to three funnels, and smoke that drifts up and away."""
    hull = pen.pick("black", "red", "blue", "gray", "green")
    funnel = pen.pick("red", "yellow", "black", "orange")
    for i in range(pen.rng.randint(2, 4)):
        pen.disc(0.1 + 0.25 * i, -0.75 - 0.1 * i, 0.13 + 0.04 * i, None, pen.pick("gray", "white"),
            "smoke" if i == 0 else "")
    count = pen.rng.randint(1, 3)
    for i in range(count):
        x = -0.25 + 0.3 * i - 0.1 * count
        pen.box(x, -0.6, x + 0.18, 0.0, funnel, "funnel" if i == 0 else "", pen.pick("plain", "striped"))
    pen.box(-0.6, -0.05, 0.55, 0.3, pen.pick("white", "yellow", "brown"), "cabin")
    for i in range(4):
        pen.disc(-0.42 + 0.27 * i, 0.12, 0.07, None, "black" if pen.chance(0.3) else "blue",
            "porthole" if i == 1 else "")
    pen.shape([(-0.95, 0.28), (1.0, 0.2), (0.7, 0.8), (-0.75, 0.8)], hull, "hull", "trapezoid")


def lighthouse(pen: Pen) -> None:
    """Draw a tower, mostly striped, with a lamp under a small roof; often two beams of light."""
    first, second = pen.pick("red", "white", "blue", "black"), pen.pick("white", "red", "yellow")
    pen.shape([(-0.32, 0.9), (-0.2, -0.45), (0.2, -0.45), (0.32, 0.9)], first, "tower", "trapezoid",
        pen.pick("striped", "striped", "plain"), "red" if first == "white" else "white")
    if pen.chance(0.6):
        for sign in (-1, 1):
            pen.shape([(sign * 0.1, -0.58), (sign * 0.95, -0.8), (sign * 0.95, -0.38)], "yellow",
                "beam of light" if sign == 1 else "", "triangle")
    pen.box(-0.15, -0.75, 0.15, -0.42, "yellow", "lamp")
    pen.shape([(-0.22, -0.74), (0, -1.0), (0.22, -0.74)], pen.pick("red", "black", "green", second), "roof", "triangle")
    pen.line([(-0.28, -0.43), (0.28, -0.43)], 0.07, "black", "balcony")
    pen.box(-0.09, 0.6, 0.09, 0.9, pen.pick("brown", "black", "blue"), "door")
    if pen.chance(0.5):
        pen.disc(0, 0.15, 0.08, None, "blue", "window")


def windmill(pen: Pen) -> None:
    """Draw a tower with a roof and four blades, turned by any angle of a quarter turn."""
    wall = pen.pick("white", "brown", "yellow", "gray", "red")
    blade = pen.pick("white", "red", "blue", "gray", "brown")
    pen.shape([(-0.42, 0.95), (-0.24, -0.25), (0.24, -0.25), (0.42, 0.95)], wall, "tower", "trapezoid",
        pen.pick("plain", "plain", "striped"), "gray")
    pen.shape([(-0.3, -0.22), (0, -0.58), (0.3, -0.22)], pen.pick("red", "brown", "black", "blue"), "roof", "triangle")
    turn = pen.rng.uniform(0, math.pi / 2)
    for i in range(4):
        cos, sin = math.cos(turn + i * math.pi / 2), math.sin(turn + i * math.pi / 2)
        sail = [(0.12, 0.0), (0.2, 0.16), (0.82, 0.16), (0.82, 0.0)]
        pen.shape([(cos * x - sin * y, -0.28 + sin * x + cos * y) for x, y in sail], blade,
            "blade" if i == 0 else "", "rectangle")
        pen.line([(0, -0.28), (cos * 0.85, -0.28 + sin * 0.85)], 0.05, "black" if blade != "black" else "brown")
    pen.box(-0.11, 0.58, 0.11, 0.95, pen.pick("brown", "black", "green"), "door")
    if pen.chance(0.5):
        pen.box(-0.08, 0.18, 0.08, 0.36, pen.pick("blue", "yellow"), "window")


def house(pen: Pen) -> None:
    """Draw a wall under a gable, a door in one of three places and windows where it leaves room; often a chimney."""
    wall = pen.pick("white", "yellow", "pink", "gray", "blue", "orange")
    roof = pen.pick("red", "brown", "black", "purple", "green")
    if pen.chance(0.6):
        pen.box(0.32, -0.85, 0.52, -0.3, pen.pick("red", "gray", "brown"), "chimney")
    pen.box(-0.72, -0.15, 0.72, 0.85, wall, "wall")
    pen.shape([(-0.92, -0.12), (0, -pen.vary(0.85, 0.1)), (0.92, -0.12)], roof, "roof", "triangle",
        pen.pick("plain", "plain", "striped"), pen.pick("white", "black"))
    x = pen.rng.choice([-0.35, 0.0, 0.35])
    pen.box(x - 0.14, 0.3, x + 0.14, 0.85, pen.pick("brown", "red", "green", "blue"), "door")
    for w in (-0.42, 0.42):
        if abs(w - x) > 0.3:
            pen.box(w - 0.15, 0.12, w + 0.15, 0.42, pen.pick("blue", "yellow"), "window")


def church(pen: Pen) -> None:
    """Draw a nave with arched windows, and a tower with a spire and a cross; it may have a clock."""
    wall = pen.pick("white", "yellow", "gray", "brown", "pink")
    roof = pen.pick("red", "brown", "black", "blue", "green")
    pen.box(-0.25, 0.1, 0.9, 0.88, wall, "wall")
    pen.shape([(-0.3, 0.12), (-0.1, -0.28), (0.78, -0.28), (0.98, 0.12)], roof, "roof", "trapezoid")
    pen.box(-0.7, -0.35, -0.2, 0.88, wall, "tower")
    pen.shape([(-0.76, -0.33), (-0.45, -0.8), (-0.14, -0.33)], roof, "spire", "triangle")
    pen.line([(-0.45, -0.78), (-0.45, -1.05)], 0.06, "black" if pen.chance(0.6) else "yellow", "cross")
    pen.line([(-0.55, -0.95), (-0.35, -0.95)], 0.06, "black")
    pen.disc(-0.45, -0.12, 0.1, None, pen.pick("white", "yellow", "black"), "clock" if pen.chance(0.5) else "")
    pen.box(-0.55, 0.5, -0.35, 0.88, pen.pick("brown", "red", "black"), "door")
    glass = pen.pick("blue", "purple", "yellow")
    for i in range(3):
        x = 0.3 * i
        pen.shape([(x, 0.6), *ellipse(x + 0.07, 0.35, 0.07, 0.1, 180, 360), (x + 0.14, 0.6)], glass,
            "window" if i == 1 else "", "arch")


def rocket(pen: Pen) -> None:
    """Draw a body with a nose, two fins and one or two windows; mostly with a flame below."""
    body = pen.pick("white", "gray", "red", "blue", "yellow")
    trim = pen.pick("red", "blue", "orange", "black", "green")
    for sign in (-1, 1):
        pen.shape([(sign * 0.25, 0.2), (sign * 0.62, 0.68), (sign * 0.25, 0.6)], trim,
            "fin" if sign == 1 else "", "triangle")
    if pen.chance(0.7):
        pen.shape([(-0.22, 0.58), (-0.12, 0.8), (0, pen.vary(0.98, 0.05)), (0.12, 0.8), (0.22, 0.58)],
            pen.pick("orange", "yellow", "red"), "flame", "triangle")
    pen.box(-0.28, -0.45, 0.28, 0.6, body, "body", pen.pick("plain", "plain", "striped"), trim)
    pen.shape([(-0.28, -0.44), (-0.16, -0.75), (0, -1.0), (0.16, -0.75), (0.28, -0.44)], trim, "nose", "triangle")
    for i in range(pen.rng.randint(1, 2)):
        pen.disc(0, -0.2 + 0.35 * i, 0.13, None, pen.pick("blue", "black", "yellow"), "window" if i == 0 else "")


def mushroom(pen: Pen) -> None:
    """Draw a stem under a cap that is half an ellipse, with up to four dots."""
    cap = pen.pick("red", "brown", "orange", "yellow", "purple")
    pen.shape([(-0.2, 0.05), (-0.26, 0.9), (0.26, 0.9), (0.2, 0.05)],
        pen.pick("white", "white", "yellow", "gray"), "stem", "trapezoid")
    pen.shape(ellipse(0, 0.1, pen.vary(0.85, 0.1), pen.vary(0.85, 0.15), 180, 360), cap, "cap", "half circle")
    for x, y in ((-0.45, -0.15), (0.0, -0.45), (0.42, -0.2), (0.05, -0.08)):
        if pen.chance(0.85):
            pen.disc(x, y, pen.vary(0.11), None, "white" if cap != "yellow" else "red", "dot" if x == 0.0 else "")


def umbrella(pen: Pen) -> None:
    """Draw a canopy of four panels in one or two colours, a crooked handle and a tip."""
    first, second = pen.rng.sample(BRIGHT, 2)
    pen.line([(0, -0.1), (0, 0.75), (0.08, 0.88), (0.2, 0.88), (0.27, 0.75)], 0.07,
        pen.pick("brown", "black", "gray"), "handle")
    if pen.chance(0.5):
        second = first
    for i in range(4):
        pen.shape([*_panel(i), (-0.675 + 0.45 * i, -0.06)], (first, second)[i % 2],
            "canopy" if i == 1 else "", "half circle")
    pen.line([(0, -0.72), (0, -0.9)], 0.06, "black", "tip")


def _panel(number: int) -> list[tuple[float, float]]:
    """Return one of the umbrella's four panels, from foot to foot: up a rib to the top, and down the next."""
    angles = [i / 6 * math.pi / 2 for i in range(7)]
    left, right = -0.9 + 0.45 * number, -0.45 + 0.45 * number
    up = [(left * math.cos(a), 0.05 - 0.78 * math.sin(a)) for a in angles]
    return up + [(right * math.cos(a), 0.05 - 0.78 * math.sin(a)) for a in reversed(angles)]


def hot_air_balloon(pen: Pen) -> None:
    """Draw an envelope, plain or patterned, a basket below it and two ropes between."""
    first, second = pen.rng.sample(BRIGHT, 2)
    for x in (-0.16, 0.16):
        pen.line([(x * 2.2, 0.15), (x, 0.68)], 0.03, "brown", "rope" if x < 0 else "")
    pen.shape([*ellipse(0, -0.3, 0.66, 0.66, 160, 380), (0.2, 0.42), (-0.2, 0.42)], first, "envelope",
        "circle", pen.pick("plain", "striped", "dotted"), second)
    if pen.chance(0.6):
        pen.disc(0, -0.3, 0.22, 0.66, second)
    pen.box(-0.2, 0.66, 0.2, 0.95, pen.pick("brown", "orange", "yellow"), "basket",
        pen.pick("plain", "striped"), "brown")


def snowman(pen: Pen) -> None:
    """Draw three balls of snow with a nose, eyes and buttons; mostly a hat, a scarf and arms of sticks."""
    pen.disc(0, 0.52, 0.46, None, "white", "body")
    pen.disc(0, -0.02, 0.34, None, "white", "belly" if pen.chance(0.5) else "")
    pen.disc(0, -0.45, 0.25, None, "white", "head")
    hat = pen.pick("black", "red", "blue", "green", "purple")
    if pen.chance(0.8):
        pen.box(-0.18, -0.98, 0.18, -0.62, hat, "hat")
        pen.line([(-0.3, -0.63), (0.3, -0.63)], 0.07, hat)
    pen.shape([(0.02, -0.48), (0.32, -0.4), (0.02, -0.38)], "orange", "nose", "triangle")
    for x in (-0.09, 0.1):
        pen.disc(x, -0.52, 0.035, None, "black", "eye" if x < 0 else "")
    for y in (-0.1, 0.08, 0.4):
        pen.disc(0, y, 0.045, None, "black", "button" if y == 0.08 else "")
    if pen.chance(0.7):
        pen.box(-0.24, -0.3, 0.24, -0.18, pen.pick("red", "green", "blue", "yellow", "purple"), "scarf",
            form="rectangle")
    if pen.chance(0.8):
        for sign in (-1, 1):
            pen.line([(sign * 0.3, -0.05), (sign * 0.62, -0.2), (sign * 0.75, -0.42)], 0.045, "brown",
                "stick arm" if sign == 1 else "")


def ice_cream(pen: Pen) -> None:
    """Draw a cone with one to three scoops, each of its own flavour; a cherry on every second."""
    scoops = pen.rng.randint(1, 3)
    flavours = [pen.pick("pink", "white", "brown", "yellow", "green", "purple") for _ in range(scoops)]
    piles: dict[int, Points] = {
        1: [(0.0, -0.28)],
        2: [(-0.2, -0.22), (0.2, -0.25)],
        3: [(-0.24, -0.15), (0.24, -0.15), (0.0, -0.52)],
    }
    places = piles[scoops]
    for i, ((x, y), flavour) in enumerate(zip(places, flavours, strict=True)):
        pen.disc(x, y, 0.4 if scoops == 1 else 0.34, None, flavour, "scoop" if i == 0 else "",
            pen.pick("plain", "plain", "dotted"), pen.pick("red", "blue", "brown"))
    if pen.chance(0.5):
        pen.disc(0, min(y for _, y in places) - 0.4, 0.1, None, "red", "cherry")
    pen.shape([(-0.42, 0.02), (0.42, 0.02), (0, 0.98)], pen.pick("orange", "brown", "yellow"), "cone",
        "triangle", pen.pick("striped", "plain"), "brown")


def _wheels(pen: Pen, places: list[float], y: float, radius: float) -> None:
    """Draw wheels with hubs in a row at height `y`; the first one is the named part."""
    colour = pen.pick("black", "black", "gray")
    for i, x in enumerate(places):
        pen.disc(x, y, radius, None, colour, "wheel" if i == 0 else "")
        pen.disc(x, y, radius * 0.4, None, "white" if pen.chance(0.5) else "yellow")


def train(pen: Pen) -> None:
    """Draw a steam engine on a rail: boiler, cab, chimney with smoke, plow and four wheels."""
    body, cab = pen.pick("red", "green", "blue", "black"), pen.pick("red", "green", "blue", "yellow", "black")
    for i in range(pen.rng.randint(1, 3)):
        pen.disc(0.55 - 0.27 * i, -0.68 - 0.1 * i, 0.13 + 0.04 * i, None, pen.pick("gray", "white"),
            "smoke" if i == 0 else "")
    pen.shape([(0.42, -0.1), (0.38, -0.55), (0.7, -0.55), (0.66, -0.1)], pen.pick("black", "red", "yellow"),
        "chimney", "trapezoid")
    pen.box(-0.3, -0.15, 0.85, 0.42, body, "boiler", pen.pick("plain", "plain", "striped"),
        pen.pick("yellow", "black"), "rectangle")
    pen.box(-0.85, -0.55, -0.25, 0.42, cab, "cab")
    pen.box(-0.95, -0.66, -0.15, -0.53, pen.pick("black", "gray", "red"), "roof", form="rectangle")
    pen.box(-0.68, -0.38, -0.42, -0.1, pen.pick("blue", "yellow", "white"), "window")
    pen.shape([(0.85, 0.2), (1.05, 0.6), (0.85, 0.6)], "gray", "plow", "triangle")
    _wheels(pen, [-0.6, -0.12, 0.25, 0.62], 0.56, 0.19)
    pen.line([(-1.1, 0.8), (1.1, 0.8)], 0.05, "brown" if pen.chance(0.5) else "black", "rail")


def truck(pen: Pen) -> None:
    """Draw a trailer, plain or patterned, and a cab with a window; two wheels or three."""
    cargo, cab = pen.pick("white", "gray", "green", "orange", "yellow", "blue"), pen.pick(*BRIGHT, "white")
    pen.box(-0.95, -0.55, 0.3, 0.48, cargo, "trailer", pen.pick("plain", "plain", "striped", "dotted"),
        pen.pick(*BRIGHT), "rectangle")
    pen.shape([(0.36, 0.48), (0.36, -0.3), (0.68, -0.3), (0.95, 0.08), (0.95, 0.48)], cab, "cab", "square")
    pen.shape([(0.5, 0.08), (0.5, -0.18), (0.66, -0.18), (0.82, 0.08)], pen.pick("blue", "white", "black"),
        "window", "trapezoid")
    pen.disc(0.92, 0.32, 0.06, None, "yellow", "headlight")
    _wheels(pen, [-0.62, -0.18, 0.6] if pen.chance(0.5) else [-0.55, 0.6], 0.52, 0.22)


def castle(pen: Pen) -> None:
    """Draw a wall with battlements and a gate between two towers with pointed roofs."""
    wall = pen.pick("gray", "brown", "yellow", "pink")
    pen.box(-0.6, -0.1, 0.6, 0.85, wall, "wall")
    for i in range(4):
        pen.box(-0.55 + 0.32 * i, -0.28, -0.4 + 0.32 * i, -0.08, wall, "battlement" if i == 1 else "")
    for sign in (-1, 1):
        pen.box(sign * 0.72 - 0.2, -0.45, sign * 0.72 + 0.2, 0.85, wall, "tower" if sign == 1 else "")
        pen.shape([(sign * 0.72 - 0.27, -0.43), (sign * 0.72, -0.95), (sign * 0.72 + 0.27, -0.43)],
            pen.pick("red", "blue", "purple"), "roof" if sign == 1 else "", "triangle")
    pen.shape([(-0.22, 0.85), *ellipse(0, 0.4, 0.22, 0.25, 180, 360), (0.22, 0.85)],
        pen.pick("brown", "black"), "gate", "arch")


def cactus(pen: Pen) -> None:
    """Draw a trunk with a round top, up to two arms, and a flower on every second."""
    colour = pen.pick("green", "green", "green", "yellow")
    pen.shape([(-0.2, 0.9), *ellipse(0, -0.6, 0.2, 0.3, 180, 360), (0.2, 0.9)], colour, "trunk", "rectangle",
        pen.pick("plain", "striped"), "black")
    for sign in (-1, 1):
        if pen.chance(0.85):
            y = pen.rng.uniform(-0.1, 0.35)
            pen.line([(sign * 0.15, y), (sign * 0.55, y), (sign * 0.55, y - 0.45)], 0.22, colour,
                "arm" if sign == 1 else "")
    if pen.chance(0.5):
        pen.disc(0, -0.92, 0.12, None, pen.pick("pink", "red", "yellow"), "flower")


def fish(pen: Pen) -> None:
    """Draw a body with a tail, a fin and an eye, swimming to the right."""
    body, fin = pen.pick(*BRIGHT, "gray"), pen.pick(*BRIGHT)
    pen.shape([(-0.45, 0), (-0.95, -0.42), (-0.8, 0), (-0.95, 0.42)], fin, "tail", "triangle")
    pen.shape([(-0.1, -0.35), (0.15, -0.72), (0.35, -0.3)], fin, "fin", "triangle")
    pen.disc(0.15, 0, 0.68, 0.42, body, "body", pen.pick("plain", "striped", "dotted"),
        pen.pick("white", "yellow", "black"), "ellipse")
    pen.disc(0.52, -0.1, 0.1, None, "white")
    pen.disc(0.54, -0.1, 0.05, None, "black", "eye")


def traffic_light(pen: Pen) -> None:
    """Draw a box with three lamps on a pole."""
    pen.box(-0.08, 0.3, 0.08, 0.98, pen.pick("gray", "black"), "pole", form="rectangle")
    pen.box(-0.32, -0.95, 0.32, 0.4, pen.pick("black", "black", "yellow", "green"), "box", form="rectangle")
    for i, lamp in enumerate(("red", "yellow", "green")):
        pen.disc(0, -0.68 + 0.42 * i, 0.17, None, lamp, f"{lamp} lamp")


def flower(pen: Pen) -> None:
    """Draw a stem with a leaf, and five to eight petals around a heart."""
    petal, count = pen.pick("red", "pink", "purple", "white", "blue", "orange"), pen.rng.randint(5, 8)
    pen.line([(0, 0.0), (pen.rng.uniform(-0.1, 0.1), 0.95)], 0.09, "green", "stem")
    pen.disc(0.22, 0.55, 0.22, 0.1, "green", "leaf", form="ellipse")
    for i in range(count):
        angle = 2 * math.pi * i / count
        pen.disc(0.36 * math.cos(angle), -0.4 + 0.36 * math.sin(angle), 0.22, None, petal, "petal" if i == 0 else "")
    pen.disc(0, -0.4, 0.2, None, pen.pick("yellow", "orange", "brown"), "heart")


def tree(pen: Pen) -> None:
    """Draw a trunk under branches like a fir's, or under a round crown."""
    pen.box(-0.13, 0.2, 0.13, 0.95, pen.pick("brown", "brown", "gray"), "trunk", form="rectangle")
    leaf = pen.pick("green", "green", "orange", "yellow")
    if pen.chance(0.5):
        for i in range(3):
            foot, reach = 0.4 - 0.42 * i, 0.65 - 0.12 * i
            pen.shape([(-reach, foot), (0, -0.25 - 0.35 * i), (reach, foot)], leaf,
                "branch" if i == 0 else "", "triangle")
    else:
        for x, y in ((-0.3, 0.0), (0.3, 0.0), (0, -0.4)):
            pen.disc(x, y, 0.42, None, leaf, "crown" if x == 0 else "")


# What a name draws, and the places where it is usually found.
OBJECTS: dict[str, tuple[Callable[[Pen], None], tuple[str, ...]]] = {
    "sailboat": (sailboat, ("sea", "sea", "lake")),
    "steamship": (steamship, ("sea", "sea", "lake")),
    "lighthouse": (lighthouse, ("sea", "beach", "night")),
    "windmill": (windmill, ("field", "field", "hills")),
    "house": (house, ("field", "street", "snow", "hills")),
    "church": (church, ("field", "street", "hills", "night")),
    "rocket": (rocket, ("night", "night", "sky", "desert")),
    "mushroom": (mushroom, ("field", "field", "hills")),
    "umbrella": (umbrella, ("beach", "street", "wall")),
    "hot air balloon": (hot_air_balloon, ("sky", "sky", "hills")),
    "snowman": (snowman, ("snow", "snow", "night")),
    "ice cream": (ice_cream, ("beach", "wall", "sky")),
    "train": (train, ("field", "hills", "desert")),
    "truck": (truck, ("street", "street", "desert")),
    "castle": (castle, ("hills", "field", "night")),
    "cactus": (cactus, ("desert", "desert", "wall")),
    "fish": (fish, ("underwater",)),
    "traffic light": (traffic_light, ("street", "street", "sky")),
    "flower": (flower, ("field", "wall", "hills")),
    "tree": (tree, ("field", "hills", "snow")),
}
