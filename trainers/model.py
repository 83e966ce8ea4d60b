"""What every prompt model is made of; the child names are those of whole-model checkpoints."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.model import CLIP
from clip.prompt_text import TextEncoder

from .prompts import PromptLearner


class PromptModel(nn.Module):
    """A prompt learner between the frozen halves of a CLIP; a subclass maps images (B, 3, H, W) to logits (B, C)."""

    def __init__(self, prompt_learner: PromptLearner, clip_model: CLIP) -> None:
        super().__init__()
        self.prompt_learner = prompt_learner
        self.image_encoder = clip_model.visual
        self.text_encoder = TextEncoder(clip_model)
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """Pooled features (B, D) of unit length, float32."""
        return F.normalize(self.image_encoder(images.to(self.dtype)).float(), dim=-1)
