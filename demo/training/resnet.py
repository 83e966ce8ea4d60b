"""The course on captions: a small ResNet CLIP learns which caption belongs to which scene.

The three losses are explained in `demo.train_resnet`. Axis letters: B images and texts of a batch, M places, D width of
the joint space.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import nullcontext
from random import Random

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor

from clip import tokenize
from clip.features import ImageFeatures
from clip.model import CLIP, ModifiedResNet
from dassl.plain.devices import choose_device

from ..captions import caption, part_phrase
from ..scenes import Scene
from .course import Course
from .pictures import RESOLUTION, Corpus, normalise, random_views

CONTEXT_LENGTH, VOCABULARY = 77, 49408
MAX_SCALE = 100.0  # of the logits, as in CLIP


class CaptionCourse(Course):
    """Everything learns: both encoders and the scale of the logits."""

    def __init__(self, options: argparse.Namespace, corpus: Corpus) -> None:
        self.options, self.corpus, self.device = options, corpus, choose_device(options.device)
        self.vocabulary = Vocabulary(corpus.scenes, options.seed)
        model = CLIP(
            options.embed, RESOLUTION, tuple(options.vision_layers), options.vision_width, None, CONTEXT_LENGTH,
            len(self.vocabulary), options.text_width, options.text_width // 64, options.text_layers,
        )  # fmt: skip
        self.model = self.learner = model.to(self.device).to(memory_format=torch.channels_last).train()
        self.words = Random(options.seed)

    def loss(self, step: int, chosen: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the three losses."""
        options = self.options
        size = RESOLUTION // 2 if step < options.small_steps * options.steps else RESOLUTION
        pixels = normalise(self.corpus.pixels[chosen])
        images, mirrored = random_views(pixels, size, options.smallest_crop, rng)
        scenes = [self.corpus.scenes[i] for i in chosen.tolist()]
        captions = [caption(scene, self.words, flip) for scene, flip in zip(scenes, mirrored, strict=True)]
        phrases = [part_phrase(scene, self.words) for scene in scenes]
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        whole, places, parts = self._losses(images, captions, phrases)
        total = whole + options.local_weight * places + options.part_weight * parts
        return total, {"pooled": whole, "local": places, "parts": parts, "scale": self.model.logit_scale.exp()}

    def _losses(self, images: Tensor, captions: list[str], phrases: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three losses of images (B, 3, H, H) with a caption and a phrase each."""
        model = self.model
        half = self.options.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            pooled, local = encode_views(model, images)  # (B, D), (B, M, D)
            tokens = (self.vocabulary(texts).to(self.device) for texts in (captions, phrases))
            text, phrase = map(model.encode_text, tokens)  # (B, D)
        pooled, local, text, phrase = (F.normalize(x.float(), dim=-1) for x in (pooled, local, text, phrase))
        scale = model.logit_scale.exp()
        by_place = scale * torch.einsum("bmd,cd->bcm", local, phrase)
        # A soft maximum over places, less the logarithm of their number: equal places give the logit of one.
        best_places = by_place.logsumexp(dim=-1) - math.log(local.shape[1])  # (B, B)
        return (
            contrast(scale * pooled @ text.T, captions),
            contrast(scale * local.mean(dim=1) @ text.T, captions),
            contrast(best_places, phrases),
        )

    def encode(self, texts: list[str]) -> Tensor:
        """Return the ids of texts in the vocabulary of the captions (B, 77)."""
        return self.vocabulary(texts)

    @torch.no_grad()
    def after_step(self) -> None:
        """Bound the scale of the logits, as CLIP's training does."""
        self.model.logit_scale.clamp_(max=math.log(MAX_SCALE))

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict with the full vocabulary, rows of unused tokens zero."""
        weights = super().weights()
        table = torch.zeros(VOCABULARY, self.model.transformer.width, dtype=torch.half)
        table[self.vocabulary.ids] = weights["token_embedding.weight"]
        return weights | {"token_embedding.weight": table}


class Vocabulary:
    """The token ids that captions use, numbered in ascending order, so that end-of-text stays the largest.

    CLIP finds the end of a text by the largest id. Three captions and three phrases of every scene are read, after
    which hardly a word is new.

    Parameters
    ----------
    scenes
        The training scenes.
    seed
        Of the captions that are read here.
    """

    def __init__(self, scenes: Sequence[Scene], seed: int) -> None:
        rng = Random(seed)
        texts = [write(scene, rng) for _ in range(3) for scene in scenes for write in (caption, part_phrase)]
        self.ids = torch.unique(torch.cat([tokenize(text).long().flatten() for text in set(texts)]))
        self._new = torch.zeros(VOCABULARY, dtype=torch.long)
        self._new[self.ids] = torch.arange(len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return ids of this vocabulary (B, L); a word that no training caption has counts as padding."""
        return self._new[tokenize(list(texts)).long()]


def encode_views(model: CLIP, images: Tensor) -> ImageFeatures:
    """`encode_image_dense`, also for smaller images (B, 3, H, H): their positions are means of the model's own."""
    assert isinstance(model.visual, ModifiedResNet)
    pool, features = model.visual.attnpool, model.visual.feature_map(images)  # features (B, E, h', w')
    full = round((len(pool.positional_embedding) - 1) ** 0.5)
    if features.shape[-1] == full:
        return pool.forward_dense(features)
    places = pool.positional_embedding[1:].T.unflatten(1, (full, full))  # (E, h, w)
    places = F.adaptive_avg_pool2d(places, features.shape[-1]).flatten(1).T  # (M, E)
    tokens = features.flatten(2).transpose(1, 2)  # (B, M, E)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)  # the mean comes first, as in the model
    tokens = tokens + torch.cat([pool.positional_embedding[:1], places]).to(tokens.dtype)
    encoded = pool.attend(tokens, tokens)  # (B, 1 + M, D)
    return ImageFeatures(encoded[:, 0], encoded[:, 1:])


def contrast(logits: Tensor, texts: Sequence[str]) -> Tensor:
    """InfoNCE in both directions.

    The cross entropy of the rows (which text belongs to an image?) and of the columns (which image to a text?),
    averaged. Images whose text reads the same share the target evenly: there is nothing to tell them apart by.

    Parameters
    ----------
    logits
        Scaled similarities (B, B), images by texts.
    texts
        The B texts as words.

    Returns
    -------
    Tensor
        The loss, a scalar.
    """
    numbers = {text: number for number, text in enumerate(texts)}
    key = torch.tensor([numbers[text] for text in texts], device=logits.device)
    same = (key[:, None] == key[None, :]).float()
    target = same / same.sum(dim=1, keepdim=True)  # rows sum to one; symmetric, so it serves both directions
    by_image = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    by_text = -(target * logits.T.log_softmax(dim=1)).sum(dim=1).mean()
    return (by_image + by_text) / 2
