"""What a data set says of itself that a method may use: how its images are described, and whether it is ImageNet.

A registered data set's class declares these as attributes.  All of them may be missing, as in a data set that was
written for another repository, and then have the defaults here.
"""
from __future__ import annotations

from typing import NamedTuple

from dassl.data.datasets import DATASET_REGISTRY

DEFAULT_TEMPLATE = "a photo of a {}."


class DatasetFacts(NamedTuple):
    """The attributes of a data set's class, as far as trainers read them.

    Attributes
    ----------
    template
        The sentence of zero-shot CLIP, with {} where the class name goes; "" where the class declares none.
    prompt_starts
        The words that PLOT++'s text prompts start from, to be followed by the class name; () where there are none.
    legacy_prompt_starts
        The same as they were in published runs, where that was a mistake.
    is_imagenet
        Whether its classes are ImageNet's: ImageNet itself, and the sets that test what was learned there.
    eval_only
        Whether nothing may be trained on it.
    """

    template: str = ""
    prompt_starts: tuple[str, ...] = ()
    legacy_prompt_starts: tuple[str, ...] = ()
    is_imagenet: bool = False
    eval_only: bool = False

    @property
    def is_imagenet_itself(self) -> bool:
        """Whether it is the ImageNet that is trained on, and no variant of its test set."""
        return self.is_imagenet and not self.eval_only


def dataset_facts(name: str) -> DatasetFacts:
    """Read the facts off the data set registered as `name`; the defaults for a name that is not registered."""
    kind = DATASET_REGISTRY.get(name) if name in DATASET_REGISTRY.registered_names() else None
    return DatasetFacts._make(getattr(kind, key, default) for key, default in DatasetFacts._field_defaults.items())


def template_of(name: str) -> str:
    """Choose a data set's sentence; where it declares none the usual one, which is said in the log."""
    template = dataset_facts(name).template
    if not template:
        print(f"The data set {name} declares no `template`: its images are described by {DEFAULT_TEMPLATE!r}")
    return template or DEFAULT_TEMPLATE
