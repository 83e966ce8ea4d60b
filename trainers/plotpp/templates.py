"""The words that PLOT++'s text prompts start from: four templates a data set, to be followed by the class name."""
from __future__ import annotations

from ..parts.hand_written import DEFAULT_TEMPLATE

GENERAL = ("a photo of a", "this is a photo", "this is picture of", "one picture of a")
TEMPLATES = {
    "Caltech101": GENERAL,
    "Demo": ("a photo of a", "a picture of a", "an image of a", "a view of a"),  # our own, in the words of its captions
    "DescribableTextures": (
        "a photo of a texture", "this is a photo texture", "this is a picture texture", "one picture of a texture",
    ),
    # six words in the last two: contexts are as long as the first template, and the sixth stays a fixed word
    "EuroSAT": (
        "a centered satellite photo of", "a centered satellite picture of",
        "this is centered satellite photo of", "one centered satellite photo of a",
    ),
    "FGVCAircraft": (
        "a photo of an aircraft", "a picture of an aircraft",
        "this is aircraft picture of", "one picture of an aircraft",
    ),
    "Food101": ("a photo of a food", "this is a food photo", "this is food picture of", "one picture of a food"),
    "ImageNet": GENERAL,
    # the second and the fourth are the same here, as published: these two prompts start, and stay, identical
    "OxfordFlowers": (
        "a photo of a flower", "one picture of a flower", "this is flower picture of", "one picture of a flower",
    ),
    "OxfordPets": ("a photo of a pet", "one picture of a pet", "this is pet picture of", "one picture of a pet"),
    "StanfordCars": GENERAL,
    "SUN397": GENERAL,
    "UCF101": (
        "a photo of a person doing", "this is a photo people doing",
        "this is picture of people doing", "one picture of a person doing",
    ),
}  # fmt: skip
# Published ImageNet prompts: the third template is a word short, so that its fourth context token starts from the
# end-of-text token, and the first token of every class name is cut off.
LEGACY_IMAGENET = ("a photo of a", "this is a photo", "this is a", "one picture of a")
IMAGENET = ("ImageNet", "ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR")  # one for all: variants are tested
FALLBACK = (DEFAULT_TEMPLATE.partition(" {}")[0],)  # the words of zero-shot CLIP


def templates_of(dataset_name: str, legacy: bool = False) -> tuple[str, ...]:
    """The distinct starts that there are for a data set: four, or one where the original has none."""
    if dataset_name in IMAGENET:
        return LEGACY_IMAGENET if legacy else TEMPLATES["ImageNet"]
    return TEMPLATES.get(dataset_name, FALLBACK)
