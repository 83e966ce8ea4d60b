"""Train the demo CLIP: a ResNet and a text transformer, small enough for two CPU cores, on captioned scenes.

    python -m demo.train_resnet                       writes clip/weights/demo_rn.safetensors
    python -m demo.train_resnet --steps 300 --scenes 4000 --output /tmp/quick.safetensors

The model is a plain CLIP in OpenAI's layout, with the full vocabulary; scenes and captions come from
scenes.py (its "photo world"). It is trained on captions, never on the labels or the images of the
few-shot task. Three contrastive losses (InfoNCE in both directions, captions that read the same in a batch
share the target) pull together

1. the pooled image feature and the caption, as in CLIP;
2. the mean of the local features and the caption. CLIP's own loss asks nothing of the attention pool's output
   at the places; PLOT matches these local features with its prompts, and in a large model they are aligned with
   text all the same;
3. the best matching places and a phrase about one part ("a striped red sail."), so that places differ.

To save time the first part of the training sees pictures of half the size (the attention pool's positions
are averaged accordingly), captions are cut at their longest, and only tokens that captions use are trained:
the others' embeddings are zero. The file is written every 250 steps and at the end.

The same command on the same machine and versions gives the same weights. --precision fp32 is for CPUs without
bfloat16 instructions.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import multiprocessing
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from clip import tokenize
from clip.features import ImageFeatures
from clip.model import CLIP, ModifiedResNet

from .captions import caption, part_phrase
from .scenes import Scene, chalk_scene, photo_of, photo_scene
from .task import CLASSES

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = ROOT / "clip" / "weights" / "demo_rn.safetensors"
PIXEL_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
PIXEL_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
CONTEXT_LENGTH, VOCABULARY, RESOLUTION = 77, 49408, 128
PROBE_IMAGES = 20  # per class, for the accuracies in the report
MAX_SCALE = 100.0  # of the logits, as in CLIP


@dataclass(frozen=True)
class Options:
    """What can be chosen; the defaults made the packaged weights."""

    output: Path
    scenes: int  # drawn once, seen several times with other crops and captions
    steps: int
    small_steps: float  # the first part of the steps, with pictures of half the size
    batch: int
    rate: float  # largest learning rate, after a warm-up of 100 steps; then cosine
    seed: int
    precision: str
    threads: int
    embed: int
    vision_width: int
    vision_layers: tuple[int, ...]
    text_width: int
    text_layers: int
    local_weight: float
    part_weight: float
    smallest_crop: float  # share of the picture


class Corpus(NamedTuple):
    """Scenes of the photo world: pixels (S, 128, 128, 3) uint8, and what can be said about each."""

    pixels: Tensor
    scenes: list[Scene]


# ---- data
def _draw(seed: str) -> tuple[np.ndarray, Scene]:
    scene = photo_scene(seed)
    return np.array(scene.image), replace(scene, image=Image.new("RGB", (1, 1)))  # pixels are kept once


def draw_corpus(count: int, prefix: str, workers: int) -> Corpus:
    """`count` scenes of the photo world, drawn by `workers` processes."""
    pixels = torch.empty(count, RESOLUTION, RESOLUTION, 3, dtype=torch.uint8)
    scenes = []
    seeds = (f"{prefix}/{i}" for i in range(count))
    with contextlib.ExitStack() as stack:
        drawn: Iterator[tuple[np.ndarray, Scene]] = map(_draw, seeds)
        if workers > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers))
            drawn = pool.imap(_draw, seeds, chunksize=64)
        for i, (image, scene) in enumerate(tqdm(drawn, total=count, desc="Drawing scenes", mininterval=1)):
            pixels[i] = torch.from_numpy(image)
            scenes.append(scene)
    return Corpus(pixels, scenes)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) with CLIP's mean and deviation."""
    return (pixels.permute(0, 3, 1, 2).float() / 255 - PIXEL_MEAN) / PIXEL_STD


