"""PLOT and CoOp as whole programs of the original kind, on our engine.

`python -m benchmarks.original_trainers` takes the arguments of train.py.  Every prompt goes through all 77 positions
for every batch, in tests too; images go through the tower as it was trained; nothing is kept between batches, epochs or
runs; and a run is a process. What is left out of our trainers is replaced here, class by class, so that all else (data,
schedule, evaluation, record) is the same on both sides and the difference in time is that of the algorithm.
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
    """Computes text features always, and in full: in the place of those that a test computes once."""

    text_encoder: TextEncoder
    prompt_learner: PromptLearner

    def text_features(self) -> Tensor:
        """Return features (N, C, D) of all prompts, not normalised."""
        return original.text_features(self.text_encoder, self.prompt_learner)


class OriginalPlotModel(FullText, PlotModel):  # type: ignore[misc]
    """PLOT's model with the original transport."""

    def score(self, image: ImageFeatures) -> Tensor:
        """Return the logits (B, C) of local features (B, M, D)."""
        local, text = F.normalize(image.local, dim=-1), F.normalize(self.text_features(), dim=-1)
        return self.logit_scale.exp() * original.scores(local, text, self.transport.epsilon)


class OriginalCoOpModel(FullText, coop.CoOpModel):  # type: ignore[misc]
    """CoOp's model."""


class Uncached:
    """Leaves out what both trainers keep or add: cached features, cached logits, facts about the transport."""

    options: Any
    model: Any

    def evaluation_batches(self, split: str, loader: Any) -> Any:
        """Return the loader: images are read and encoded for every test."""
        return loader

    def model_inference(self, images: Any) -> Tensor:
        """Return the logits (B, C); prompts are encoded for every batch."""
        return self.model(images)

    def diagnostics(self) -> None:
        """Say nothing about the transport."""


class PLOT(Uncached, plot.PLOT):
    """PLOT as published."""

    def assemble(self, clip_model: CLIP) -> OriginalPlotModel:
        """Put the learned context of our trainer into the original model."""
        learner = super().assemble(clip_model).prompt_learner
        self.evidence = None
        return OriginalPlotModel(learner, clip_model, self.options.transport())


class CoOp(Uncached, coop.CoOp):
    """CoOp as published."""

    def assemble(self, clip_model: CLIP) -> OriginalCoOpModel:
        """Put the learned context of our trainer into the original model."""
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
