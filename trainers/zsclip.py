"""CLIP without training: hand-written prompts, one a data set (ZeroshotCLIP) or an ensemble (ZeroshotCLIP2)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import clip
from clip.features import ImageFeatures
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY

from .features import FeatureTrainer
from .model import encode_images, pooled

DEFAULT_TEMPLATE = "a photo of a {}."
TEMPLATES = {  # data sets that are not listed use DEFAULT_TEMPLATE
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
}
ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
TEXT_BATCH = 512


def template_of(dataset_name: str) -> str:
    """The data set's hand-written prompt, with {} where the class name goes."""
    return TEMPLATES.get(dataset_name, DEFAULT_TEMPLATE)


@torch.no_grad()
def class_features(clip_model: CLIP, templates: Sequence[str], classnames: Sequence[str]) -> Tensor:
    """Unit-length text features (C, D), float32: normalised for each template, averaged, normalised again.

    `_` in class names is read as space.
    """
    names = [name.replace("_", " ") for name in classnames]
    total: Tensor | None = None
    for template in templates:
        tokens = clip.tokenize([template.format(name) for name in names]).to(clip_model.logit_scale.device)
        features = torch.cat([clip_model.encode_text(part) for part in tokens.split(TEXT_BATCH)])
        features = F.normalize(features.float(), dim=-1)
        total = features if total is None else total + features
    assert total is not None
    return F.normalize(total / len(templates), dim=-1)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(FeatureTrainer):
    """One template; nothing is learned or registered."""

    zero_shot = True
    config_family = "CoOp"

    clip_model: CLIP

    def templates(self) -> tuple[str, ...]:
        return (template_of(self.cfg.DATASET.NAME),)

    def announce(self, templates: tuple[str, ...], classnames: list[str]) -> None:
        print(f"Prompts: {[templates[0].format(name) for name in classnames]}")

    def build_model(self) -> None:
        self.clip_model = self.load_clip("fp32" if self.device.type == "cpu" else "fp16").to(self.device)
        templates = self.templates()
        self.announce(templates, [name.replace("_", " ") for name in self.dm.dataset.classnames])
        self.text_features = class_features(self.clip_model, templates, self.dm.dataset.classnames)  # (C, D)

    def frozen_tower(self) -> tuple[torch.nn.Module, str]:
        return self.clip_model.visual, "pooled"

    def encode(self, images: Tensor) -> ImageFeatures:
        return encode_images(self.clip_model.visual, images, "pooled")

    @torch.no_grad()
    def model_inference(self, images: Tensor | ImageFeatures) -> Tensor:
        image = images if isinstance(images, ImageFeatures) else self.encode(images)
        return self.clip_model.logit_scale.exp().float() * pooled(image) @ self.text_features.t()

    def train(self, *args: Any, **kwargs: Any) -> None:
        print(f"{type(self).__name__} has nothing to train; evaluating")
        self.test()

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        if directory:
            print(f"{type(self).__name__} learns nothing: {directory} is not read")


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """An ensemble of seven templates and, except on ImageNet itself, the data set's own."""

    def templates(self) -> tuple[str, ...]:
        own = () if self.cfg.DATASET.NAME == "ImageNet" else super().templates()
        return ENSEMBLE + own

    def announce(self, templates: tuple[str, ...], classnames: list[str]) -> None:
        print(f"Prompt ensembling (n={len(templates)})")
