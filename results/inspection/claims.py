"""Which test images each prompt of a PLOT run claims most.

With its uniform marginals the transport gives every prompt the same mass of every image, so mass tells nothing.  What
differs is how similar the features are that a prompt receives.  Of an image and a class, with plan T and similarity S
(M, N), the claim of prompt n is

    N * sum_m T[m, n] S[m, n]  -  the mean of that over the N prompts

in units of cosine similarity: how much better prompt n fits what it receives than the other prompts fit what they
receive.  The claims on an image sum to 0.  Images are ranked within each prompt.

`claims.json`: {"run", "definition", "of" (true or predicted class), "classes" (names, empty for all), "images" (how
many were ranked), "prompts": [{"prompt" (from 1), "mean" (claim over all images), "foremost" (of how many images its
claim is the largest), "claimed": [{"path", "true", "predicted", "value", "left_out" (share of the image's mass, or
null)}, best first]}], "files"}.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runs.files import ResultsError, to_stdout, write_text
from runs.restore.images import image_reader, to_picture
from runs.restore.source import TRANSPORTS, RunFolder
from runs.restore.testset import labels_of, look_through_test

from ..figures.claims import draw_claims
from ..figures.style import drawing, save_figure
from .rebuilt import RunAtRest
from .transport import DPI, FOLDER

NAME = "claims"  # of the files
FORMATS = ("png", "svg", "json")  # of the files
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
    left_out: np.ndarray | None = None  # (M,) shares, see numbers.plans


@dataclass(frozen=True, eq=False)
class Claimed:
    """An image that a prompt claims, and its map."""

    value: float
    index: int
    predicted: int
    mass: np.ndarray  # (M,) in multiples of uniform
    left_out: np.ndarray | None = None  # (M,) whatever the prompt


def claims(plan: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Compute the claims (..., N), which sum to 0, of a plan and similarities (..., M, N)."""
    # a prompt's mass is 1/N under uniform marginals, so N * sum_m T S is the mean similarity of what it receives
    received = plan.shape[-1] * (plan * similarity).sum(axis=-2)
    return received - received.mean(axis=-1, keepdims=True)


# --- the best of a stream --------------------------------------------------------------------------------


