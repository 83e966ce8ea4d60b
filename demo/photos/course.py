"""The distillation of names into the text tower, and the file of the whole model.

Every step teaches some names under one template, or behind random contexts: words must not move a name, and a random
context, in the dimensions of words, no more than they.  Two losses pull a text feature to the place of its name: the
cosine, and the Kullback-Leibler divergence from the softmax over the batch's places.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from clip.simple_tokenizer import default_tokenizer

from .names import Name
from .text import ROW_STD, STEERING, TextCourse

START, END = 49406, 49407  # start-of-text, end-of-text
TEMPLATES = (
    "a photo of a {}.", "{}.", "a photo of a {}", "{}", "a {}.", "a picture of a {}.", "an image of a {}.",
    "a photo of the {}.", "a photo of a {}, a type of food.", "a photo of {}.", "this is a {}.", "a view of a {}.",
)  # fmt: skip
FIRST_SHARE = 0.4  # of the steps: the first template, which the others are rarer than
RANDOM_SHARE = 0.3  # of the steps: random contexts of 4, 8 or 16 tokens in place of the template's words
FORGET = 0.02  # share of tokens that are replaced by the unknown one
SHARPNESS = 20.0  # factor of cosines before a softmax
WEIGHTS = {"clip": 1.0, "synonym": 0.7, "imagenet": 0.8, "words": 0.35}  # how often a name is taught


class Suffixes(NamedTuple):
    """The tokens behind a template's beginning, of every name: ids (K, T), padded, and lengths (K,)."""

    ids: Tensor
    lengths: Tensor


def vocabulary(names: list[Name]) -> list[int]:
    """List the tokens that occur, ascending."""
    encode = default_tokenizer().encode
    texts = [name.text for name in names] + [template.format("") for template in TEMPLATES]
    return sorted({START, END, *(token for text in texts for token in encode(text))})


def suffixes(names: list[str], tail: str) -> Suffixes:
    """Tokenize names, each with what follows in its template."""
    encode = default_tokenizer().encode
    rows = [[*encode(name + tail), END] for name in names]
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    return Suffixes(torch.tensor([row + [0] * (width - len(row)) for row in rows]), lengths)


def beginning(text: str) -> Tensor:
    """Tokenize what stands before the name (P,)."""
    return torch.tensor([START, *default_tokenizer().encode(text)])


@torch.no_grad()
def encode_names(course: TextCourse, names: list[str], template: str = TEMPLATES[0]) -> Tensor:
    """Features (K, D) of unit length."""
    head, tail = template.split("{}")
    rows, prefix = suffixes(names, tail), course.embed(beginning(head))
    parts = zip(rows.ids.split(512), rows.lengths.split(512), strict=True)
    return F.normalize(torch.cat([course(prefix, course.embed(ids), lengths) for ids, lengths in parts]), dim=1)


def teach(course: TextCourse, names: list[Name], taught: np.ndarray, options: argparse.Namespace) -> None:
    """Distil names into a text tower, in place.

    Parameters
    ----------
    course
        The tower, at its start.
    names
        All names.
    taught
        (K,) bool: which of them to teach; the others are watched.
    options
        steps, batch, rate and seed.
    """
    rng, texts = np.random.default_rng(options.seed), [name.text for name in names]
    torch.manual_seed(options.seed)
    places = torch.tensor(np.stack([name.target for name in names]), dtype=torch.float32)
    weights = torch.tensor([WEIGHTS[name.source] for name in names])
    mine = np.flatnonzero(taught)
    encode = default_tokenizer().encode
    course.start_from([torch.tensor(encode(texts[k])) for k in mine], places[mine], weights[mine])
    pairs = [tuple(template.split("{}")) for template in TEMPLATES]
    endings = {tail: suffixes(texts, tail) for _, tail in pairs}
    beginnings = {head: beginning(head) for head, _ in pairs}
    chance = (weights[mine] / weights[mine].sum()).double().numpy()
    chance /= chance.sum()

    apart = [course.rows, course.positions]
    others = [p for p in course.tower.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.02},
            {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
            {"params": apart, "weight_decay": 0.0, "lr": options.rate / 4},
        ],
        lr=options.rate, betas=(0.9, 0.98),
    )  # fmt: skip
    steps = options.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / 50) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
    )
    began = time.monotonic()
    for step in tqdm(range(steps), desc="Teaching names", mininterval=5):
        chosen = torch.from_numpy(rng.choice(mine, min(options.batch, len(mine)), p=chance, replace=False))
        head, tail = pairs[0 if rng.random() < FIRST_SHARE else rng.integers(len(pairs))]
        lengths = endings[tail].lengths[chosen]
        ids = endings[tail].ids[chosen, : int(lengths.max())]
        forget = (torch.rand(ids.shape) < FORGET) & (torch.arange(ids.shape[1]) < lengths[:, None] - 1)
        prefix = course.embed(beginnings[head])
        if rng.random() < RANDOM_SHARE:
            context = torch.randn(int(rng.choice([4, 8, 16])), course.words) * ROW_STD
            prefix = torch.cat([prefix[:1], F.pad(context, (0, STEERING))])
        feature = F.normalize(course(prefix, course.embed(ids.masked_fill(forget, 0)), lengths), dim=1)

        place = places[chosen]
        like = (SHARPNESS * place @ place.T).softmax(1)
        by_name = F.kl_div((SHARPNESS * feature @ place.T).log_softmax(1), like, reduction="batchmean")
        loss = 3 * (1 - (feature * place).sum(1)).mean() + by_name / 2
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(course.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        course.constrain()
        if (step + 1) % max(1, steps // 10) == 0 or step + 1 == steps:
            print(f"step {step + 1}, {time.monotonic() - began:.0f} s, loss {loss.item():.3f}: "
                  + watch(course, names, taught, places), flush=True)


def watch(course: TextCourse, names: list[Name], taught: np.ndarray, places: Tensor) -> str:
    """Say how near names come to their places: the cosine of those taught and of those held out, and these' rank."""
    certain = np.array([name.source == "clip" for name in names])
    parts = []
    for title, rows in (("taught", certain & taught), ("held out", certain & ~taught)):
        chosen = np.flatnonzero(rows)
        if not len(chosen):
            continue
        feature = encode_names(course, [names[k].text for k in chosen])
        own = (feature * places[chosen]).sum(1)
        rank = (feature @ places[certain].T > own[:, None]).sum(1) + 1
        parts.append(f"{title} cosine {own.mean():.3f}, median rank {int(rank.median())} of {int(certain.sum())}")
    return "; ".join(parts)
