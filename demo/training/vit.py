"""The course on a teacher's features: a small ViT learns to see what the demo's ResNet sees.

Why so is explained in `demo.train_vit`. Axis letters: S scenes, B images of a batch, H and W pixels, D width of the
joint space.
"""

from __future__ import annotations

import argparse

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from clip import load_clip_to_cpu, tokenize
from clip.frozen import freeze_image_tower
from clip.model import CLIP
from dassl.plain.devices import choose_device

from .course import Course
from .pictures import Corpus, normalise, random_views, smaller

RESTYLED = 0.6  # share of the pictures


class ImitationCourse(Course):
    """The image encoder learns; the text encoder and the scale of the logits are the teacher's."""

    def __init__(self, options: argparse.Namespace, corpus: Corpus) -> None:
        self.options, self.device = options, choose_device(options.device)
        teacher = load_clip_to_cpu(options.teacher).float().requires_grad_(False).to(self.device)
        text = teacher.transformer
        self.model = CLIP(
            teacher.text_projection.shape[1], options.resolution, options.layers, options.width, options.patch,
            teacher.context_length, teacher.vocab_size, text.width, text.width // 64, text.layers,
        )  # fmt: skip
        shared = {name: tensor for name, tensor in teacher.state_dict().items() if not name.startswith("visual.")}
        self.model.load_state_dict(self.model.state_dict() | shared)
        self.model.to(self.device)
        self.learner = self.model.requires_grad_(False).visual.requires_grad_(True)
        self.targets, self.pixels = features_of(teacher, corpus.pixels), shrunk(corpus.pixels, options.resolution)
        self.mean = self.targets.mean(dim=0).to(self.device)  # (D,)

    def loss(self, step: int, chosen: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """1 - cosine of the feature of a view to the teacher's feature of the whole, both less the mean."""
        pixels = normalise(self.pixels[chosen])
        views, _ = random_views(pixels, self.options.resolution, self.options.smallest_crop, rng)
        seen = F.normalize(self.model.encode_image(restyled(views, rng).to(self.device)), dim=-1)  # (B, D)
        targets = self.targets[chosen].to(self.device)
        loss = 1 - F.cosine_similarity(seen - self.mean, targets - self.mean).mean()
        return loss, {"loss": loss}

    def encode(self, texts: list[str]) -> Tensor:
        """Return token ids of the full vocabulary (B, 77)."""
        return tokenize(texts)


@torch.no_grad()
def features_of(teacher: CLIP, pixels: Tensor) -> Tensor:
    """Return what the teacher sees in whole pictures (S, H, H, 3): unit length (S, D).  It is frozen by this."""
    freeze_image_tower(teacher.visual)
    device = teacher.logit_scale.device
    parts = tqdm(pixels.split(128), desc="Asking the teacher", mininterval=5)
    return torch.cat([F.normalize(teacher.encode_image(normalise(part).to(device)), dim=-1).cpu() for part in parts])


def shrunk(pixels: Tensor, side: int) -> Tensor:
    """uint8 pictures (S, H, H, 3) -> (S, side, side, 3)."""
    parts = (smaller(part.permute(0, 3, 1, 2).float(), side) for part in pixels.split(256))
    return torch.cat([part.clamp(0, 255).round().byte().permute(0, 2, 3, 1) for part in parts])


def restyled(images: Tensor, rng: torch.Generator) -> Tensor:
    """Show some of the images in other colours, and some as contours.

    Parameters
    ----------
    images
        Normalised images (B, 3, H, W).
    rng
        Source of the choices.

    Returns
    -------
    Tensor
        (B, 3, H, W). Of `RESTYLED` of the images one half has its colour channels exchanged, and one in two of these is
        inverted; the other half is drawn as contours, its channels exchanged as well.
    """
    style = torch.rand(len(images), generator=rng)
    order = torch.rand(len(images), 3, generator=rng).argsort(dim=1)
    order[style >= RESTYLED] = torch.arange(3)
    images = images.gather(1, order[:, :, None, None].expand_as(images))
    inverted = (torch.rand(len(images), generator=rng) < 0.5) & (style < RESTYLED / 2)
    images = torch.where(inverted[:, None, None, None], -images, images)
    drawn = (style >= RESTYLED / 2) & (style < RESTYLED)
    return torch.where(drawn[:, None, None, None], contours(images), images)


def contours(images: Tensor) -> Tensor:
    """Bright where neighbouring pixels of (B, 3, H, W) differ, over the darkened image."""
    down = F.pad(images[:, :, 1:] - images[:, :, :-1], (0, 0, 0, 1))
    right = F.pad(images[..., 1:] - images[..., :-1], (0, 1))
    return 2 * (down.square() + right.square()).sqrt() + 0.3 * images - 1.5
