"""What PLOT and its relatives can show for their scores: how the transport, and the prompts, behaved.

`TransportEvidence` is the part that a trainer holds; the engine writes what it collects into the run's record, and
commands that look into a run ask it to explain images.

Two things are watched.  The plan: how far is it from the uniform one, where the transport does nothing, and what does
it leave out?  And the prompts: do the N prompts of a class still say N different things?  The training does not ask
them to differ.  The cosines between their text features tell: prompts with a cosine of 1 are one prompt, and a plan
between image features and equal prompts cannot do more than its uniform part.
"""
from __future__ import annotations

import math
from itertools import combinations
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clip import ranks
from clip.features import ImageFeatures

from .model import PlotOutput

DIGITS = 4  # of the cosines, and of the shares by place, that are recorded


class Explanation(NamedTuple):
    """What the transport did with a batch of images, as float32 on the CPU.

    Attributes
    ----------
    logits
        (B, C)
    plan
        (B, C, M, N), total 1; where nothing is left out the columns sum to 1/N, the rows to about 1/M.
    similarity
        (B, C, M, N)
    grid
        (h, w) with h * w = M: local feature m lies at row m // w, column m % w.  None where features are no places.
    left_out
        (B, C, M) share of each local feature's mass that is not in the plan; None where nothing can be left out.
    """

    logits: Tensor
    plan: Tensor
    similarity: Tensor
    grid: tuple[int, int] | None
    left_out: Tensor | None = None


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
        sums = {
            "distance_from_uniform": distance.sum(),
            "distance_from_uniform_predicted": _of(distance, predicted),
            "iterations": match.iterations.sum(),
            "converged": match.converged.sum(),
        }
        if match.mass is not None and match.left_out is not None and match.left_out_by_place is not None:
            sums |= {
                "mass_moved": match.mass.sum(),
                "left_out": match.left_out.sum(),
                "left_out_predicted": _of(match.left_out, predicted),
                "left_out_by_place": _of(match.left_out_by_place, predicted[..., None]),
            }
        most = {"iterations": match.iterations.max(), "marginal_error": match.marginal_error.max()}
        self.problems += distance.numel()
        self.sums = {key: value + self.sums.get(key, 0) for key, value in sums.items()}
        self.most = {key: torch.maximum(value, self.most.get(key, value)) for key, value in most.items()}

    def merge(self) -> None:
        """Add what the other processes that made this test have seen, each in its own batches; all must call it."""
        mine = tuple({key: x.cpu() for key, x in part.items()} for part in (self.sums, self.most))
        self.problems = sum(ranks.gather_objects(self.problems))
        seen = [(sums, most) for sums, most in ranks.gather_objects(mine) if sums]  # by who had a batch at all
        if seen:
            self.sums = {key: torch.stack([sums[key] for sums, _ in seen]).sum(dim=0) for key in seen[0][0]}
            self.most = {key: torch.stack([most[key] for _, most in seen]).amax(dim=0) for key in seen[0][1]}

    def summary(self) -> dict[str, Any] | None:
        """Work out means and maxima over all problems, as plain numbers; None where there was no problem.

        What was left out is there where the matching leaves mass behind; `left_out_by_place`, of the predicted class,
        says for every place which share of its mass was, in the mean over the images.
        """
        if not self.problems:
            return None
        means = {key: (value / self.problems).tolist() for key, value in self.sums.items()}
        left = {key: value for key, value in means.items() if key == "mass_moved" or key.startswith("left_out")}
        if left:
            left["left_out_by_place"] = [round(share, DIGITS) for share in left["left_out_by_place"]]
        return {
            "distance_from_uniform": means["distance_from_uniform"],
            "distance_from_uniform_predicted": means["distance_from_uniform_predicted"],
            "iterations_mean": means["iterations"],
            "iterations_max": int(self.most["iterations"]),
            "marginal_error_max": self.most["marginal_error"].item(),
            "converged_share": means["converged"],
            **left,
        }


class TransportEvidence:
    """Collects what a model shows of its transport besides the scores.

    Parameters
    ----------
    model
        What is asked: `explain(images, keep_plan)` -> PlotOutput, `latest_text`, and `transport.pooled`.
    has_places
        Whether the rows of the plan are places of the image.
    prompts_learn
        Whether the prompts change from epoch to epoch.
    """

    def __init__(self, model: Any, has_places: bool = False, prompts_learn: bool = True) -> None:
        self.model = model
        transport = model.transport  # as it was trained; a command may put others in its place
        self.settings = {"matching": transport.matching, "epsilon": transport.epsilon, **transport.strengths}
        self.has_places = has_places
        self.prompts_learn = prompts_learn
        self.statistics: TransportStatistics | None = None  # of the last test

    def begin_test(self) -> None:
        """Forget the last test."""
        self.statistics = TransportStatistics()

    def end_test(self) -> None:
        """Bring together what several processes have seen in a test; all must call it."""
        if ranks.size() > 1 and self.statistics is not None:
            self.statistics.merge()

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
        if cosines is not None:
            with ranks.sharing():  # every process has seen its own classes
                cosines = ranks.mean(cosines, self.model.latest_text.shape[1])
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
        left_out = None if match.left_out_by_place is None else match.left_out_by_place.float().cpu()
        return Explanation(logits, plan, similarity, self.grid(plan.shape[2], *images.shape[2:]), left_out)

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


def _of(values: Tensor, predicted: Tensor) -> Tensor:
    """Sum values (B, C, ...) of the predicted classes (B, 1, ...) over images, weighted as if they were all classes."""
    picked = values.gather(1, predicted.expand(-1, -1, *values.shape[2:]))
    return picked.mean(dim=(0, 1)) * (values.shape[0] * values.shape[1])


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