def smaller(images: Tensor, side: int) -> Tensor:
    """Images (B, 3, H, H) in the resolution of an encoder."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True)


def random_views(
    images: Tensor, size: int, smallest: float, rng: torch.Generator
) -> tuple[Tensor, list[bool]]:
    """Random crops of (B, 3, H, W), resized to `size`, half of them mirrored; and which ones are."""
    share, shape, left, top, side = torch.rand(5, len(images), generator=rng)
    share = (smallest + (1 - smallest) * share).sqrt()
    shape = (0.25 * (2 * shape - 1)).exp()  # width to height within 1.28 either way
    width, height = (share * shape.sqrt()).clamp(max=1), (share / shape.sqrt()).clamp(max=1)
    mirrored = side < 0.5
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = torch.where(mirrored, -width, width)
    theta[:, 0, 2] = (2 * left - 1) * (1 - width)
    theta[:, 1, 1] = height
    theta[:, 1, 2] = (2 * top - 1) * (1 - height)
    if size < images.shape[-1]:
        images = F.avg_pool2d(images, images.shape[-1] // size)
    grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="reflection"), mirrored.tolist()


class Vocabulary:
    """The token ids that captions use, numbered in ascending order, so that end-of-text stays the largest."""

    def __init__(self, scenes: Sequence[Scene], seed: int):
        rng = Random(seed)
        texts = [tell(scene, rng) for _ in range(3) for scene in scenes for tell in (caption, part_phrase)]
        self.ids = torch.unique(torch.cat([tokenize(text).long().flatten() for text in set(texts)]))
        self._new = torch.zeros(VOCABULARY, dtype=torch.long)
        self._new[self.ids] = torch.arange(len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts -> ids of this vocabulary (B, L); a word that no training caption has counts as padding."""
        return self._new[tokenize(list(texts)).long()]


# ---- model and losses
def new_model(options: Options, vocabulary: int) -> CLIP:
    return CLIP(options.embed, RESOLUTION, options.vision_layers, options.vision_width, None, CONTEXT_LENGTH,
                vocabulary, options.text_width, options.text_width // 64, options.text_layers)


def encode_views(model: CLIP, images: Tensor) -> ImageFeatures:
    """`encode_image_dense`, also for smaller images: their positions are means of the model's own."""
    assert isinstance(model.visual, ModifiedResNet)
    pool, features = model.visual.attnpool, model.visual.feature_map(images)
    full = round((len(pool.positional_embedding) - 1) ** 0.5)
    if features.shape[-1] == full:
        return pool.forward_dense(features)
    places = pool.positional_embedding[1:].T.unflatten(1, (full, full))  # (E, h, w)
    places = F.adaptive_avg_pool2d(places, features.shape[-1]).flatten(1).T
    tokens = features.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + torch.cat([pool.positional_embedding[:1], places]).to(tokens.dtype)
    encoded = pool.attend(tokens, tokens)
    return ImageFeatures(encoded[:, 0], encoded[:, 1:])


def contrast(logits: Tensor, texts: Sequence[str]) -> Tensor:
    """InfoNCE in both directions over logits (B, B); images whose text reads the same share the target."""
    numbers = {text: number for number, text in enumerate(texts)}
    key = torch.tensor([numbers[text] for text in texts])
    same = (key[:, None] == key[None, :]).float()
    target = same / same.sum(dim=1, keepdim=True)
    by_image = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    by_text = -(target * logits.T.log_softmax(dim=1)).sum(dim=1).mean()
    return (by_image + by_text) / 2


def losses(model: CLIP, images: Tensor, captions: list[str], phrases: list[str], vocabulary: Vocabulary,
           options: Options) -> tuple[Tensor, Tensor, Tensor]:
    """The three contrastive losses of the module's docstring."""
    with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
        pooled, local = encode_views(model, images)
        text, phrase = (model.encode_text(vocabulary(texts)) for texts in (captions, phrases))
    pooled, local, text, phrase = (F.normalize(x.float(), dim=-1) for x in (pooled, local, text, phrase))
    scale = model.logit_scale.exp()
    by_place = scale * torch.einsum("bmd,cd->bcm", local, phrase)
    best_places = by_place.logsumexp(dim=-1) - math.log(local.shape[1])
    return (
        contrast(scale * pooled @ text.T, captions),
        contrast(scale * local.mean(dim=1) @ text.T, captions),
        contrast(best_places, phrases),
    )


def optimiser_of(model: torch.nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW on all parameters; only matrices decay."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def learning_rate(step: int, largest: float, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / min(100, steps))
    return largest * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(model: CLIP, corpus: Corpus, vocabulary: Vocabulary, options: Options,
          report: Callable[[int, str], None]) -> None:
    """Train `model` in place; `report(steps done, losses)` is called now and then."""
    optimiser = optimiser_of(model, options.rate)
    picks = torch.Generator().manual_seed(options.seed)
    words = Random(options.seed)
    order = torch.empty(0, dtype=torch.long)
    model.train()
    bar = tqdm(range(options.steps), desc="Training", mininterval=5)
    for step in bar:
        if len(order) < options.batch:
            order = torch.cat([order, torch.randperm(len(corpus.scenes), generator=picks)])
        chosen, order = order[: options.batch], order[options.batch :]
        size = RESOLUTION // 2 if step < options.small_steps * options.steps else RESOLUTION
        images, mirrored = random_views(normalise(corpus.pixels[chosen]), size, options.smallest_crop, picks)
        scenes = [corpus.scenes[i] for i in chosen.tolist()]
        captions = [caption(scene, words, flip) for scene, flip in zip(scenes, mirrored, strict=True)]
        phrases = [part_phrase(scene, words) for scene in scenes]
        images = images.contiguous(memory_format=torch.channels_last)
        whole, places, parts = losses(model, images, captions, phrases, vocabulary, options)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, options.rate, options.steps)
        optimiser.zero_grad()
        (whole + options.local_weight * places + options.part_weight * parts).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(MAX_SCALE))
        bar.set_postfix(pooled=f"{whole:.2f}", local=f"{places:.2f}", parts=f"{parts:.2f}", refresh=False)
        if (step + 1) % 250 == 0 or step + 1 == options.steps:
            scale = model.logit_scale.exp()
            report(step + 1, f"losses {whole:.3f} {places:.3f} {parts:.3f}, scale {scale:.1f}")


