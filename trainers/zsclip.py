"""CLIP without training: hand-written prompts, one a data set (ZeroshotCLIP) or an ensemble (ZeroshotCLIP2)."""
from __future__ import annotations

from typing import Any

from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .parts.dataset_facts import dataset_facts, template_of
from .parts.hand_written import ENSEMBLE, ZeroShotModel, class_features


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(ClipTrainer):
    """The data set's own template; nothing is learned or registered."""

    zero_shot = True
    config_family = "CoOp"

    def choose_templates(self) -> tuple[str, ...]:
        """Choose the sentences, with {} for the class name."""
        return (template_of(self.cfg.DATASET.NAME),)

    def announce(self, classnames: list[str]) -> None:
        """Say in the log what CLIP is asked."""
        print(f"Prompts: {[self.templates[0].format(name) for name in classnames]}")

    def build_model(self) -> None:
        """Load CLIP, and encode the classes.

        Half precision on CUDA, as the original; float32 elsewhere, see `effective_precision`.
        """
        clip_model = self.load_clip("fp16" if self.device.type == "cuda" else "fp32").to(self.device)
        self.templates, classnames = self.choose_templates(), self.dm.dataset.classnames
        self.announce([name.replace("_", " ") for name in classnames])
        self.model = ZeroShotModel(clip_model, class_features(clip_model, self.templates, classnames))

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Test, since there is nothing to train."""
        print(f"{type(self).__name__} has nothing to train; evaluating")
        self.test()

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Say that a directory is not read."""
        if directory:
            print(f"{type(self).__name__} learns nothing: {directory} is not read")


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """An ensemble of seven templates and, except on ImageNet itself, the data set's own."""

    def choose_templates(self) -> tuple[str, ...]:
        """Choose the ensemble's sentences, with {} for the class name."""
        own = () if dataset_facts(self.cfg.DATASET.NAME).is_imagenet_itself else super().choose_templates()
        return ENSEMBLE + own

    def announce(self, classnames: list[str]) -> None:
        """Say how many sentences there are."""
        print(f"Prompt ensembling (n={len(self.templates)})")
