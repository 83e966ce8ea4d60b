"""What every prompt model is made of; the child names are those of whole-model checkpoints.

A model is two halves with a cut between them: `encode` is the frozen image tower and depends on nothing that is
learned, `score` is everything else.  Training, evaluation and explanations all go through both, and whoever has the
features already (clip/feature_store/) hands them in instead of the images.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip import ranks
from clip.features import UNPROJECTED, ImageFeatures, at_least_float32
from clip.model import CLIP
from clip.prompt_text import prompt_encoder

from .local_projection import mapped, unprojected
from .prompts import ContextLearner


class ClassCosines(NamedTuple):
    """How alike images and classes are, before any scale: what scores of foreign images are computed from.

    Attributes
    ----------
    pooled
        (B, C), cosine of the pooled image feature and a class's text feature, mean over its prompts.
    places
        (B, M, C), the same for each place of the image; None for a model that has no features of places.
    """

    pooled: Tensor
    places: Tensor | None = None


class PromptModel(nn.Module):
    """A prompt learner between the frozen halves of a CLIP: images (B, 3, H, W) or their features -> logits (B, C).

    A subclass defines `score`.

    Parameters
    ----------
    prompt_learner
        What is learned.
    clip_model
        Its image encoder, text tower and temperature become children under the names of the original's checkpoints.
    """

    def __init__(self, prompt_learner: ContextLearner, clip_model: CLIP) -> None:
        super().__init__()
        self.prompt_learner = prompt_learner
        self.image_encoder: Any = clip_model.visual
        self.text_encoder: Any = prompt_encoder(clip_model)
        if note := getattr(self.text_encoder, "note", ""):
            print(note)
        self.logit_scale = clip_model.logit_scale
        self._keeps_text = False
        self._kept_text: Tensor | None = None
        self._classes: Tensor | None = None  # that are scored; None: all
        self._correction: Tensor | None = None  # of their logits in a loss

    @property
    def dtype(self) -> torch.dtype:
        """What images are converted to; as CLIP.dtype, it follows `.float()` and the like."""
        return self.image_encoder.dtype

    @property
    def kind(self) -> str:
        """What `score` needs of an image, see `encode_images`."""
        return "pooled"

    @property
    def image_side_learns(self) -> bool:
        """Whether what `encode` gives may change from step to step: where a subclass has an `encode` of its own."""
        return type(self).encode is not PromptModel.encode

    def forward(self, images: Tensor | ImageFeatures) -> Tensor:
        """Compute logits (B, C); in a step that several processes share, each encodes a part of images and classes."""
        return self.of_all_classes(self.score(ranks.encode(self.encode, images)))

    def encode(self, images: Tensor | ImageFeatures) -> ImageFeatures:
        """Ask the frozen tower about images (B, 3, H, W), without gradient; features are handed through.

        A subclass whose images also pass something that is learned overrides this, and nothing is kept of it.
        """
        if isinstance(images, ImageFeatures):
            return images
        return encode_images(self.image_encoder, images, self.kind)

    def score(self, image: ImageFeatures) -> Tensor:
        """Compute logits from the features of B images: (B, C), or those of this process's classes, as `text_features`.

        `forward` brings the classes of all processes together.
        """
        raise NotImplementedError

    # --- which classes -----------------------------------------------------------------------------------

    @contextmanager
    def scoring(self, classes: Tensor | None, correction: Tensor | None = None) -> Iterator[None]:
        """Within it only these classes are encoded and scored: logits (B, c).

        Parameters
        ----------
        classes
            (c,) int64 on the CPU, in the order of the logits; None for all.
        correction
            (c,), what a loss adds to their logits, where they stand for others too; see class_sample.py.
        """
        before = self._classes, self._correction
        self._classes, self._correction = classes, correction
        try:
            yield
        finally:
            self._classes, self._correction = before

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean cross-entropy of logits (B, C, ...) and labels (B, ...); of a sample of classes, corrected.

        Labels count among the classes that are scored.
        """
        if self._correction is not None:
            logits = logits + self._correction.to(logits).view(-1, *[1] * (logits.dim() - 2))
        return F.cross_entropy(logits, labels)

    def mean_over_classes(self, values: Tensor) -> Tensor:
        """Average values (C,) of the scored classes; in a sample, one that stands for others has their weight."""
        if self._correction is None:
            return values.mean()
        weights = self._correction.exp().to(values)
        return (weights * values).sum() / weights.sum()

    @property
    def n_scored(self) -> int:
        """How many classes are scored: C, or c within `scoring`."""
        return self.prompt_learner.n_classes if self._classes is None else len(self._classes)

    def own_classes(self) -> Tensor | None:
        """List the classes that this process encodes, (c,) int64 on the CPU; None for all, in order."""
        if not ranks.shared():
            return self._classes
        classes = torch.arange(self.n_scored) if self._classes is None else self._classes
        return classes[ranks.own(self.n_scored)]

    def of_all_classes(self, scores: Tensor, dim: int = 1) -> Tensor:
        """Gather scores (B, c, ...) of this process's classes, along `dim`, to those of all: (B, C, ...).

        For what a loss needs besides the logits that `forward` gives.
        """
        return ranks.gather(scores, dim, self.n_scored) if ranks.shared() else scores

    def prompts(self) -> Any:
        """Ask the learner for the prompts of this process's classes, for the text encoder."""
        classes = self.own_classes()
        return self.prompt_learner() if classes is None else self.prompt_learner(classes)

    # --- text and image ----------------------------------------------------------------------------------

    def class_cosines(self, image: ImageFeatures) -> ClassCosines:
        """Compare image features with the text features of the classes; without what `score` makes of the places.

        Parameters
        ----------
        image
            What `encode` gives.

        Notes
        -----
        Every prompt's feature is normalised by itself, and cosines are averaged over prompts, as in GalLoP.
        """
        text = self.text_features()  # (N, C, D)
        local = self.places(image)  # (B, M, D), M = 0 where `kind` asks for none
        places = mean_cosines(F.normalize(at_least_float32(local), dim=-1), text) if local.shape[1] else None
        return ClassCosines(mean_cosines(pooled(image), text), places)

    def kind_of_places(self, dense: str) -> str:
        """Name what is needed of an image for its places, see `encode_images`: where a map is learned, before it."""
        return unprojected(self.image_encoder, dense) if self.prompt_learner.local_proj else dense

    def places(self, image: ImageFeatures) -> Tensor:
        """Bring an image's places into the joint space, (B, M, D): through the learned map, where there is one."""
        local_proj = self.prompt_learner.local_proj
        return image.local if local_proj is None else mapped(local_proj, self.image_encoder, image.local)

    def encode_prompts(self) -> Tensor:
        """Encode the prompts of this process's classes as features (N, C, D), not normalised."""
        return self.text_encoder(self.prompts())

    def text_features(self) -> Tensor:
        """Encode the prompts, but within `fixed_prompts` only once: (N, C, D) of this process's classes."""
        if self._kept_text is not None:
            return self._kept_text
        text = self.encode_prompts()
        if self._keeps_text:
            self._kept_text = text
        return text

    def encode_text_together(self) -> None:
        """Within `fixed_prompts`: encode the prompts of all classes, each process a part of them; all must call it."""
        with ranks.sharing():
            self._kept_text = self.of_all_classes(self.encode_prompts())

    @contextmanager
    def fixed_prompts(self) -> Iterator[None]:
        """Within it, and what is nested in it, prompts do not change: they are encoded at most once."""
        if self._keeps_text:
            yield
            return
        self._keeps_text, self._kept_text = True, None
        try:
            yield
        finally:
            self._keeps_text, self._kept_text = False, None


