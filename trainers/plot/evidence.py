"""What PLOT and its relatives can show for their scores: how the transport, and the prompts, behaved.

`TransportEvidence` is the part that a trainer holds; the engine writes what it collects into the run's record, and
commands that look into a run ask it to explain images.

Two things are watched.  The plan: how far is it from the uniform one, where the transport does nothing?  And the
prompts: do the N prompts of a class still say N different things?  The training does not ask them to differ.  The
cosines between their text features tell: prompts with a cosine of 1 are one prompt, and a plan between image features
and equal prompts cannot do more than its uniform part.
"""
from __future__ import annotations

import math
from itertools import combinations
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.features import ImageFeatures

from .model import PlotOutput

DIGITS = 4  # of the cosines that are recorded


class Explanation(NamedTuple):
    """What the transport did with a batch of images, as float32 on the CPU.

    Attributes
    ----------
    logits
        (B, C)
    plan
        (B, C, M, N); the columns sum to 1/N, the rows to about 1/M.
    similarity
        (B, C, M, N)
    grid
        (h, w) with h * w = M: local feature m lies at row m // w, column m % w.  None where features are no places.
    """

    logits: Tensor
    plan: Tensor
    similarity: Tensor
    grid: tuple[int, int] | None


class TransportStatistics:
    """Running means over a test of how the transport behaved, kept on the device until asked for."""

    def __init__(self) -> None:
        self.problems = 0
        self.sums: dict[str, Tensor] = {}
        self.most: dict[str, Tensor] = {}

    def update(self, output: PlotOutput) -> None:
        """Add the B * C problems of a batch."""
        match = output.match
        predicted = output.logits.argmax(dim=1, keepdim=True)
        distance = match.distance_from_uniform
        of_predicted = distance.gather(1, predicted).mean() * distance.numel()  # weighted like the others
        sums = {
            "distance_from_uniform": distance.sum(),
            "distance_from_uniform_predicted": of_predicted,
            "iterations": match.iterations.sum(),
            "converged": match.converged.sum(),
        }
        most = {"iterations": match.iterations.max(), "marginal_error": match.marginal_error.max()}
        self.problems += distance.numel()
        self.sums = {key: value + self.sums.get(key, 0) for key, value in sums.items()}
        self.most = {key: torch.maximum(value, self.most.get(key, value)) for key, value in most.items()}

    def summary(self) -> dict[str, float] | None:
        """Work out means and maxima over all problems, as plain numbers; None where there was no problem."""
        if not self.problems:
            return None
        means = {key: value.item() / self.problems for key, value in self.sums.items()}
        return {
            "distance_from_uniform": means["distance_from_uniform"],
            "distance_from_uniform_predicted": means["distance_from_uniform_predicted"],
            "iterations_mean": means["iterations"],
            "iterations_max": int(self.most["iterations"]),
            "marginal_error_max": self.most["marginal_error"].item(),
            "converged_share": means["converged"],
        }


class TransportEvidence:
    """Collects what a model shows of its transport besides the scores.

    Parameters
    ----------
    model
        What is asked: `explain(images, keep_plan)` -> PlotOutput, `latest_text`, and `transport.pooled`.
    matching, epsilon
        The settings that the transport was trained and tested with, for the record.
    has_places
        Whether the rows of the plan are places of the image.
    prompts_learn
        Whether the prompts change from epoch to epoch.
    """

    def __init__(
        self, model: Any, matching: str, epsilon: float, has_places: bool = False, prompts_learn: bool = True
    ) -> None:
        self.model = model
        self.settings = {"matching": matching, "epsilon": epsilon}
        self.has_places = has_places
        self.prompts_learn = prompts_learn
        self.statistics: TransportStatistics | None = None  # of the last test

    def begin_test(self) -> None:
        """Forget the last test."""
        self.statistics = TransportStatistics()

    def score(self, images: Tensor | ImageFeatures) -> Tensor:
        """Compute logits (B, C), as the model's own; within a test they are looked at."""
        if self.statistics is None:
            return self.model(images)
        output = self.model.explain(images, keep_plan=False)
        self.statistics.update(output)
        return output.logits

    def prompt_cosines(self) -> Tensor | None:
        """`prompt_cosines` (N, N) of the latest forward pass; None with one prompt, or before any pass."""
        text = self.model.latest_text
        return None if text is None or len(text) == 1 else prompt_cosines(text)

    def epoch_facts(self) -> dict[str, Any]:
        """Compare the prompts that the epoch's last step was taken from, pair by pair; costs no encoding."""
        cosines = self.prompt_cosines() if self.prompts_learn else None
        return {} if cosines is None else {"prompt_cosine": as_pairs(cosines)}

    def diagnostics(self) -> dict[str, Any] | None:
        """Say how the transport, and the prompts, behaved in the last test; for the run's record."""
        summary = self.statistics.summary() if self.statistics else None
        if summary is None:
            return None
        cosines = self.prompt_cosines()
        prompts = {} if cosines is None else {"prompt_cosine": as_rows(cosines)}
        return self.settings | summary | prompts

    @torch.no_grad()
    def explain(self, images: Tensor) -> Explanation:
        """Show what the transport did with images (B, 3, H, W) on the device, transformed as for the test."""
        output = self.model.explain(images)
        match = output.match
        logits, plan, similarity = (t.float().cpu() for t in (output.logits, match.plan, match.similarity))
        return Explanation(logits, plan, similarity, self.grid(plan.shape[2], *images.shape[2:]))

    def grid(self, places: int, height: int, width: int) -> tuple[int, int] | None:
        """Find the rows and columns of square places, where features are of places.

        Parameters
        ----------
        places
            Their number.
        height, width
            Of the image, in pixels.

        Returns
        -------
        tuple of int, or None
            Of all grids of so many places, the one that is most like the image.
        """
        if not self.has_places or self.model.transport.pooled:
            return None
        grids = [(rows, places // rows) for rows in range(1, places + 1) if places % rows == 0]
        return min(grids, key=lambda grid: abs(math.log(grid[0] / grid[1] * width / height)))


# --- prompts that have become alike ----------------------------------------------------------------------


def prompt_cosines(text: Tensor) -> Tensor:
    """Average the cosine of prompts n and m of a class over classes: text (N, C, D) -> (N, N), symmetric."""
    unit = F.normalize(text, dim=-1)
    return torch.einsum("ncd,mcd->nm", unit, unit) / text.shape[1]


def as_rows(cosines: Tensor) -> list[list[float]]:
    """Round (N, N), as plain data."""
    return [[round(value, DIGITS) for value in row] for row in cosines.tolist()]


def as_pairs(cosines: Tensor) -> list[float]:
    """List the pairs (1, 2), (1, 3), ..., (N - 1, N) of (N, N), rounded; none where N = 1."""
    rows = as_rows(cosines)
    return [rows[n][m] for n, m in combinations(range(len(rows)), 2)]
