"""The registry of trainers. Importing this registers none."""
from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry, check_availability

__all__ = ["TRAINER_REGISTRY", "build_trainer"]

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> Any:
    """The trainer named TRAINER.NAME, with its data and model; ValueError with the nearest name otherwise."""
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names(), "trainer (TRAINER.NAME)")
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
