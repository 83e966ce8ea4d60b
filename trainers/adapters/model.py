"""From features to logits: a hand-written prompt's score and what the cache adds to it.

Axes: B images, C classes, K cached images, D feature width; in PLOT-Adapter M local features, N keys of a cached image.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.features import ImageFeatures, at_least_float32
from clip.model import CLIP

from ..parts.hand_written import ZeroShotModel
from ..parts.model import ClassCosines, pooled
from ..plot.model import PlotModel, PlotOutput
from ..plot.transport import Transport, transported
from .cache import Cache


class TipModel(ZeroShotModel):
    """Tip-Adapter: images (B, 3, H, W) or their features -> logits (B, C) = s f W + alpha * exp(-beta (1 - f k)) v.

    f are unit pooled features, k the keys, v the one-hot values; W the text features (C, D) of hand-written prompts,
    and s = exp(logit_scale).  A cached image counts 1 for the class of an image just like it, and less for others.

    Parameters
    ----------
    clip_model
        The frozen CLIP.
    text
        W, of unit length.
    cache
        Keys, values, alpha and beta.

    References
    ----------
    R. Zhang et al., Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, ECCV 2022, eq. 5 to 7.
    """

    def __init__(self, clip_model: CLIP, text: Tensor, cache: Cache) -> None:
        super().__init__(clip_model, text)
        self.cache = cache

    def forward(self, images: Tensor | ImageFeatures) -> Tensor:
        """Logits (B, C) of a test."""
        image = self.encode(images)
        return self.base(image) + self.cache.alpha * self.cache_score(self.affinity(image), self.cache.beta)

    def class_cosines(self, image: ImageFeatures) -> ClassCosines:
        """Refuse: a class is a text feature and some cached images here, and what these add is no cosine."""
        raise NotImplementedError(
            "the scores of an adapter are no cosines with classes, since its cache adds to them; take a run of the "
            "prompts that it stands on instead: ZeroshotCLIP or PLOT"
        )

    def train_logits(self, image: ImageFeatures) -> Tensor:
        """Compute the logits (B, C) whose loss is trained on."""
        return self.zero_shot(image) + self.cache.alpha * self.cache_score(self.affinity(image), self.cache.beta)

    def base(self, image: ImageFeatures) -> Tensor:
        """Compute what the cache's score is added to in a test, (B, C)."""
        return self.zero_shot(image)

    def affinity(self, image: ImageFeatures) -> Tensor:
        """Compute the cosines with all keys, in the shape that `cache_score` reads: here (B, K)."""
        return pooled(image) @ self.cache.keys[0].t()

    def cache_score(self, affinity: Tensor, beta: float) -> Tensor:
        """Turn affinities into the cache's score (B, C), to be weighted by alpha."""
        return torch.exp(beta * (affinity - 1)) @ self.cache.values

    # --- keys --------------------------------------------------------------------------------------------

    def view(self, image: ImageFeatures) -> ImageFeatures:
        """Compute what the features of one augmented view of images contribute to their keys."""
        return ImageFeatures(at_least_float32(image.pooled), at_least_float32(image.local))

    def keys_of(self, mean: ImageFeatures) -> Tensor:
        """Make the keys (N, B, D) of images from the mean of their views."""
        return F.normalize(mean.pooled, dim=-1)[None]


class PlotAdapterModel(TipModel):
    """PLOT-Adapter: the cache is asked by every local feature of an image, and its answers are transported.

    Each cached image has N = 2 keys, its pooled feature and the mean of its local ones.  Local feature m says by its
    cosines with the n-th keys how much it belongs to which class: S (N, C, B, M).  The score of a class transports the
    M features to the N kinds of keys by that similarity.  In a test, half the logits of a frozen PLOT are added.

    Parameters
    ----------
    clip_model, text, cache
        As of TipModel.
    plot
        The trained PLOT, whose transport settings the cache's transport shares.
    epsilon
        Weight of the entropy in the cache's transport, in place of PLOT's.
    """

    def __init__(self, clip_model: CLIP, text: Tensor, cache: Cache, plot: PlotModel, epsilon: float) -> None:
        super().__init__(clip_model, text, cache)
        self.plot = plot
        self.kind = plot.kind
        self._transport = replace(plot.transport, epsilon=epsilon)

    @property
    def transport(self) -> Transport:
        """A row of the similarity is a unit vector over images: its sum over a class of n is at most sqrt(n)."""
        return replace(self._transport, max_cost=max(1.0, self.cache.most**0.5 - 1.0))

    @transport.setter
    def transport(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def latest_text(self) -> Tensor | None:
        """Text features of the prompts in the last test, (N, C, D)."""
        return self.plot.latest_text

    def base(self, image: ImageFeatures) -> Tensor:
        """Add a quarter of the sum of PLOT's two kinds of logits to the zero-shot ones.

        PLOT's logits are the mean of the local and the pooled ones here, and the original adds half of that.
        """
        return self.zero_shot(image) + 0.5 * 0.5 * self.plot.score(image)

    def affinity(self, image: ImageFeatures) -> Tensor:
        """Compute the cosines of all local features with all keys, (N, K, B, M)."""
        features = image.pooled[:, None] if self._transport.pooled else image.local
        local = F.normalize(at_least_float32(features), dim=-1)  # (B, M, D)
        return (self.cache.keys @ local.flatten(0, 1).t()).unflatten(2, local.shape[:2])

    def similarity(self, affinity: Tensor, beta: float) -> Tensor:
        """Sum affinities by class to S (N, C, B, M), after each row over the K images was scaled to unit length."""
        answers = (beta * affinity).softmax(dim=1)  # exp(-beta (1 - a)) up to a factor, which would underflow
        rows = F.normalize(answers, dim=1)
        return (self.cache.values.t() @ rows.flatten(2)).unflatten(2, affinity.shape[2:])

    def cache_score(self, affinity: Tensor, beta: float) -> Tensor:
        """Transport S: the score (B, C) of the cache."""
        similarity = self.similarity(affinity, beta)
        return self._scaled(transported(similarity, self.transport.solve(similarity).plan))

    def _scaled(self, score: Tensor) -> Tensor:
        """Multiply a score by s, as logits are."""
        return at_least_float32(self.logit_scale.exp()) * score

    def explain(self, images: Tensor | ImageFeatures, keep_plan: bool = True) -> PlotOutput:
        """Compute the forward pass with the evidence for it: how the cache was matched."""
        image = self.encode(images)
        match = self.transport.match(self.similarity(self.affinity(image), self.cache.beta), keep_plan)
        return PlotOutput(self.base(image) + self.cache.alpha * self._scaled(match.score), match)

    @contextmanager
    def fixed_prompts(self) -> Iterator[None]:
        """Within it the text features of PLOT are computed at most once; for one test."""
        with self.plot.fixed_prompts():
            yield

    def view(self, image: ImageFeatures) -> ImageFeatures:
        """Compute what one view contributes, each feature of unit length: the original averages directions."""
        return super().view(image).normalized()

    def keys_of(self, mean: ImageFeatures) -> Tensor:
        """Make the two keys (2, B, D) of images: pooled, and mean over places."""
        places = F.normalize(mean.local, dim=-1).mean(dim=1)  # not of unit length again, as the original
        return torch.stack([F.normalize(mean.pooled, dim=-1), places])
