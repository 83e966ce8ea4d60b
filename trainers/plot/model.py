"""PLOT's model: an image as a set of local features, a class as a set of prompts, matched by optimal transport."""
from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from clip.features import ImageFeatures, at_least_float32, check_kind
from clip.model import CLIP

from ..parts.model import PromptModel
from ..parts.prompts import ContextLearner
from .transport import Match, Transport


class PlotOutput(NamedTuple):
    """Class scores and how they came about.

    Attributes
    ----------
    logits
        (B, C).
    match
        The transport between every image and every class.
    """

    logits: Tensor  # (B, C)
    match: Match


class PlotModel(PromptModel):
    """Images (B, 3, H, W), or their features, -> logits (B, C) = exp(logit_scale) * transported similarity.

    The steps of the paper's algorithm 1 are those of `score`: local features F (B, M, D) of the image and prompts
    G (N, C, D) of the classes, both of unit length; the plan between them; the score <plan, similarity>.  Under the
    matching "global" the image is the set of its one pooled feature.

    Parameters
    ----------
    prompt_learner
        N contexts for C classes.
    clip_model
        The frozen CLIP.
    transport
        How the two sets are matched.
    fuse_global
        Whether the logits of the pooled features are added: the image's global feature against the mean over prompts of
        the text features, taken before they are normalised.
    dense
        Which local features, one of clip.features.KINDS.

    References
    ----------
    G. Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR 2023.
    """

    def __init__(
        self,
        prompt_learner: ContextLearner,
        clip_model: CLIP,
        transport: Transport,
        fuse_global: bool = False,
        dense: str = "tokens",
    ) -> None:
        super().__init__(prompt_learner, clip_model)
        self.dense = check_kind(dense)
        self.transport = transport
        self.fuse_global = fuse_global
        self.latest_text: Tensor | None = None  # (N, C, D) of the last forward pass, without gradient

    @property
    def kind(self) -> str:
        """What is needed of an image, see `encode_images`."""
        return "pooled" if self.transport.pooled else self.kind_of_places(self.dense)

    def score(self, image: ImageFeatures) -> Tensor:
        """Compute logits (B, C) of features; the gradient flows to the prompts, and through no plan."""
        local, text = self._sets(image)
        return self._logits(self.transport.score(local, F.normalize(text, dim=-1)), image, text)

    def explain(self, images: Tensor | ImageFeatures, keep_plan: bool = True) -> PlotOutput:
        """Compute the forward pass with the evidence for it.

        Parameters
        ----------
        images
            (B, 3, H, W), or their features.
        keep_plan
            Whether the plans and similarities (B, C, M, N) are wanted.
        """
        image = self.encode(images)
        local, text = self._sets(image)
        match = self.transport(local, F.normalize(text, dim=-1), keep_plan)
        return PlotOutput(self._logits(match.score, image, text), match)

    def _sets(self, image: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Features of the images (B, M, D), of unit length, and of the prompts (N, C, D), not yet; both float32."""
        features = image.pooled[:, None] if self.transport.pooled else self.places(image)
        text = at_least_float32(self.text_features())
        self.latest_text = text.detach()
        return F.normalize(at_least_float32(features), dim=-1), text

    def _logits(self, score: Tensor, image: ImageFeatures, text: Tensor) -> Tensor:
        """Turn scores (B, C) into logits, adding those of the pooled features where they are fused."""
        if self.fuse_global:
            pooled_text = F.normalize(text.mean(dim=0), dim=-1)
            score = score + F.normalize(at_least_float32(image.pooled), dim=-1) @ pooled_text.t()
        return at_least_float32(self.logit_scale.exp()) * score
