"""The training engine: trainers and their registry.

    TRAINER_REGISTRY.register()      files a subclass of TrainerX under its name
    build_trainer(cfg).train()       runs the one that TRAINER.NAME asks for

Torch is loaded when the first trainer is defined, and not before.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from dassl.plain.lazy import lazy_imports

from .build import TRAINER_REGISTRY, build_trainer

if TYPE_CHECKING:
    from .trainer import SimpleNet, SimpleTrainer, TrainerBase, TrainerX, TrainerXU
else:
    __getattr__, __dir__ = lazy_imports(__name__, "trainer")

__all__ = [
    "TRAINER_REGISTRY", "SimpleNet", "SimpleTrainer", "TrainerBase", "TrainerX", "TrainerXU", "build_trainer",
]  # fmt: skip
