"""CoOp: one learned context, cosine between the pooled image feature and each class's text feature.

K. Zhou, J. Yang, C. C. Loy, Z. Liu, Learning to Prompt for Vision-Language Models, IJCV 2022.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.model import CLIP
from clip.prompt_text import TextEncoder
from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer
from .options import PromptOptions
from .prompts import PromptLearner


@dataclass(frozen=True)
class CoOpOptions(PromptOptions):
    """TRAINER.COOP.*"""

    node: ClassVar[str] = "COOP"


class CoOpModel(nn.Module):
    """images (B, 3, H, W) -> logits (B, C)"""

    def __init__(self, prompt_learner: PromptLearner, clip_model: CLIP) -> None:
        super().__init__()
        self.prompt_learner = prompt_learner
        self.image_encoder = clip_model.visual
        self.text_encoder = TextEncoder(clip_model)
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            image = F.normalize(self.image_encoder(images.to(self.dtype)).float(), dim=-1)  # (B, D)
        text = F.normalize(self.text_encoder(self.prompt_learner())[0].float(), dim=-1)  # (C, D)
        return self.logit_scale.exp() * image @ text.t()


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Context optimisation."""

    options_type = CoOpOptions
    options: CoOpOptions

    def assemble(self, clip_model: CLIP) -> nn.Module:
        layout = {"class_specific": self.options.class_specific, "position": self.options.position}
        return CoOpModel(self.build_learner(clip_model, PromptLearner, **layout), clip_model)
