"""The trainer PLOT: the common prompt trainer, with N prompts, the transport, and its evidence."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clip.features import ImageFeatures
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY

from ..base import PromptTrainer
from ..prompts import PromptLearner
from ..starts import warn_of_places
from .collapse import as_pairs, as_rows, prompt_cosines
from .model import PlotModel, PlotOutput
from .options import PlotOptions, TransportOptions


class Explanation(NamedTuple):
    """What the transport did with a batch of images, as float32 on the CPU."""

    logits: Tensor  # (B, C)
    plan: Tensor  # (B, C, M, N) columns sum to 1/N, rows to about 1/M
    similarity: Tensor  # (B, C, M, N)
    # (h, w) with h * w = M: local feature m lies at row m // w, column m % w; None where features are no places
    grid: tuple[int, int] | None


class TransportStatistics:
    """Running means over a test of how the transport behaved, kept on the device until asked for."""

    def __init__(self) -> None:
        self.problems = 0
        self.sums: dict[str, Tensor] = {}
        self.most: dict[str, Tensor] = {}

    def update(self, output: PlotOutput) -> None:
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


class TransportTrainer(PromptTrainer):
    """Keeps the evidence of the transport, for the run's record and for those who want to look at it."""

    options: TransportOptions  # type: ignore[assignment]
    statistics: TransportStatistics | None = None  # of the last test

    def test(self, split: str | None = None) -> float:
        self.statistics = TransportStatistics()
        return super().test(split)

    def model_inference(self, images: Tensor | ImageFeatures) -> Tensor:
        if self.statistics is None:  # nobody asked for the evidence
            return super().model_inference(images)
        with self.autocast():
            output = self.model.explain(images, keep_plan=False)
        self.statistics.update(output)
        return output.logits

    def prompt_cosines(self) -> Tensor | None:
        """(N, N), see collapse.py, of the prompts of the latest forward pass; None with one prompt."""
        text = self.model.latest_text
        return None if text is None or len(text) == 1 else prompt_cosines(text)

    def epoch_facts(self) -> dict[str, Any]:
        """The prompts that the epoch's last step was taken from, pair by pair; costs no encoding."""
        cosines = self.prompt_cosines()
        return {} if cosines is None else {"prompt_cosine": as_pairs(cosines)}

    def diagnostics(self) -> dict[str, Any] | None:
        """How the transport, and the prompts, behaved in the last test; for the run's record."""
        summary = self.statistics.summary() if self.statistics else None
        if summary is None:
            return None
        cosines = self.prompt_cosines()
        prompts = {} if cosines is None else {"prompt_cosine": as_rows(cosines)}
        return {"matching": self.options.matching, "epsilon": self.options.epsilon, **summary, **prompts}

    @torch.no_grad()
    def explain(self, images: Tensor) -> Explanation:
        """images (B, 3, H, W), transformed as for the test -> what the transport did."""
        self.set_model_mode("eval")
        output = self.model.explain(images.to(self.device))
        match = output.match
        grid = self.grid(match.plan.shape[2], (images.shape[2], images.shape[3]))
        logits, plan, similarity = (t.float().cpu() for t in (output.logits, match.plan, match.similarity))
        return Explanation(logits, plan, similarity, grid)

    def grid(self, n_local: int, size: tuple[int, int]) -> tuple[int, int] | None:
        """Rows and columns of the places that the features of an image of `size` (H, W) are of, if they are."""
        return None


@TRAINER_REGISTRY.register()
class PLOT(TransportTrainer):
    """Prompt learning with optimal transport."""

    options_type = PlotOptions
    transports = has_places = can_be_mapped = has_words = True
    options: PlotOptions

    def assemble(self, clip_model: CLIP) -> nn.Module:
        options = self.options
        print(
            f"Number of prompts per class: {options.n_prompts}; matching: {options.matching}; "
            f"local features: {options.dense}"
        )
        learner = self.build_learner(
            clip_model,
            PromptLearner,
            n_prompts=options.n_prompts,
            class_specific=options.class_specific,
            position=options.position,
        )
        fuses = options.fuses_global(self.cfg.DATASET.NAME)
        return PlotModel(learner, clip_model, options.transport(), fuses, options.dense)

    def load_learned(self, path: Path) -> dict[str, Any]:
        checkpoint = super().load_learned(path)
        warn_of_places(path, self.options.dense, f"TRAINER.{self.options.node}.DENSE")
        return checkpoint

    def grid(self, n_local: int, size: tuple[int, int]) -> tuple[int, int] | None:
        """The places are square: of all grids that hold them, the one that is most like the image."""
        if self.model.transport.pooled:
            return None
        grids = [(rows, n_local // rows) for rows in range(1, n_local + 1) if n_local % rows == 0]
        return min(grids, key=lambda grid: abs(math.log(grid[0] / grid[1] * size[1] / size[0])))
