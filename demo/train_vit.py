"""Train the demo's ViT: it imitates the image encoder of the demo's ResNet CLIP, and shares its text encoder.

    python -m demo.train_vit                        writes clip/weights/demo_vit.safetensors
    python -m demo.train_vit --steps 500 --scenes 4000 --output /tmp/quick.safetensors

A transformer that starts from captions alone needs more pictures than two CPU cores can show it.  A teacher tells
more about a picture than a caption does: the ViT (64 x 64 pixels, 4 x 4 patches) learns to give, for a part of a
scene, the pooled feature that the ResNet gives for the whole (1 - cosine, both less the mean over all scenes).
Three fifths of the pictures are restyled, half of these with exchanged colours and some of them inverted, half as
contours on a dark ground: the thing stays the same, and forms count more than colours.  As in
train_resnet.py, neither labels nor images of the few-shot task are used.

Nothing is asked of the patch tokens.  That is so in CLIP's own training too, and what local features of a ViT are
worth to PLOT is one of the questions that this model is here to answer.

The same command on the same machine and versions gives the same weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from clip import load_clip_to_cpu, tokenize
from clip.frozen import freeze_image_tower
from clip.model import CLIP

from . import train_resnet as resnet

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = ROOT / "clip" / "weights" / "demo_vit.safetensors"
RESTYLED = 0.6  # share of the pictures
REPORTS = 20  # in the course of the training


@dataclass(frozen=True)
class Options:
    """What can be chosen; the defaults made the packaged weights."""

    output: Path
    teacher: Path
    scenes: int  # drawn once, seen many times with other crops and styles
    steps: int
    batch: int
    rate: float  # largest learning rate, after a warm-up of 100 steps; then cosine
    seed: int
    threads: int
    resolution: int  # pixels of a side
    patch: int
    width: int
    layers: int
    smallest_crop: float  # share of the picture


# ---- pictures
def shrunk(pixels: Tensor, side: int) -> Tensor:
    """uint8 pictures (S, H, H, 3) -> (S, side, side, 3)."""
    parts = (resnet.smaller(part.permute(0, 3, 1, 2).float(), side) for part in pixels.split(256))
    return torch.cat([part.clamp(0, 255).round().byte().permute(0, 2, 3, 1) for part in parts])


def restyled(images: Tensor, rng: torch.Generator) -> Tensor:
    """Normalised images (B, 3, H, W) of which some are in other colours and some are contours; see above."""
    style = torch.rand(len(images), generator=rng)
    order = torch.rand(len(images), 3, generator=rng).argsort(dim=1)
    order[style >= RESTYLED] = torch.arange(3)
    images = images.gather(1, order[:, :, None, None].expand_as(images))
    inverted = (torch.rand(len(images), generator=rng) < 0.5) & (style < RESTYLED / 2)
    images = torch.where(inverted[:, None, None, None], -images, images)
    drawn = (style >= RESTYLED / 2) & (style < RESTYLED)
    return torch.where(drawn[:, None, None, None], contours(images), images)


def contours(images: Tensor) -> Tensor:
    """Bright where neighbouring pixels differ, over the darkened image."""
    down = F.pad(images[:, :, 1:] - images[:, :, :-1], (0, 0, 0, 1))
    right = F.pad(images[..., 1:] - images[..., :-1], (0, 1))
    return 2 * (down.square() + right.square()).sqrt() + 0.3 * images - 1.5


# ---- model and training
def new_model(teacher: CLIP, options: Options) -> CLIP:
    """A ViT with the teacher's text encoder and temperature, which are frozen."""
    text = teacher.transformer
    model = CLIP(
        teacher.text_projection.shape[1], options.resolution, options.layers, options.width, options.patch,
        teacher.context_length, teacher.vocab_size, text.width, text.width // 64, text.layers,
    )  # fmt: skip
    theirs = {name: tensor for name, tensor in teacher.state_dict().items() if not name.startswith("visual.")}
    model.load_state_dict(model.state_dict() | theirs)
    model.requires_grad_(False).visual.requires_grad_(True)
    return model


@torch.no_grad()
def features_of(teacher: CLIP, pixels: Tensor) -> Tensor:
    """What the teacher sees in whole pictures (S, H, H, 3): unit length (S, D).  It is frozen by this."""
    freeze_image_tower(teacher.visual)
    parts = tqdm(pixels.split(128), desc="Asking the teacher", mininterval=5)
    return torch.cat([F.normalize(teacher.encode_image(resnet.normalise(part)), dim=-1) for part in parts])


def train(
    model: CLIP, pixels: Tensor, targets: Tensor, options: Options, report: Callable[[int, str], None]
) -> None:
    """Train `model.visual` in place; `report(steps done, loss)` is called now and then."""
    optimiser = resnet.optimiser_of(model.visual, options.rate)
    picks = torch.Generator().manual_seed(options.seed)
    order = torch.empty(0, dtype=torch.long)
    mean = targets.mean(dim=0)
    bar = tqdm(range(options.steps), desc="Training", mininterval=5)
    for step in bar:
        if len(order) < options.batch:
            order = torch.cat([order, torch.randperm(len(pixels), generator=picks)])
        chosen, order = order[: options.batch], order[options.batch :]
        views, _ = resnet.random_views(
            resnet.normalise(pixels[chosen]), options.resolution, options.smallest_crop, picks
        )
        seen = F.normalize(model.encode_image(restyled(views, picks)), dim=-1)
        loss = 1 - F.cosine_similarity(seen - mean, targets[chosen] - mean).mean()
        for group in optimiser.param_groups:
            group["lr"] = resnet.learning_rate(step, options.rate, options.steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.visual.parameters(), 1.0)
        optimiser.step()
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if (step + 1) % max(1, options.steps // REPORTS) == 0 or step + 1 == options.steps:
            report(step + 1, f"loss {loss:.3f}")


def parse(argv: list[str] | None) -> Options:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--output", type=Path, default=PACKAGED, help="file to write (default: the packaged weights)")
    add("--teacher", type=Path, default=resnet.PACKAGED, help="weights of a CLIP (default: the demo's ResNet)")
    add("--scenes", type=int, default=24000, help="scenes to draw, 49 KB each (default %(default)s)")
    add("--steps", type=int, default=25000, help="optimiser steps (default %(default)s)")
    add("--batch", type=int, default=64, help="images per step (default %(default)s)")
    add("--rate", type=float, default=0.001, help="largest learning rate (default %(default)s)")
    add("--seed", type=int, default=1, help="of weights, batches, crops and styles (default %(default)s)")
    add("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    add("--resolution", type=int, default=64, help="pixels of a side (default %(default)s)")
    add("--patch", type=int, default=16, help="pixels of a patch's side (default %(default)s)")
    add("--width", type=int, default=128, help="a multiple of 64 (default %(default)s)")
    add("--layers", type=int, default=4, help="default %(default)s")
    add("--smallest-crop", type=float, default=0.4, help="share of the picture (default %(default)s)")
    return Options(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    pixels = resnet.draw_corpus(options.scenes, "train", options.threads).pixels
    teacher = load_clip_to_cpu(options.teacher).float().requires_grad_(False)
    model = new_model(teacher, options)
    targets, pixels = features_of(teacher, pixels), shrunk(pixels, options.resolution)
    command = ["python", "-m", "demo.train_vit", *(sys.argv[1:] if argv is None else argv)]

    def weights() -> dict[str, Tensor]:
        return {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}

    report = resnet.reporter(model, tokenize, weights, options.output, resnet.facts_of(command, options.seed))
    train(model, pixels, targets, options, report)
    print(f"Wrote {options.output} ({options.output.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