@torch.no_grad()
def encode_images(tower: Any, images: Tensor, kind: str) -> ImageFeatures:
    """Compute features of images, laid out as they are when read from a file.

    Parameters
    ----------
    tower
        A frozen image encoder.
    images
        (B, 3, H, W) of any type.
    kind
        "pooled" for the pooled ones alone (no places), or one of clip.features.KINDS, which UNPROJECTED may precede.
    """
    images = images.to(tower.dtype)
    if kind == "pooled":
        return ImageFeatures.without_places(tower(images)).contiguous()
    if kind.startswith(UNPROJECTED):
        return tower.forward_dense(images, kind.removeprefix(UNPROJECTED), projected=False).contiguous()
    return tower.forward_dense(images, kind).contiguous()


def require_places(tower: Any, kind: str) -> None:
    """Refuse a backbone without local features of a kind, before anything is encoded.

    Parameters
    ----------
    tower
        An image encoder; those of clip/model.py have both kinds.
    kind
        One of clip.features.KINDS.

    Raises
    ------
    ValueError
        With the tower's reason.
    """
    reason = tower.no_places(kind) if hasattr(tower, "no_places") else ""
    if reason:
        raise ValueError(
            f"this MODEL.BACKBONE.NAME has no local features to be matched: {reason}. Choose another backbone, or a "
            "method that looks at the pooled feature: CoOp, or MATCHING global"
        )


def pooled(image: ImageFeatures) -> Tensor:
    """Scale pooled features (B, D) to unit length, float32."""
    return F.normalize(at_least_float32(image.pooled), dim=-1)


def mean_cosines(image: Tensor, text: Tensor) -> Tensor:
    """Compute cosines of image features with classes, each the mean over the class's prompts.

    Parameters
    ----------
    image
        (..., D), of unit length.
    text
        (N, C, D), not normalised.

    Returns
    -------
    Tensor
        (..., C), float32.
    """
    # the mean of cosines is linear in the text
    return image @ F.normalize(at_least_float32(text), dim=-1).mean(dim=0).t()
