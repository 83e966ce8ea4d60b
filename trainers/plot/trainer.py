"""The trainer PLOT: a prompt trainer with N prompts a class, the transport between them and the image, and evidence."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY

from ..clip_trainer import ClipTrainer
from ..parts.local_projection import LocalProjection, place_width
from ..parts.model import encode_images, require_places
from ..parts.prompts import PromptLearner, start_learner
from ..parts.starts import warn_of_places
from .evidence import TransportEvidence
from .model import PlotModel
from .options import PlacesOptions, PlotOptions
from .recipe import recipe


@TRAINER_REGISTRY.register()
class PLOT(ClipTrainer):
    """Prompt learning with optimal transport: N prompts a class, matched with the places of an image.

    Notes
    -----
    One step, from the trainer to the solver: `ClipTrainer.forward_backward`, `PlotModel.score` (model.py),
    `Transport.score` (transport.py), which calls the solver (sinkhorn.py).

    The context's state dict is `ctx` (N, n, E), or (C, N, n, E) for CSC, as in the authors' checkpoints.
    """

    options_type = PlotOptions
    options: PlotOptions
    recipe = staticmethod(recipe)
    learned_tensors = ("ctx",)
    transports = has_places = can_be_mapped = has_words = True

    def assemble(self, clip_model: CLIP) -> PlotModel:
        """Build a PlotModel of the options; its transport keeps evidence."""
        options, cfg = self.options, self.cfg
        model = build_plot(options, clip_model, self.dm.dataset.classnames, cfg.DATASET.NAME, cfg.SEED)
        self.evidence = TransportEvidence(model, has_places=True)
        return model

    def load_learned(self, path: Path) -> dict[str, Any]:
        """As every prompt trainer's; warns where the prompts were trained with the other kind of local feature."""
        checkpoint = super().load_learned(path)
        warn_of_places(path, self.options.dense, self.options.key("dense"), self.options.node)
        return checkpoint


def build_plot(
    options: PlotOptions, clip_model: CLIP, classnames: Sequence[str], dataset_name: str, seed: int
) -> PlotModel:
    """Build the model that PLOT trains, and that PLOT-Adapter takes trained; says in the log what it starts from.

    Parameters
    ----------
    options
        PLOT's, or those that contain them.
    clip_model
        The frozen CLIP.
    classnames
        C names; `_` is read as space.
    dataset_name
        Decides under FUSE_GLOBAL "auto" whether the logits of the pooled features are added.
    seed
        Of the random contexts; below 0 for the global generator.
    """
    transport = options.transport()
    if not transport.pooled:
        require_places(clip_model.visual, options.dense)
        if options.top_k:
            check_top_k(clip_model.visual, options)
    print(
        f"Number of prompts per class: {options.n_prompts}; matching: {options.matching}; "
        f"local features: {options.dense}"
    )
    layout = {key: getattr(options, key) for key in ("n_prompts", "class_specific", "position")}
    learner = start_learner(PromptLearner, options, classnames, clip_model, seed, **layout)
    if options.local_proj:
        precise = torch.promote_types(learner.ctx.dtype, torch.float32)
        learner.local_proj = LocalProjection(place_width(clip_model.visual)).to(precise)
    return PlotModel(learner, clip_model, transport, options.fuses_global(dataset_name), options.dense)


def check_top_k(tower: Any, options: PlacesOptions) -> int:
    """Refuse more places than a frozen image tower gives, before anything is encoded; return how many it gives.

    Raises
    ------
    ValueError
        Naming the key and the number of places.
    """
    side, parameter = tower.input_resolution, next(tower.parameters())
    grey = torch.zeros(1, 3, side, side, device=parameter.device)
    places = encode_images(tower, grey, options.dense).local.shape[1]
    if max(options.top_k, default=0) > places:
        raise ValueError(
            f"{options.key('top_k')} is {list(options.top_k)}, but this backbone sees {places} places in an image of "
            f"{side} x {side} pixels; give numbers from 1 to {places}, or [] for all"
        )
    return places
