"""KgCoOp: CoOp whose text features are held near those of a hand-written prompt, so that new classes are not forgotten.

H. Yao, R. Zhang, C. Xu, Visual-Language Prompt Tuning with Knowledge-guided Context Optimization, CVPR 2023.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from clip.features import ImageFeatures, at_least_float32
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY

from .coop import CoOp, CoOpModel, CoOpOptions
from .parts.dataset_facts import template_of
from .parts.hand_written import class_features
from .parts.options import INIT, option
from .parts.prompts import PromptLearner
from .parts.rules import at_least


@dataclass(frozen=True)
class KgCoOpOptions(CoOpOptions):
    """The keys TRAINER.KGCOOP.*."""

    node: ClassVar[str] = "KGCOOP"

    init: str = option(INIT[0], "a photo of a", INIT[2])
    weight: float = option(
        "W", 8.0, "weight of the distance to the hand-written prompt, in the loss; 0: CoOp", at_least(0)
    )


class KgCoOpModel(CoOpModel):
    """CoOp's model, which also knows how far its classes are from the hand-written ones.

    Parameters
    ----------
    prompt_learner, clip_model
        As of PromptModel.
    hand_written
        Text features (C, D) of unit length, fixed.
    """

    hand_written: Tensor

    def __init__(self, prompt_learner: PromptLearner, clip_model: CLIP, hand_written: Tensor) -> None:
        super().__init__(prompt_learner, clip_model)
        self.register_buffer("hand_written", hand_written, persistent=False)

    def distance(self) -> Tensor:
        """Compute 1 - cosine of a class's learned and hand-written text feature, mean over the classes.

        Between features of unit length it is half the squared Euclidean distance, which the paper writes.
        """
        text = F.normalize(at_least_float32(self.text_features()[0]), dim=-1)  # (C, D)
        classes = self.own_classes()
        hand_written = self.hand_written if classes is None else self.hand_written[classes.to(text.device)]
        return 1 - self.mean_over_classes(self.of_all_classes((text * hand_written).sum(dim=-1), dim=0))


@TRAINER_REGISTRY.register()
class KgCoOp(CoOp):
    """Knowledge-guided context optimisation: cross-entropy + W * distance to the data set's hand-written prompt.

    Notes
    -----
    A test is CoOp's, and so is the checkpoint: the hand-written features are made anew from the class names.
    """

    options_type = KgCoOpOptions
    options: KgCoOpOptions

    def assemble(self, clip_model: CLIP) -> KgCoOpModel:
        """Build a KgCoOpModel of the options, and encode the hand-written prompts on the run's device."""
        learner, self.templates = self.start_context(clip_model), (template_of(self.cfg.DATASET.NAME),)
        print(f'Hand-written prompt: "{self.templates[0]}"')
        hand_written = class_features(clip_model.to(self.device), self.templates, self.dm.dataset.classnames)
        return KgCoOpModel(learner, clip_model, hand_written)

    def training_loss(self, images: Tensor | ImageFeatures, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the cross-entropy and the weighted distance; the text is encoded once, for both."""
        with self.model.fixed_prompts():
            loss, logits = super().training_loss(images, labels)
            return loss + self.options.weight * self.model.distance(), logits
