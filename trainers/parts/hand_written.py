"""Prompts that people wrote, and the CLIP that needs no training for them: cosine of image and sentence."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.features import ImageFeatures, at_least_float32
from clip.model import CLIP

from .model import ClassCosines, encode_images, pooled

ENSEMBLE = (  # the seven of CLIP's own evaluation that work best on ImageNet
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
TEXT_BATCH = 512


@torch.no_grad()
def class_features(clip_model: CLIP, templates: Sequence[str], classnames: Sequence[str]) -> Tensor:
    """Text features of classes, each the mean over several sentences.

    Parameters
    ----------
    clip_model
        Computes on the device where it is.
    templates
        Sentences with {} for the class name.
    classnames
        C names; `_` is read as space.

    Returns
    -------
    Tensor
        (C, D), float32, of unit length: normalised for each template, averaged, normalised again.
    """
    names = [name.replace("_", " ") for name in classnames]

    def described_by(template: str) -> Tensor:
        tokens = clip_model.tokens([template.format(name) for name in names]).to(clip_model.logit_scale.device)
        features = torch.cat([clip_model.encode_text(part) for part in tokens.split(TEXT_BATCH)])
        return F.normalize(at_least_float32(features), dim=-1)

    return F.normalize(reduce(torch.add, map(described_by, templates)) / len(templates), dim=-1)


class ZeroShotModel(nn.Module):
    """Images (B, 3, H, W), or their features, -> logits (B, C) = exp(logit_scale) * cosine with the text features.

    Parameters
    ----------
    clip_model
        The frozen CLIP.
    text
        `class_features` (C, D).
    """

    kind = "pooled"  # what is needed of an image, see `encode_images`
    image_side_learns = False
    text: Tensor

    def __init__(self, clip_model: CLIP, text: Tensor) -> None:
        super().__init__()
        self.image_encoder = clip_model.visual
        self.logit_scale = clip_model.logit_scale
        self.register_buffer("text", text, persistent=False)

    def encode(self, images: Tensor | ImageFeatures) -> ImageFeatures:
        """Ask the frozen tower about images; features are handed through."""
        return images if isinstance(images, ImageFeatures) else encode_images(self.image_encoder, images, self.kind)

    def forward(self, images: Tensor | ImageFeatures) -> Tensor:
        """Compute logits (B, C)."""
        return self.zero_shot(self.encode(images))

    def zero_shot(self, image: ImageFeatures) -> Tensor:
        """Compute logits (B, C) from features."""
        return at_least_float32(self.logit_scale.exp()) * pooled(image) @ self.text.t()

    def class_cosines(self, image: ImageFeatures) -> ClassCosines:
        """Compare pooled features with the text features of the classes; see PromptModel."""
        return ClassCosines(pooled(image) @ self.text.t())

    def encode_text_together(self) -> None:
        """Nothing: the text is encoded already."""

    @contextmanager
    def fixed_prompts(self) -> Iterator[None]:
        """Within it, whatever is learned and encoded again for every batch is encoded at most once: nothing here."""
        yield
