"""PLOT and CoOp as whole programs of the original kind, on our engine.

`python -m benchmarks.original_trainers` takes the arguments of train.py.  Every prompt goes through all 77 positions
for every batch, in tests too; images go through the tower as it was trained; nothing is kept between batches, epochs or
runs; and a run is a process.
"""
from __future__ import annotations

import sys
from typing import Any

import torch.nn.functional as F
from torch import Tensor

import runs.execute
import train
import trainers.parts.backbone
from clip.features import ImageFeatures
from clip.model import CLIP
from clip.prompt_text import TextEncoder
from dassl.engine import TRAINER_REGISTRY
from trainers import coop, plot
from trainers.parts.prompts import PromptLearner
from trainers.plot.model import PlotModel

from . import original


class FullText:
    """In the place of the text features that a test computes once: always, and in full."""

    text_encoder: TextEncoder
    prompt_learner: PromptLearner

    def text_features(self) -> Tensor:
        return original.text_features(self.text_encoder, self.prompt_learner)


class OriginalPlotModel(FullText, PlotModel):  # type: ignore[misc]
    def score(self, image: ImageFeatures) -> Tensor:
        local, text = F.normalize(image.local, dim=-1), F.normalize(self.text_features(), dim=-1)
        return self.logit_scale.exp() * original.scores(local, text, self.transport.epsilon)


class OriginalCoOpModel(FullText, coop.CoOpModel):  # type: ignore[misc]
    pass


class Uncached:
    """What both trainers leave out."""

    options: Any
    model: Any

    def evaluation_batches(self, split: str, loader: Any) -> Any:
        return loader

    def model_inference(self, images: Any) -> Tensor:
        return self.model(images)

    def diagnostics(self) -> None:
        return None


class PLOT(Uncached, plot.PLOT):
    def assemble(self, clip_model: CLIP) -> OriginalPlotModel:
        learner = super().assemble(clip_model).prompt_learner
        self.evidence = None
        return OriginalPlotModel(learner, clip_model, self.options.transport())


class CoOp(Uncached, coop.CoOp):
    def assemble(self, clip_model: CLIP) -> OriginalCoOpModel:
        return OriginalCoOpModel(super().assemble(clip_model).prompt_learner, clip_model)


def install() -> None:
    """Let this process train and test in the original way; it cannot be undone."""
    trainers.parts.backbone.freeze_image_tower = lambda visual: None
    runs.execute.keep_freed_memory = lambda: False
    for trainer in (PLOT, CoOp):
        TRAINER_REGISTRY.register(trainer, force=True)


if __name__ == "__main__":
    install()
    sys.exit(train.main())
