"""Which test images each prompt of a PLOT run claims most.

With its uniform marginals the transport gives every prompt the same mass of every image, so mass tells nothing.  What
differs is how similar the features are that a prompt receives.  Of an image and a class, with plan T and similarity S
(M, N), the claim of prompt n is

    N * sum_m T[m, n] S[m, n]  -  the mean of that over the N prompts

in units of cosine similarity: how much better prompt n fits what it receives than the other prompts fit what they
receive.  The claims on an image sum to 0.  Images are ranked within each prompt.

`claims.json`: {"run", "definition", "of" (true or predicted class), "classes" (names, empty for all), "images" (how
many were ranked), "prompts": [{"prompt" (from 1), "mean" (claim over all images), "foremost" (of how many images its
claim is the largest), "claimed": [{"path", "true", "predicted", "value"}, best first]}], "files"}.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runs.files import ResultsError, say, write_text
from runs.trained_run import check_transport, labels_of, load, look_through_test, quiet

from ..figures.claims_figure import draw_claims
from ..figures.plotting import drawing, save_figure
from .choosing import CLAIMS_FORMATS, COUNT
from .transport import DPI, FOLDER, image_reader, to_picture

NAME = "claims"  # of the files
DEFINITION = (
    "Claim of prompt n on an image: N · Σ T[m,n] S[m,n] for the {of} class, minus the mean of that over the prompts: "
    "how much more similar what it receives is than what the others receive"
)


@dataclass(frozen=True, eq=False)
class Seen:
    """One test image, and how the prompts of one class met it."""

    index: int  # among the test images
    predicted: int
    claims: np.ndarray  # (N,)
    mass: np.ndarray  # (M, N) in multiples of uniform


@dataclass(frozen=True, eq=False)
class Claimed:
    """An image that a prompt claims, and its map."""

    value: float
    index: int
    predicted: int
    mass: np.ndarray  # (M,) in multiples of uniform


def claims(plan: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """(..., M, N) both -> (..., N), which sum to 0."""
    received = plan.shape[-1] * (plan * similarity).sum(axis=-2)
    return received - received.mean(axis=-1, keepdims=True)


# --- the best of a stream --------------------------------------------------------------------------------


class Ranking:
    """Of a stream of images the `count` best of every prompt, and no other; among equals the earlier."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.images = 0
        self.sums: np.ndarray | float = 0.0  # (N,)
        self.foremost: np.ndarray | float = 0.0  # (N,)
        self._best: list[list[tuple[float, int, Claimed]]] = []  # by prompt a heap, the worst first

    def add(self, seen: Seen) -> None:
        prompts = len(seen.claims)
        self._best = self._best or [[] for _ in range(prompts)]
        self.images += 1
        self.sums = self.sums + seen.claims
        self.foremost = self.foremost + (np.arange(prompts) == seen.claims.argmax())
        for prompt, best in enumerate(self._best):
            value = float(seen.claims[prompt])
            if len(best) < self.count or (value, -seen.index) > best[0][:2]:
                claimed = Claimed(value, seen.index, seen.predicted, seen.mass[:, prompt].copy())
                (heapq.heappush if len(best) < self.count else heapq.heapreplace)(best, (value, -seen.index, claimed))

    def best(self) -> list[list[Claimed]]:
        """By prompt, best first."""
        return [[claimed for _, _, claimed in sorted(best, reverse=True)] for best in self._best]


def rank(stream: Iterable[Seen], count: int) -> Ranking:
    ranking = Ranking(count)
    for seen in stream:
        ranking.add(seen)
    return ranking


def see_test(trainer: Any, of: str = "true", labels: Sequence[int] | None = None) -> Iterator[Seen]:
    """Every test image whose true (or predicted) class is one of `labels`, or any, matched with that class as in the
    test.  A batch of the test is held at a time.
    """
    import torch

    items = trainer.dm.dataset.test
    for indices, (logits, match) in look_through_test(trainer, trainer.model.explain):
        predicted = logits.argmax(dim=1)
        truth = torch.tensor([items[index].label for index in indices], device=predicted.device)
        asked = truth if of == "true" else predicted
        rows = torch.arange(len(indices), device=predicted.device)
        plan, similarity = (
            tensor[rows, asked].float().cpu().numpy() for tensor in (match.plan, match.similarity)
        )  # (B, M, N)
        values, mass = claims(plan, similarity), plan * plan[0].size
        for row, (index, label) in enumerate(zip(indices, asked.tolist(), strict=True)):
            if labels is None or label in labels:
                yield Seen(index, int(predicted[row]), values[row], mass[row])


