"""CoCoOp: a context that every image shifts, by a small network on its pooled feature.

K. Zhou, J. Yang, C. C. Loy, Z. Liu, Conditional Prompt Learning for Vision-Language Models, CVPR 2022.

Each image has prompts of its own, so the text tower runs images x classes times.  Within an image the classes
still share their prefix, as always: to the text encoder, images stand where PLOT has its N prompts.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.features import ImageFeatures, at_least_float32
from clip.model import CLIP
from clip.prompt_text import PromptTokens
from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .parts.model import ClassCosines, PromptModel, pooled
from .parts.options import INIT, ContextOptions, option
from .parts.prompts import PromptLearner, start_learner

REDUCTION = 16  # the network's hidden width is the feature width over this
TOKENS_AT_ONCE = 65_536  # suffix tokens of all images that are encoded together when no gradient is wanted


@dataclass(frozen=True)
class CoCoOpOptions(ContextOptions):
    """The keys TRAINER.COCOOP.*."""

    node: ClassVar[str] = "COCOOP"

    init: str = option(*INIT)


class ConditionalPromptLearner(PromptLearner):
    """A generic context (n, E) and a network from image features (B, D) to the shift (B, E) of all its tokens.

    The network is Linear(D, D/16), ReLU, Linear(D/16, E); its tensors are called `meta_net.linear1` and `.linear2`.

    Parameters
    ----------
    classnames, clip_model, settings
        As of PromptLearner.
    """

    def __init__(self, classnames: Sequence[str], clip_model: CLIP, **settings: Any) -> None:
        super().__init__(classnames, clip_model, **settings)
        features, width = clip_model.visual.output_dim, self.ctx.shape[-1]
        hidden = features // REDUCTION
        layers = OrderedDict(linear1=nn.Linear(features, hidden), relu=nn.ReLU(), linear2=nn.Linear(hidden, width))
        self.meta_net = nn.Sequential(layers).to(self.ctx.dtype)

    def prompts_of(self, image: Tensor, classes: Tensor | None = None) -> PromptTokens:
        """Make B x C prompts for image features (B, D) of unit length, or B x c for some of the classes."""
        shift = self.meta_net(image.to(self.ctx.dtype))  # (B, E)
        return self.words.place(self.contexts() + shift[:, None, None, :], classes)


class CoCoOpModel(PromptModel):
    """Images (B, 3, H, W), or their features, -> logits (B, C), with prompts that depend on the image.

    Without a gradient so many images are encoded together that their suffixes fill TOKENS_AT_ONCE tokens.
    """

    prompt_learner: ConditionalPromptLearner

    def score(self, features: ImageFeatures) -> Tensor:
        """Logits (B, C) of features."""
        return self.logit_scale.exp() * self.class_cosines(features).pooled

    def encode_text_together(self) -> None:
        """Nothing: every image has prompts of its own."""

    def class_cosines(self, features: ImageFeatures) -> ClassCosines:
        """Compare each image with the prompts that it makes itself; see PromptModel."""
        image = pooled(features)  # (B, D)
        tokens = sum(self.prompt_learner.words.lengths)
        at_once = len(image) if torch.is_grad_enabled() else max(1, TOKENS_AT_ONCE // tokens)
        return ClassCosines(torch.cat([self.cosines(part) for part in image.split(at_once)]))

    def cosines(self, image: Tensor) -> Tensor:
        """Cosines (B, C) of pooled features (B, D) of unit length, all at once."""
        prompts = self.prompt_learner.prompts_of(image, self.own_classes())
        text = F.normalize(at_least_float32(self.text_encoder(prompts)), dim=-1)  # (B, C, D)
        return torch.einsum("bd,bcd->bc", image, text)


@TRAINER_REGISTRY.register()
class CoCoOp(ClipTrainer):
    """Conditional context optimisation: what is learned carries over to classes that were not there in training.

    Notes
    -----
    An image costs the text tower as much as a whole test costs CoOp; the published batch is one image.
    """

    options_type = CoCoOpOptions
    options: CoCoOpOptions
    learned_tensors = ("ctx", *(f"meta_net.linear{i}.{part}" for i in (1, 2) for part in ("weight", "bias")))
    has_words = True

    def assemble(self, clip_model: CLIP) -> CoCoOpModel:
        """Build a CoCoOpModel of the options."""
        names = self.dm.dataset.classnames
        learner = start_learner(ConditionalPromptLearner, self.options, names, clip_model, self.cfg.SEED)
        return CoCoOpModel(learner, clip_model)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        """Take one step; the original reports no accuracy, since its batches are single images."""
        return {"loss": super().forward_backward(batch)["loss"]}