class Ranking:
    """Keeps, of a stream of images, the `count` best of every prompt, and no other; among equals the earlier.

    A test of any length needs no more memory than what is shown.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.images = 0
        self.sums: np.ndarray | float = 0.0  # (N,)
        self.foremost: np.ndarray | float = 0.0  # (N,)
        self._best: list[list[Claimed]] = []  # by prompt, best first

    def add(self, seen: Seen) -> None:
        """Count an image, and keep it where it is among the best of a prompt."""
        prompts = len(seen.claims)
        self._best = self._best or [[] for _ in range(prompts)]
        self.images += 1
        self.sums = self.sums + seen.claims
        self.foremost = self.foremost + (np.arange(prompts) == seen.claims.argmax())
        for prompt, best in enumerate(self._best):
            value, mass = float(seen.claims[prompt]), seen.mass[:, prompt].copy()
            best.append(Claimed(value, seen.index, seen.predicted, mass, seen.left_out))
            best.sort(key=lambda claimed: (-claimed.value, claimed.index))
            del best[self.count :]

    def best(self) -> list[list[Claimed]]:
        """List the images that each prompt claims most, by prompt, best first."""
        return self._best


def rank(stream: Iterable[Seen], count: int) -> Ranking:
    """Rank a stream of images within each prompt."""
    ranking = Ranking(count)
    for seen in stream:
        ranking.add(seen)
    return ranking


def see_test(trainer: Any, of: str = "true", labels: Sequence[int] | None = None) -> Iterator[Seen]:
    """Yield every test image, matched as in the test; no more than a batch of the test is in memory.

    Parameters
    ----------
    trainer
        Of a run whose method matches.
    of
        "true" or "predicted": the class whose prompts are asked.
    labels
        Only images of which that class is one of these.
    """
    import torch

    items = trainer.dm.dataset.test
    for indices, (logits, match) in look_through_test(trainer, trainer.model.explain):
        predicted = logits.argmax(dim=1)
        truth = torch.tensor([items[index].label for index in indices], device=predicted.device)
        asked = truth if of == "true" else predicted
        rows = torch.arange(len(indices), device=predicted.device)
        # of each image the one class that is asked for: (B, C, M, N) -> (B, M, N)
        plan, similarity = (tensor[rows, asked].float().cpu().numpy() for tensor in (match.plan, match.similarity))
        values, mass = claims(plan, similarity), plan * plan[0].size
        by_place = match.left_out_by_place
        left_out = None if by_place is None else by_place[rows, asked].float().cpu().numpy()  # (B, M)
        for row, (index, label) in enumerate(zip(indices, asked.tolist(), strict=True)):
            if labels is None or label in labels:
                left = None if left_out is None else left_out[row].copy()
                yield Seen(index, int(predicted[row]), values[row], mass[row], left)


# --- the command -----------------------------------------------------------------------------------------


def show_claims(
    run: RunAtRest, classes: Sequence[str], of: str, count: int, out: Path | None, formats: Sequence[str]
) -> int:
    """Rank the test images, write the contact sheet and the list, and print the first of each prompt.

    Parameters
    ----------
    run
        Of a method with several prompts that matches.
    classes
        Names of the only classes that are looked at; none: all.
    of
        "true" or "predicted": the class whose prompts are asked.
    count
        How many images a prompt.
    out
        Folder of the files; default RUN/transport, where the report looks.
    formats
        Of FORMATS.

    Returns
    -------
    status
        The exit status.
    """
    if RunFolder.open(run.folder).require(*TRANSPORTS).option("N") == 1:
        raise ResultsError(f"{run.folder} has one prompt a class: there is no other to compare its claims with")
    if count < 1:
        raise ResultsError(f"--count must be at least 1, got {count}")
    trainer = run.rebuild()
    names = [str(name) for name in trainer.dm.dataset.classnames]
    labels = labels_of(classes, names) if classes else None
    with run.quiet():
        ranking = rank(see_test(trainer, of, labels), count)
    chosen = [] if labels is None else [names[label] for label in labels]
    if not ranking.images:
        raise ResultsError(f"no test image {'of' if of == 'true' else 'is taken for'} {', '.join(chosen)}")
    folder, name = out or run.folder / FOLDER, "-".join([NAME, *map(_plain, chosen)])[:80]
    record: dict[str, Any] = {
        "run": str(run.folder),
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
    for prompt in record["prompts"]:
        first = prompt["claimed"][0]
        to_stdout(
            f"prompt {prompt['prompt']}: largest claim on {prompt['foremost']} of {ranking.images} images; "
            f"most on {first['true']}, {first['path']} ({first['value']:+.4f})"
        )
    for file in record["files"].values():
        to_stdout(folder / file)
    return 0


def _prompts(ranking: Ranking, items: Sequence[Any], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the entries of `prompts` in claims.json."""
    means, foremost = np.asarray(ranking.sums) / ranking.images, np.asarray(ranking.foremost)
    for prompt, best in enumerate(ranking.best()):
        yield {
            "prompt": prompt + 1,
            "mean": float(means[prompt]),
            "foremost": int(foremost[prompt]),
            "claimed": [
                {
                    "path": str(items[claimed.index].impath),
                    "true": names[items[claimed.index].label],
                    "predicted": names[claimed.predicted],
                    "value": claimed.value,
                    "left_out": None if claimed.left_out is None else float(claimed.left_out.mean()),
                }
                for claimed in best
            ],
        }


def _draw(record: dict[str, Any], ranking: Ranking, trainer: Any, folder: Path, formats: Sequence[str]) -> None:
    """Draw the contact sheet.  Only now the claimed images are read: the test may have had their features alone."""
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
    left_out = [[claimed.left_out for claimed in row] for row in best]
    grid = trainer.evidence.grid(len(masses[0][0]), *trainer.cfg.INPUT.SIZE)
    pictures = [[picture(claimed.index) for claimed in row] for row in best]
    with drawing():
        figure = draw_claims(record, masses, grid, pictures, left_out)
        for suffix in formats:
            save_figure(figure, folder / record["files"][suffix], dpi=DPI)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
