"""What both trainings share: the loop over batches, the zero-shot probe on the way, and the file that is written.

A `Course` is what differs: which model learns, and what it is asked of a batch.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import shlex
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from clip.model import CLIP
from dassl.plain.devices import choose_device
from dassl.plain.writing import atomic_write

from ..scenes import Scene, chalk_scene, photo_of
from ..task import CLASSES
from .pictures import Corpus, draw_corpus, normalise, smaller

PROBE_IMAGES = 20  # per class, for the accuracies in the report
REPORTS = 20  # in the course of the training


class Course:
    """One training: a model and what it is asked of a batch of scenes.

    Parameters
    ----------
    options
        The flags of the program.
    corpus
        The scenes to learn from.

    Attributes
    ----------
    model
        The whole CLIP.
    learner
        The part of it that learns.
    device
        Where the model is; pictures are drawn, cut and restyled on the CPU, so that they are the same everywhere.
    """

    model: CLIP
    learner: torch.nn.Module
    device: torch.device

    def __init__(self, options: argparse.Namespace, corpus: Corpus) -> None:
        raise NotImplementedError

    def loss(self, step: int, chosen: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch.

        Parameters
        ----------
        step
            How many steps came before.
        chosen
            Numbers of the scenes of the batch (B,).
        rng
            Source of the choices of views and styles.

        Returns
        -------
        tuple
            The loss, a scalar to minimise, and what to report of it by name.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Do what is due after every optimiser step; by default nothing."""

    def encode(self, texts: list[str]) -> Tensor:
        """Return the token ids of texts as the model numbers them (B, L)."""
        raise NotImplementedError

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict to write, in half precision with the full vocabulary."""
        return {
            name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
            for name, tensor in self.model.state_dict().items()
        }


def run(kind: type[Course], options: argparse.Namespace, command: Sequence[str]) -> int:
    """Draw scenes, train on them, and write the weights.

    On a CPU the result depends on the flags and on the versions of the libraries only: torch's deterministic algorithms
    are asked for, in this process, from here on.  A GPU lacks some of them, which torch warns of.

    Parameters
    ----------
    kind
        The course.
    options
        The flags of the program.
    command
        The program's words, which the file keeps.

    Returns
    -------
    int
        The exit status.
    """
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    torch.manual_seed(options.seed)
    corpus = draw_corpus(options.scenes, options.threads)
    train(kind(options, corpus), len(corpus.scenes), options, command)
    print(f"Wrote {options.output} ({options.output.stat().st_size / 1e6:.1f} MB)")
    return 0


def train(course: Course, count: int, options: argparse.Namespace, command: Sequence[str]) -> None:
    """Train a course in place, with AdamW of which only matrices decay; reports and saves on the way.

    Parameters
    ----------
    course
        What is learned.
    count
        Number of scenes; each is seen once before any is seen again.
    options
        The flags of the program: steps, batch, rate, seed and output are read.
    command
        The program's words, for the file.
    """
    report = reporter(course, options, command)
    decaying, others = ([p for p in course.learner.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))
    rng = torch.Generator().manual_seed(options.seed)
    order = torch.empty(0, dtype=torch.long)
    bar = tqdm(range(options.steps), desc="Training", mininterval=5)
    for step in bar:
        if len(order) < options.batch:
            order = torch.cat([order, torch.randperm(count, generator=rng)])
        chosen, order = order[: options.batch], order[options.batch :]
        loss, numbers = course.loss(step, chosen, rng)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, options.rate, options.steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(course.learner.parameters(), 1.0)
        optimiser.step()
        course.after_step()
        bar.set_postfix({name: f"{number:.2f}" for name, number in numbers.items()}, refresh=False)
        if (step + 1) % max(1, options.steps // REPORTS) == 0 or step + 1 == options.steps:
            report(step + 1, ", ".join(f"{name} {number:.3f}" for name, number in numbers.items()))


def learning_rate(step: int, largest: float, steps: int) -> float:
    """Return the learning rate: a linear warm-up over 100 steps (or all, if fewer), under a cosine that ends at zero.

    At step t of T it is rate * min(1, (t + 1) / min(100, T)) * (1 + cos(pi t / T)) / 2.
    """
    warm_up = min(1.0, (step + 1) / min(100, steps))
    return largest * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))


# --- evaluation ------------------------------------------------------------------------------------------


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
    device = model.logit_scale.device
    prompts = [f"a photo of a {name}." for name in CLASSES]
    text = F.normalize(model.encode_text(encode(prompts).to(device)), dim=-1)  # (C, D)
    right = torch.zeros(2, device=device)
    for pixels, labels in zip(probe.pixels.split(128), probe.labels.split(128), strict=True):
        images = smaller(normalise(pixels), model.visual.input_resolution).to(device)
        image = model.encode_image_dense(images).normalized()  # pooled (B, D), local (B, M, D)
        for i, feature in enumerate((image.pooled, image.local.mean(dim=1))):
            right[i] += ((feature @ text.T).argmax(dim=1) == labels.to(device)).sum()
    model.train()
    pooled, local = (100 * right / len(probe.labels)).tolist()
    return round(pooled, 1), round(local, 1)


def reporter(course: Course, options: argparse.Namespace, command: Sequence[str]) -> Callable[[int, str], None]:
    """Return `report(steps done, numbers)`, which measures the model, writes its file, and prints a line.

    The clock starts now.
    """
    probes = {"photo": draw_probe(photo_of, PROBE_IMAGES), "chalk": draw_probe(chalk_scene, PROBE_IMAGES)}
    start = time.time()
    facts = {
        "activation": "quick_gelu",
        "command": shlex.join(command),
        "seed": str(options.seed),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        "date": datetime.date.today().isoformat(),
    }

    def report(step: int, numbers: str) -> None:
        minutes = (time.time() - start) / 60
        accuracy = {name: zero_shot(course.model, probe, course.encode) for name, probe in probes.items()}
        facts.update(steps=str(step), minutes=f"{minutes:.1f}", zero_shot_accuracy=json.dumps(accuracy))
        with atomic_write(options.output, "wb") as file:
            file.write(save(course.weights(), metadata=facts))
        tqdm.write(f"step {step}, {minutes:.1f} min: {numbers}, zero-shot by pooled and local {accuracy}")

    return report