# ---- evaluation
class Probe(NamedTuple):
    """Images (B, 128, 128, 3) uint8 of single things that are few-shot classes, and their labels (B,)."""

    pixels: Tensor
    labels: Tensor


def draw_probe(draw: Callable[[str, str], Scene], count: int) -> Probe:
    """`count` scenes of every class by `photo_of` or `chalk_scene`, none of them trained on or in the task."""
    scenes = [draw(name, f"probe/{name}/{i}") for name in CLASSES for i in range(count)]
    pixels = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in scenes]))
    return Probe(pixels, torch.arange(len(CLASSES)).repeat_interleave(count))


@torch.no_grad()
def zero_shot(model: CLIP, probe: Probe, encode: Callable[[list[str]], Tensor]) -> tuple[float, float]:
    """Accuracy in percent with "a photo of a <class>.": by the pooled feature, by the mean of the local ones."""
    model.eval()
    prompts = [f"a photo of a {name}." for name in CLASSES]
    text = F.normalize(model.encode_text(encode(prompts)), dim=-1)
    right = torch.zeros(2)
    for pixels, labels in zip(probe.pixels.split(128), probe.labels.split(128), strict=True):
        images = smaller(normalise(pixels), model.visual.input_resolution)
        image = model.encode_image_dense(images).normalized()
        for i, feature in enumerate((image.pooled, image.local.mean(dim=1))):
            right[i] += ((feature @ text.T).argmax(dim=1) == labels).sum()
    model.train()
    pooled, local = (100 * right / len(probe.labels)).tolist()
    return round(pooled, 1), round(local, 1)


