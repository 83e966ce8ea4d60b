"""CoOp: one learned context, cosine between the pooled image feature and each class's text feature.

K. Zhou, J. Yang, C. C. Loy, Z. Liu, Learning to Prompt for Vision-Language Models, IJCV 2022.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from clip.features import ImageFeatures, at_least_float32
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .parts.model import PromptModel, pooled
from .parts.options import ContextOptions, PhraseOptions
from .parts.prompts import PromptLearner, start_learner


@dataclass(frozen=True)
class CoOpOptions(PhraseOptions, ContextOptions):
    """The keys TRAINER.COOP.*."""

    node: ClassVar[str] = "COOP"


class CoOpModel(PromptModel):
    """Images (B, 3, H, W), or their features, -> logits (B, C) = exp(logit_scale) * cosine of pooled feature and text.

    The text feature of a class is that of [start] [context] class name [.] [end], of which the context is learned.
    """

    def score(self, image: ImageFeatures) -> Tensor:
        """Logits (B, C) of features."""
        text = F.normalize(at_least_float32(self.text_features()[0]), dim=-1)  # (C, D)
        return self.logit_scale.exp() * pooled(image) @ text.t()


@TRAINER_REGISTRY.register()
class CoOp(ClipTrainer):
    """Context optimisation: one context for all classes, or one for each (CSC), learned by the cross-entropy.

    Notes
    -----
    The context's state dict is `ctx` (n, E), or (C, n, E) for CSC, which is also what the authors' checkpoints hold.
    """

    options_type = CoOpOptions
    options: CoOpOptions
    learned_tensors = ("ctx",)
    can_be_mapped = has_words = True

    def assemble(self, clip_model: CLIP) -> CoOpModel:
        """Build a CoOpModel of the options."""
        return CoOpModel(self.start_context(clip_model), clip_model)

    def start_context(self, clip_model: CLIP) -> PromptLearner:
        """Build the prompt learner; a phrase overrides class-specific contexts, as in the original."""
        options = self.options
        if options.class_specific and options.init:
            print(f"{options.key('init')} overrides {options.key('class_specific')}: one context for all classes")
        specific, names = options.class_specific and not options.init, self.dm.dataset.classnames
        layout = {"class_specific": specific, "position": options.position}
        return start_learner(PromptLearner, options, names, clip_model, self.cfg.SEED, **layout)
