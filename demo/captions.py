"""What can be said about a scene: English sentences from a small grammar.

    caption := lead thing detail* where?           "a photo of a sailboat with a striped red sail on the sea."
             | lead parts                          "a picture of a red triangle above a brown trapezoid."
             | lead thing relation thing           "an image of a house to the left of a windmill."
             | lead place bystanders               "a view of the beach with the sun and birds."
    lead    := "" | "a photo of" | "a picture of" | ...   or a word for the manner ("a blurred photo of")

Some captions name the thing, some only its parts or its surroundings: as with captions of real photographs, a
name is one of many words about a picture.
"""

from __future__ import annotations

from random import Random

from .canvas import Part
from .scenes import Scene, Thing

LEADS = ("a photo of", "a photo of", "a photo of", "a picture of", "an image of", "itap of", "art of", "")
MANNER_LEADS: dict[str, tuple[str, ...]] = {
    "gray": ("a black and white photo of", "a gray picture of"),
    "blurred": ("a blurry photo of", "a bad photo of"),
    "outlined": ("a drawing of", "a sketch of", "a cartoon of"),
    "lines": ("a line drawing of", "a drawing of", "a sketch of"),
    "noisy": ("a noisy photo of", "a bad photo of", "a grainy picture of"),
    "tinted": ("a tinted photo of", "a picture in strange colors of"),
}
COLOURLESS = ("gray", "lines", "tinted")  # manners that hide what colour a part has
WHERE: dict[str, tuple[str, ...]] = {
    "sea": ("on the sea", "by the sea", "on blue water"),
    "lake": ("on a lake", "by the lake", "on calm water"),
    "beach": ("on the beach", "on the sand"),
    "field": ("in a green field", "on the grass"),
    "hills": ("in front of hills", "between the hills"),
    "street": ("in the street", "on the road"),
    "snow": ("in the snow", "on a snowy field"),
    "desert": ("in the desert", "on dry sand"),
    "night": ("at night", "under the stars"),
    "sky": ("in the sky", "in the air"),
    "underwater": ("under water", "in deep water"),
    "wall": ("in front of a wall", "in a room"),
}


def article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def describe(part: Part, rng: Random, colours: bool) -> str:
    """Describe one part by a noun phrase without article: "striped red sail", or "red triangle" by its form.

    Parameters
    ----------
    part
        The part.
    rng
        Source of the choice of words.
    colours
        Whether the colour may be told: not where the manner of the picture hides it.
    """
    noun = part.shape if rng.random() < 0.3 else part.name
    words = [noun]
    if colours and not noun.startswith(part.colour) and rng.random() < 0.8:
        words.insert(0, part.colour)
    if part.texture != "plain" and rng.random() < 0.7:
        words.insert(0, part.texture)
    return " ".join(words)


def caption(scene: Scene, rng: Random, mirrored: bool = False) -> str:
    """Write one sentence about a scene.

    Parameters
    ----------
    scene
        The scene.
    rng
        Source of the choice of words.
    mirrored
        Whether the picture is shown flipped left to right.
    """
    lead = rng.choice(LEADS)
    if scene.manner in MANNER_LEADS and rng.random() < 0.7:
        lead = rng.choice(MANNER_LEADS[scene.manner])
    colours = scene.manner not in COLOURLESS
    kind = rng.random()
    if len(scene.things) == 2 and kind < 0.6:
        body = _pair(scene, rng, mirrored, colours)
    elif kind < 0.22:
        body = _named(rng.choice(scene.things), rng)
    elif kind < 0.55:
        body = _with_parts(rng.choice(scene.things), rng, colours)
    elif kind < 0.85:
        body = _parts_only(rng.choice(scene.things), rng, colours)
    elif kind < 0.93 and scene.extras:
        body = f"{_place_noun(scene)} with {' and '.join(_extra(e) for e in scene.extras)}"
    else:
        body = f"{article(rng.choice(scene.things).name)} {rng.choice(WHERE[scene.place])}"
    if kind < 0.85 and rng.random() < 0.35:
        body += f" {rng.choice(WHERE[scene.place])}"
        if scene.extras and rng.random() < 0.4:
            body += f" with {_extra(rng.choice(scene.extras))}"
    return f"{lead} {body}.".strip()


def part_phrase(scene: Scene, rng: Random) -> str:
    """Describe a single part of a thing: "a striped red sail."."""
    part = rng.choice(rng.choice(scene.things).parts)
    return f"{article(describe(part, rng, scene.manner not in COLOURLESS))}."


def _named(thing: Thing, rng: Random) -> str:
    """Give the name alone, sometimes with its size: "a house", "the large house"."""
    size = "large " if thing.scale > 0.38 else "small " if thing.scale < 0.26 else ""
    phrase = (size if rng.random() < 0.4 else "") + thing.name
    return f"the {phrase}" if rng.random() < 0.15 else article(phrase)


def _with_parts(thing: Thing, rng: Random, colours: bool) -> str:
    """Give the name and one to three parts."""
    chosen = rng.sample(thing.parts, min(len(thing.parts), rng.choice((1, 1, 2, 2, 3))))
    listed = [article(describe(part, rng, colours)) for part in chosen]
    return f"{article(thing.name)} {rng.choice(('with', 'with', 'that has'))} {' and '.join(listed)}"


def _parts_only(thing: Thing, rng: Random, colours: bool) -> str:
    """Name two parts and how they lie to each other, without the name of the whole."""
    if len(thing.parts) < 2:
        return article(describe(thing.parts[0], rng, colours))
    first, second = rng.sample(thing.parts, 2)
    if first.y > second.y:
        first, second = second, first
    relation = (
        rng.choice(("above", "over", "on top of")) if second.y - first.y > 0.08 else rng.choice(("next to", "and"))
    )
    return f"{article(describe(first, rng, colours))} {relation} {article(describe(second, rng, colours))}"


def _pair(scene: Scene, rng: Random, mirrored: bool, colours: bool) -> str:
    """Name two things, some of them with a part, and mostly how they stand to each other."""
    left, right = sorted(scene.things, key=lambda thing: thing.x, reverse=mirrored)
    names = []
    for thing in (left, right):
        part = rng.choice(thing.parts)
        detail = f" with {article(describe(part, rng, colours))}" if rng.random() < 0.3 else ""
        names.append(article(thing.name) + detail)
    kind = rng.randrange(4)
    if kind == 0:
        return f"{names[0]} to the left of {names[1]}"
    if kind == 1:
        return f"{names[1]} to the right of {names[0]}"
    rng.shuffle(names)
    return f"{names[0]} and {names[1]}" if kind == 2 else f"{names[0]} next to {names[1]}"


def _place_noun(scene: Scene) -> str:
    """Name the place as the subject of a sentence."""
    nouns = {
        "sea": "the sea", "lake": "a lake", "night": "a night scene", "sky": "the sky", "underwater": "the deep sea",
        "snow": "a snowy field", "hills": "green hills", "wall": "a room",
    }  # fmt: skip
    return nouns.get(scene.place, f"the {scene.place}")


def _extra(extra: str) -> str:
    """Name a bystander: there is one sun, and clouds are several."""
    return {"sun": "the sun", "moon": "the moon", "cloud": "clouds"}.get(extra, extra)