# ---- file
def openai_weights(model: CLIP, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """State dict with the full vocabulary, rows of unused tokens zero; fp16."""
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    table = torch.zeros(VOCABULARY, model.transformer.width)
    table[vocabulary.ids] = weights["token_embedding.weight"]
    weights["token_embedding.weight"] = table
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in weights.items()
    }


def save(weights: dict[str, Tensor], output: Path, facts: dict[str, str]) -> None:
    """Write safetensors with `facts` as metadata, under a temporary name first."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        save_file(weights, temporary, metadata=facts)
        temporary.chmod(0o644)  # safetensors writes files that only the owner can read
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def facts_of(command: Sequence[str], seed: int) -> dict[str, str]:
    """What is known before the training; for the metadata of the file."""
    return {
        "activation": "quick_gelu",
        "command": shlex.join(command),
        "seed": str(seed),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        "date": datetime.date.today().isoformat(),
    }


def reporter(model: CLIP, encode: Callable[[list[str]], Tensor], weights: Callable[[], dict[str, Tensor]], output: Path,
             facts: dict[str, str]) -> Callable[[int, str], None]:
    """`report(steps done, numbers)`: measures the model, writes its file, and prints a line.  The clock starts now."""
    probes = {"photo": draw_probe(photo_of, PROBE_IMAGES), "chalk": draw_probe(chalk_scene, PROBE_IMAGES)}
    start = time.time()

    def report(step: int, numbers: str) -> None:
        minutes = (time.time() - start) / 60
        accuracy = {name: zero_shot(model, probe, encode) for name, probe in probes.items()}
        facts.update(steps=str(step), minutes=f"{minutes:.1f}", zero_shot_accuracy=json.dumps(accuracy))
        save(weights(), output, facts)
        tqdm.write(f"step {step}, {minutes:.1f} min: {numbers}, zero-shot by pooled and local {accuracy}")

    return report


def parse(argv: list[str] | None) -> Options:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--output", type=Path, default=PACKAGED, help="file to write (default: the packaged weights)")
    add("--scenes", type=int, default=24000, help="scenes to draw, 49 KB each (default %(default)s)")
    add("--steps", type=int, default=4000, help="optimiser steps (default %(default)s)")
    add("--small-steps", type=float, default=0.5, help="share of steps at half size (default %(default)s)")
    add("--batch", type=int, default=128, help="images per step (default %(default)s)")
    add("--rate", type=float, default=0.0015, help="largest learning rate (default %(default)s)")
    add("--seed", type=int, default=1, help="of weights, batches, crops and captions (default %(default)s)")
    add("--precision", choices=("bf16", "fp32"), default="bf16", help="of the encoders (default %(default)s)")
    add("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    add("--embed", type=int, default=128, help="width of the joint space (default %(default)s)")
    add("--vision-width", type=int, default=16, help="of the ResNet's first stage (default %(default)s)")
    add("--vision-layers", type=int, nargs=4, default=(1, 1, 1, 1), metavar="N", help="blocks per stage")
    add("--text-width", type=int, default=64, help="a multiple of 64 (default %(default)s)")
    add("--text-layers", type=int, default=3, help="default %(default)s")
    add("--local-weight", type=float, default=0.5, help="weight of loss 2 (default %(default)s)")
    add("--part-weight", type=float, default=0.5, help="weight of loss 3 (default %(default)s)")
    add("--smallest-crop", type=float, default=0.4, help="share of the picture (default %(default)s)")
    values = vars(parser.parse_args(argv))
    return Options(**{**values, "vision_layers": tuple(values["vision_layers"])})


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    corpus = draw_corpus(options.scenes, "train", options.threads)
    vocabulary = Vocabulary(corpus.scenes, options.seed)
    model = new_model(options, len(vocabulary)).to(memory_format=torch.channels_last)
    facts = facts_of(["python", "-m", "demo.train_resnet", *(sys.argv[1:] if argv is None else argv)], options.seed)
    report = reporter(model, vocabulary, lambda: openai_weights(model, vocabulary), options.output, facts)
    train(model, corpus, vocabulary, options, report)
    print(f"Wrote {options.output} ({options.output.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
