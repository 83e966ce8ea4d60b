"""PLOT++'s model: PLOT, where an image is the set of its class tokens under M visual prompts."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clip.features import ImageFeatures, at_least_float32
from clip.model import CLIP, VisionTransformer
from clip.packed import Prepared
from clip.prompt_text import PromptTokens

from ..parts.model import ClassCosines
from ..plot.model import PlotModel
from ..plot.transport import Transport
from .prompts import TwoSidedPromptLearner


class PlotPPModel(PlotModel):
    """Images (B, 3, H, W) -> logits (B, C); the frozen image encoder must be a ViT.

    The pooled feature, which the matching "global" looks at alone, is the mean of what is seen under the M prompts.

    Parameters
    ----------
    prompt_learner
        N text contexts and M visual prompts.
    clip_model, transport, fuse_global
        As of PlotModel.
    """

    prompt_learner: TwoSidedPromptLearner

    def __init__(
        self, prompt_learner: TwoSidedPromptLearner, clip_model: CLIP, transport: Transport, fuse_global: bool = False
    ) -> None:
        super().__init__(prompt_learner, clip_model, transport, fuse_global)
        made_of = nn.ModuleList([nn.ParameterList([prompt_learner.ctx]), self.text_encoder])
        self._frozen_text = Prepared(made_of, self._encode_frozen)

    def encode(self, images: Tensor | ImageFeatures) -> ImageFeatures:
        """Encode images under every visual prompt.

        Returns
        -------
        ImageFeatures
            M features (B, M, D), and their mean (B, D) taken before they are normalised.  They follow what is learned,
            so none of them is ever kept.
        """
        if isinstance(images, ImageFeatures):
            return images
        assert isinstance(self.image_encoder, VisionTransformer)
        seen = self.image_encoder.forward_prompted(images.to(self.dtype), self.prompt_learner.ctx_vision)  # (M, B, D)
        local = at_least_float32(seen.transpose(0, 1))
        return ImageFeatures(pooled=local.mean(dim=1), local=local)

    def class_cosines(self, image: ImageFeatures) -> ClassCosines:
        """Compare the pooled feature alone: the local ones are views under M prompts, and no places."""
        return super().class_cosines(ImageFeatures.without_places(image.pooled))

    def text_features(self) -> Tensor:
        """Encode the text prompts; where they are not trained (the first stage), once for the whole run."""
        if self.prompt_learner.ctx.requires_grad:
            return super().text_features()
        text, classes = self._frozen_text(), self.own_classes()
        return text if classes is None else text[:, classes.to(text.device)]

    def _encode_frozen(self, _: nn.Module) -> Tensor:
        return self._encoded(self.prompt_learner())

    def encode_text_together(self) -> None:
        """As every model; nothing where the text prompts are not trained."""
        if self.prompt_learner.ctx.requires_grad:
            super().encode_text_together()

    def encode_prompts(self) -> Tensor:
        """Encode the prompts of each wording together, and bring them into their order: (N, C, D)."""
        return self._encoded(self.prompts())

    def _encoded(self, wordings: Sequence[PromptTokens]) -> Tensor:
        return torch.cat([self.text_encoder(tokens) for tokens in wordings])[self.prompt_learner.order]
