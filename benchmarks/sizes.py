"""What can be measured, and at which sizes: names, titles and numbers, which the command line needs without torch.

A subject is a function of the module `subjects` that makes a step, for one side ("old", the original algorithm, or
"new") and for given sizes. Here it is named, and imported when it is made.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

RESOLUTION = 224  # pixels of an image's side
ARCHITECTURES: dict[str, dict[str, Any]] = {  # of CLIP's published image towers
    "RN50": {"embed_dim": 1024, "vision_layers": (3, 4, 6, 3), "vision_width": 64, "vision_patch_size": None},
    "ViT-B/16": {"embed_dim": 512, "vision_layers": 12, "vision_width": 768, "vision_patch_size": 16},
    "ViT-B/32": {"embed_dim": 512, "vision_layers": 12, "vision_width": 768, "vision_patch_size": 32},
}
TEXT_TOWER: dict[str, Any] = {
    "context_length": 77, "vocab_size": 49408, "transformer_width": 512, "transformer_heads": 8,
    "transformer_layers": 12,
}  # fmt: skip


class Sizes(NamedTuple):
    """The sizes of one measurement.

    Parameters
    ----------
    backbone : str
        One of `ARCHITECTURES`.
    classes, prompts : int
        C, and N for each class.
    context : int
        Learned tokens of a prompt.
    batch : int
        Images B of a step.
    device : str
        Where both sides compute, as of --device.
    """

    backbone: str = "RN50"
    classes: int = 50
    prompts: int = 4
    context: int = 16
    batch: int = 32
    device: str = "cpu"


class Subject(NamedTuple):
    """Something to measure.

    Parameters
    ----------
    title : str
        What the table calls it.
    function : str
        Its name in the module `subjects`.
    classes : tuple of int
        How many classes it is measured with where the command line does not say.
    options : mapping
        Further arguments of the function.
    usual : mapping
        Sizes that it has where the command line does not say, and that differ from those of `Sizes`.
    """

    title: str
    function: str
    classes: tuple[int, ...]
    options: Mapping[str, Any] = {}
    usual: Mapping[str, Any] = {}

    def make(self, sizes: Sizes) -> Callable[[str], Any]:
        """Return a function that makes the step of a side; it can be sent to another process."""
        function = getattr(import_module("benchmarks.subjects"), self.function)
        return partial(function, sizes=sizes, **self.options)


PLOTPP = {"backbone": "ViT-B/16", "context": 4, "batch": 4}
LOCAL = {"backbone": "ViT-B/16", "context": 4, "batch": 32}
SUBJECTS = {
    "text": Subject("text tower, forward + backward", "text", (10, 47, 100, 397)),
    "transport": Subject("features to scores, forward + backward", "transport", (100, 1000)),
    "matching": Subject("  of that, similarities to scores", "matching", (100, 1000)),
    "step": Subject("training step, images to gradient", "training_step", (47, 100)),
    "views": Subject("training step, new on kept views", "training_step", (10, 47), {"kept_views": True}),
    "plotpp-vision": Subject("PLOT++, step of the first stage", "prompted_step", (47,), {"update": "vision"}, PLOTPP),
    "plotpp-joint": Subject("PLOT++, step of the second stage", "prompted_step", (47,), {"update": "joint"}, PLOTPP),
    "gallop": Subject("GalLoP, training step", "local_step", (47, 100), {"method": "gallop"}, LOCAL),
    "sotglp": Subject("SOT-GLP, training step", "local_step", (47, 100), {"method": "sotglp"}, LOCAL),
}
EVALUATION_CLASSES, SWEEP_CLASSES = (47,), (10,)
GROWTH = {"classes": (25, 50, 100, 200), "prompts": (1, 2, 4, 8), "context": (4, 8, 16, 32), "batch": (8, 16, 32, 64)}