# --- the command -----------------------------------------------------------------------------------------


def run_command(
    run: Path,
    classes: Sequence[str] = (),
    of: str = "true",
    count: int = COUNT,
    out: Path | None = None,
    formats: Sequence[str] = CLAIMS_FORMATS,
    backbone: str = "",
    root: str = "",
    verbose: bool = False,
) -> int:
    """Rank the test images and write the contact sheet to `out` (default RUN/transport); the exit status."""
    if check_transport(run).node.get("N") == 1:
        raise ResultsError(f"{run} has one prompt a class: there is no other to compare its claims with")
    if count < 1:
        raise ResultsError(f"--count must be at least 1, got {count}")
    trainer = load(run, backbone, root, verbose)
    names = [str(name) for name in trainer.dm.dataset.classnames]
    labels = labels_of(classes, names) if classes else None
    with quiet(verbose):
        ranking = rank(see_test(trainer, of, labels), count)
    chosen = [] if labels is None else [names[label] for label in labels]
    if not ranking.images:
        raise ResultsError(f"no test image {'of' if of == 'true' else 'is taken for'} {', '.join(chosen)}")
    folder, name = out or run / FOLDER, "-".join([NAME, *(_plain(one) for one in chosen)])[:80]
    record: dict[str, Any] = {
        "run": str(run),
        "definition": DEFINITION.format(of=of),
        "of": of,
        "classes": chosen,
        "images": ranking.images,
        "prompts": list(_prompts(ranking, trainer.dm.dataset.test, names)),
        "files": {suffix: f"{name}.{suffix}" for suffix in formats},
    }
    _draw(record, ranking, trainer, folder, [suffix for suffix in formats if suffix != "json"])
    if "json" in formats:
        write_text(folder / record["files"]["json"], json.dumps(record, indent=1) + "\n")
    for one in record["prompts"]:
        first = one["claimed"][0]
        say(
            f"prompt {one['prompt']}: largest claim on {one['foremost']} of {ranking.images} images; "
            f"most on {first['true']}, {first['path']} ({first['value']:+.4f})"
        )
    for file in record["files"].values():
        say(folder / file)
    return 0


def _prompts(ranking: Ranking, items: Sequence[Any], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    means, foremost = np.asarray(ranking.sums) / ranking.images, np.asarray(ranking.foremost)
    for prompt, best in enumerate(ranking.best()):
        yield {
            "prompt": prompt + 1,
            "mean": float(means[prompt]),
            "foremost": int(foremost[prompt]),
            "claimed": [
                {
                    "path": str(items[one.index].impath),
                    "true": names[items[one.index].label],
                    "predicted": names[one.predicted],
                    "value": one.value,
                }
                for one in best
            ],
        }


def _draw(record: dict[str, Any], ranking: Ranking, trainer: Any, folder: Path, formats: Sequence[str]) -> None:
    if not formats:
        return
    read, items = image_reader(trainer.cfg), trainer.dm.dataset.test

    def picture(index: int) -> np.ndarray:
        try:
            return to_picture(read(Path(items[index].impath)), trainer.cfg)
        except (OSError, ValueError) as error:
            raise ResultsError(f"cannot read {items[index].impath} as an image: {error}") from error

    best = ranking.best()
    masses = [[claimed.mass for claimed in row] for row in best]
    height, width = trainer.cfg.INPUT.SIZE
    grid = trainer.grid(len(masses[0][0]), (height, width))
    with drawing():
        figure = draw_claims(record, masses, grid, [[picture(claimed.index) for claimed in row] for row in best])
        for suffix in formats:
            save_figure(figure, folder / record["files"][suffix], dpi=DPI)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
