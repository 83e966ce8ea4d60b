"""The registry of trainers. Importing this registers none: plugins bring trainers under names of their own choice."""
from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry, check_availability

__all__ = ["TRAINER_REGISTRY", "build_trainer"]

log = logging.getLogger(__name__)

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode, classnames: Sequence[str] | None = None) -> Any:
    """Build the trainer named TRAINER.NAME, with its data and model.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree.
    classnames : sequence of str, optional
        Class names by label: no data set is read then, the trainer is there to predict (see `without_data`).

    Raises
    ------
    ValueError
        With the nearest name, when none is registered under that name; and whatever the trainer raises.
    """
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names(), "trainer (TRAINER.NAME)")
    if cfg.VERBOSE:
        log.info(f"Loading trainer: {cfg.TRAINER.NAME}")
    kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if classnames is not None:
        from .inference import without_data

        kind = without_data(kind, classnames)
    return kind(cfg)
