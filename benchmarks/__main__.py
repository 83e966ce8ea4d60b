"""Command line of the benchmarks.

Every subject is computed by the original algorithm (benchmarks/original.py) and by ours, in turns, on the same input.
What counts is the ratio of the medians and the largest difference of results and gradients; absolute times are those of
this machine at this moment.
"""
from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from clip.model import CLIP
from clip.prompt_text import TextEncoder
from dassl.utils.tools import atomic_write
from trainers.plot.transport import Transport
from trainers.prompts import PromptLearner

from . import original

EXAMPLES = """examples:
  python -m benchmarks
  python -m benchmarks --classes 10 47 --repeats 5 --json bench.json
"""
WIDTH = 1024  # of RN50's features
WORDS = "red small old wild great golden river mountain house cat falcon engine lily pepper bridge sailing".split()


class Row(NamedTuple):
    subject: str
    old: float  # seconds, median
    new: float
    difference: float  # largest, relative to the largest entry, of results and gradients

    @property
    def ratio(self) -> float:
        return self.old / self.new


Step = Callable[[], tuple[Tensor, Tensor]]  # -> result, gradient


def measure(subject: str, old: Step, new: Step, repeats: int) -> Row:
    """Both once to warm up and compare, then in turns."""
    difference = max(_difference(a, b) for a, b in zip(old(), new(), strict=True))
    times: dict[str, list[float]] = {"old": [], "new": []}
    for _ in range(repeats):
        for name, step in (("old", old), ("new", new)):
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return Row(subject, statistics.median(times["old"]), statistics.median(times["new"]), difference)


def _difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / a.abs().max()).item()


def class_names(count: int) -> list[str]:
    """Distinct made-up names, of one, two and three words in turns (two, once the single words are used up)."""
    by_length = [itertools.permutations(WORDS, k) for k in (1, 2, 3)]
    names = (next(by_length[c % 3], ()) or next(by_length[1]) for c in range(count))
    return [" ".join(words) for words in names]


def text_subject(classes: int, n_prompts: int, n_context: int) -> tuple[Step, Step]:
    """Forward and backward of the text tower for all prompts, to the gradient of the context."""
    torch.manual_seed(0)
    model = CLIP(  # RN50's text tower, and the smallest of image towers
        embed_dim=WIDTH, image_resolution=32, vision_layers=1, vision_width=64, vision_patch_size=32,
        context_length=77, vocab_size=49408, transformer_width=512, transformer_heads=8, transformer_layers=12,
    ).requires_grad_(False)
    learner = PromptLearner(class_names(classes), model, n_context=n_context, n_prompts=n_prompts)
    text = TextEncoder(model)
    weights = torch.randn(n_prompts, classes, WIDTH)

    def step(encode: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        features = encode()
        (gradient,) = torch.autograd.grad((features * weights).sum(), learner.ctx)
        return features.detach(), gradient

    return (lambda: step(lambda: original.text_features(text, learner))), (lambda: step(lambda: text(learner())))


def transport_subject(classes: int, n_prompts: int, images: int, places: int = 49) -> tuple[Step, Step]:
    """Forward and backward of the transported similarity, on similarities like CLIP's."""
    torch.manual_seed(0)
    common = torch.randn(WIDTH)
    local = F.normalize(torch.randn(images, places, WIDTH) + 0.5 * common, dim=-1)
    text = F.normalize(torch.randn(n_prompts, classes, WIDTH) + 0.5 * common, dim=-1).requires_grad_()

    def step(score: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        result = score(local, text)
        (gradient,) = torch.autograd.grad(F.cross_entropy(100 * result, torch.arange(images) % classes), text)
        return result.detach(), gradient

    transport = Transport()
    return (lambda: step(original.scores)), (lambda: step(lambda a, b: transport.score(a, b)))


def run(args: argparse.Namespace) -> Iterator[Row]:
    text, transport = "text tower, forward + backward", "transport, forward + backward"
    subjects: list[tuple[str, Callable[..., tuple[Step, Step]], tuple[int, ...]]] = []
    for classes in args.classes:
        subjects.append((f"{text}, C = {classes}", text_subject, (classes, args.prompts, args.context)))
        subjects.append((f"{transport}, C = {classes}", transport_subject, (classes, args.prompts, args.batch)))
    for name, make, arguments in tqdm(subjects, disable=None):
        yield measure(name, *make(*arguments), args.repeats)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Old against new, in turns, in one run.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 47], metavar="C")
    parser.add_argument("--prompts", type=int, default=4, metavar="N")
    parser.add_argument("--context", type=int, default=16, metavar="TOKENS")
    parser.add_argument("--batch", type=int, default=32, metavar="B")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="also write the rows to FILE")
    args = parser.parse_args(argv)
    rows = list(run(args))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; text tower and feature width of RN50, random "
          f"weights, N = {args.prompts}, {args.context} context tokens, batch {args.batch}, 49 places, float32")
    table = [[r.subject, f"{r.old:.4f}", f"{r.new:.4f}", f"{r.ratio:.1f} x", f"{r.difference:.1e}"] for r in rows]
    print(tabulate(table, headers=["subject", "old s", "new s", "ratio", "largest difference"], disable_numparse=True))
    if args.json:
        with atomic_write(args.json) as file:
            file.write(json.dumps([r._asdict() | {"ratio": r.ratio} for r in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
