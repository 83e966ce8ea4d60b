"""The model of GalLoP and SOT-GLP: the image as a whole against global prompts, its best places against local ones."""
from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.features import ImageFeatures, at_least_float32, check_kind
from clip.model import CLIP

from ..parts.model import ClassCosines, PromptModel, mean_cosines, pooled
from ..plot.model import PlotOutput
from ..plot.transport import Match, Transport, outside_autocast
from .dropout import draw_prompts, mean_of_drawn
from .prompts import GlobalLocalLearner

FUSIONS = ("mean", "global", "local")


class Branches(NamedTuple):
    """Cosines of both branches, float32.

    Attributes
    ----------
    whole
        (B, C, N_g), of the pooled feature and every global prompt.
    local
        (B, C, N_l), the mean similarity of what is transported to every local prompt.
    """

    whole: Tensor
    local: Tensor


class GlobalLocalModel(PromptModel):
    """Images (B, 3, H, W), or their features, -> logits (B, C) of both branches.

    With the cosines g[b, c, n] of the pooled feature and the global prompts, and the scores l[b, c, n] of the local
    prompts, the logits are exp(logit_scale) * (mean_n g + mean_n l) / 2, and the loss is the sum of the two branches'.

    Parameters
    ----------
    prompt_learner
        Global and local contexts, and the map of the places.
    clip_model
        The frozen CLIP.
    transport
        How places are selected, and matched with the local prompts.
    dense
        Which local features, one of clip.features.KINDS.
    dropout, replace
        Of the global prompts in training, see `draw_prompts`.
    every_prompt
        Whether each local prompt has a cross-entropy of its own (GalLoP), or their mean score has one.
    divided
        Whether the local score is divided by N_l once more (SOT-GLP), so that the local branch weighs less in the
        prediction and has a higher temperature in the loss.
    fusion
        One of FUSIONS: what predicts; the loss has both branches in any case.

    References
    ----------
    GalLoP, section 3; SOT-GLP, arXiv 2603.08347.
    """

    prompt_learner: GlobalLocalLearner

    def __init__(
        self,
        prompt_learner: GlobalLocalLearner,
        clip_model: CLIP,
        transport: Transport,
        dense: str = "content",
        dropout: float = 0.75,
        replace: bool = True,
        every_prompt: bool = True,
        divided: bool = False,
        fusion: str = "mean",
    ) -> None:
        super().__init__(prompt_learner, clip_model)
        self.dense = check_kind(dense)
        self.transport = transport
        self.dropout, self.replace = dropout, replace
        self.every_prompt, self.divided, self.fusion = every_prompt, divided, fusion
        self.latest_text: Tensor | None = None  # (N_l, C, D), local prompts of the last forward pass

    @property
    def kind(self) -> str:
        """What is needed of an image: its places, before they are mapped."""
        return "pooled" if self.transport.pooled else self.kind_of_places(self.dense)

    def encode_prompts(self) -> Tensor:
        """Encode all prompts, the global ones first: (N_g + N_l, C, D)."""
        return torch.cat([self.text_encoder(tokens) for tokens in self.prompts()])

    def sets(self, image: ImageFeatures) -> tuple[Tensor, Tensor, Tensor]:
        """Features of unit length: places (B, M, D), global prompts (N_g, C, D), local prompts (N_l, C, D)."""
        places = image.pooled[:, None] if self.transport.pooled else self.places(image)
        text = F.normalize(at_least_float32(self.text_features()), dim=-1)
        n_global = self.prompt_learner.n_global
        local = text[n_global:] if self.prompt_learner.n_local else text
        self.latest_text = local.detach()
        return F.normalize(at_least_float32(places), dim=-1), text[:n_global], local

    def branches(self, image: ImageFeatures) -> Branches:
        """Compute the cosines of both branches."""
        places, whole, local = self.sets(image)
        return Branches(self.whole(image, whole), self.transport.score(places, local, each=True))

    def class_cosines(self, image: ImageFeatures) -> ClassCosines:
        """As every model; the whole image with the global prompts, all places with the local ones."""
        places, whole, local = self.sets(image)
        has_places = not self.transport.pooled
        return ClassCosines(mean_cosines(pooled(image), whole), mean_cosines(places, local) if has_places else None)

    @staticmethod
    def whole(image: ImageFeatures, text: Tensor) -> Tensor:
        """Compute the cosines (B, C, N_g) of the pooled features with the global prompts (N_g, C, D)."""
        with outside_autocast(text.device):
            return torch.einsum("bd,ncd->bcn", pooled(image), text)

    def losses(self, branches: Branches, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the losses of both branches, whose sum is trained on.

        Draws which global prompts each image sees.

        Parameters
        ----------
        branches
            Of a batch.
        labels
            (B,).

        Returns
        -------
        tuple of Tensor
            Of the global branch, on the mean over the drawn prompts, and of the local one.
        """
        scale = at_least_float32(self.logit_scale.exp())
        images, _, prompts = branches.whole.shape
        drawn = draw_prompts(images, prompts, self.dropout, self.replace)
        whole = self.cross_entropy(scale * mean_of_drawn(branches.whole, drawn), labels)
        if not self.every_prompt:
            return whole, self.cross_entropy(scale * self.local_score(branches.local.mean(dim=2)), labels)
        local = scale * self.local_score(branches.local)
        return whole, self.cross_entropy(local, labels[:, None].expand(-1, local.shape[2]))

    def local_score(self, score: Tensor) -> Tensor:
        """Divide a local score by N_l, where that is asked for."""
        return score / len(self.latest_text) if self.divided and self.latest_text is not None else score

    def logits(self, whole: Tensor, local: Tensor) -> Tensor:
        """Fuse the mean global cosines (B, C) and the mean local scores (B, C) to logits."""
        local = self.local_score(local)
        fused = {"mean": (whole + local) / 2, "global": whole, "local": local}[self.fusion]
        return at_least_float32(self.logit_scale.exp()) * fused

    def score(self, image: ImageFeatures) -> Tensor:
        """Compute logits (B, C) of features; all global prompts take part."""
        branches = self.branches(image)
        return self.logits(branches.whole.mean(dim=2), branches.local.mean(dim=2))

    def explain(self, images: Tensor | ImageFeatures, keep_plan: bool = True) -> PlotOutput:
        """Compute the forward pass with the evidence for its local branch; see `PlotModel.explain`."""
        image = self.encode(images)
        places, whole, local = self.sets(image)
        match: Match = self.transport(places, local, keep_plan)
        return PlotOutput(self.logits(self.whole(image, whole).mean(dim=2), match.score), match)
