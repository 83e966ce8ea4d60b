"""CoOp: one learned context, cosine between the pooled image feature and each class's text feature.

K. Zhou, J. Yang, C. C. Loy, Z. Liu, Learning to Prompt for Vision-Language Models, IJCV 2022.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from clip.features import ImageFeatures
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer
from .model import PromptModel, pooled
from .options import PromptOptions
from .prompts import PromptLearner


@dataclass(frozen=True)
class CoOpOptions(PromptOptions):
    """TRAINER.COOP.*"""

    node: ClassVar[str] = "COOP"


class CoOpModel(PromptModel):
    """images (B, 3, H, W) -> logits (B, C)"""

    def score(self, image: ImageFeatures) -> Tensor:
        text = F.normalize(self.text_features()[0].float(), dim=-1)  # (C, D)
        return self.logit_scale.exp() * pooled(image) @ text.t()


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Context optimisation."""

    can_be_mapped = has_words = True
    options_type = CoOpOptions
    options: CoOpOptions

    def assemble(self, clip_model: CLIP) -> nn.Module:
        options = self.options
        class_specific = options.class_specific and not options.init  # a phrase overrides CSC, as in the original
        if options.class_specific and options.init:
            print("TRAINER.COOP.CTX_INIT overrides TRAINER.COOP.CSC: one context for all classes")
        layout = {"class_specific": class_specific, "position": options.position}
        return CoOpModel(self.build_learner(clip_model, PromptLearner, **layout), clip_model)
