"""The trainers GalLoP and SOTGLP: two sets of defaults for one model."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clip import ranks
from clip.features import ImageFeatures
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY

from ..clip_trainer import ClipTrainer
from ..parts.local_projection import place_width
from ..parts.model import require_places
from ..parts.prompts import context_settings
from ..parts.starts import warn_of_places
from ..plot.evidence import TransportEvidence
from ..plot.trainer import check_top_k
from .model import Branches, GlobalLocalModel
from .options import GalLoPOptions, SotGlpOptions
from .prompts import GlobalLocalLearner
from .recipe import recipe


@TRAINER_REGISTRY.register()
class GalLoP(ClipTrainer):
    """Global prompts with dropout, and local prompts that each look at their own best places.

    Notes
    -----
    Saved are `global_prompt`, `local_prompts` and `local_proj.linear.weight`, as in the authors' checkpoints.

    References
    ----------
    M. Lafon, E. Ramzi, C. Rambour, N. Audebert, N. Thome, GalLoP: Learning Global and Local Prompts for Vision-Language
    Models, ECCV 2024.
    """

    options_type = GalLoPOptions
    options: GalLoPOptions
    learned_tensors = ("global_prompt", "local_prompts", "local_proj.linear.weight")
    transports = has_places = can_be_mapped = has_words = True

    @staticmethod
    def recipe(dataset_name: str, num_shots: int) -> dict[str, Any]:
        """Look up the published settings of a data set; they do not depend on the shots."""
        return recipe("gallop", dataset_name)

    def assemble(self, clip_model: CLIP) -> GlobalLocalModel:
        """Build a GlobalLocalModel of the options; the transport of its local branch keeps evidence."""
        options = self.options
        transport, places = options.transport(), 0
        if not transport.pooled:
            require_places(clip_model.visual, options.dense)
            places = check_top_k(clip_model.visual, options)
        learner = GlobalLocalLearner(
            self.dm.dataset.classnames,
            clip_model,
            options.n_global,
            options.n_local,
            options.class_specific,
            options.init,
            options.n_context,
            options.local_start,
            place_width(clip_model.visual) if options.local_proj else 0,
            not options.raw_names,
            places,
            **context_settings(options.context_precision, clip_model, self.cfg.SEED),
        )
        chosen = f"the best {', '.join(map(str, options.top_k))} by {options.select}" if options.top_k else "all"
        print(
            f"Global prompts: {options.n_global}; local prompts: {options.n_local}"
            f"{' for every class' if options.class_specific else ''}; matching: {options.matching}; local features: "
            f"{options.dense}{', mapped' if options.local_proj else ''}; places: {chosen} "
            f"of {places}"
        )
        print(f'Initial context: "{learner.initial_words}"')
        print(f"Number of context words (tokens): {learner.n_context}")
        model = GlobalLocalModel(
            learner,
            clip_model,
            transport,
            options.dense,
            options.dropout,
            options.replace,
            every_prompt=options.local_loss == "each",
            divided=options.local_scale == "divided",
            fusion=options.fuse,
        )
        self.evidence = TransportEvidence(model, has_places=True)
        return model

    def training_loss(self, images: Tensor | ImageFeatures, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the losses of both branches; the accuracy is that of the fused prediction, without dropout."""
        model = self.model
        own = model.branches(ranks.encode(model.encode, images))
        branches = Branches(*map(model.of_all_classes, own))
        whole, local = model.losses(branches, labels)
        with torch.no_grad():
            logits = model.logits(branches.whole.mean(dim=2), branches.local.mean(dim=2))
        return whole + local, logits

    def load_learned(self, path: Path) -> dict[str, Any]:
        """As every prompt trainer's; warns where the prompts were trained with another kind of local feature."""
        checkpoint = super().load_learned(path)
        warn_of_places(path, self.options.dense, self.options.key("dense"), self.options.node)
        return checkpoint


@TRAINER_REGISTRY.register()
class SOTGLP(GalLoP):
    """Global prompts, and local prompts of every class, matched by transport with the places that fit it best.

    References
    ----------
    SOT-GLP, arXiv 2603.08347, 2026.
    """

    options_type = SotGlpOptions
    options: SotGlpOptions

    @staticmethod
    def recipe(dataset_name: str, num_shots: int) -> dict[str, Any]:
        """Look up the published settings of a data set; they do not depend on the shots."""
        return recipe("sotglp", dataset_name)
