"""The registry of evaluators: what reports the results of a test, by the name in TEST.EVALUATOR."""
from __future__ import annotations

import logging
from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry, check_availability

__all__ = ["EVALUATOR_REGISTRY", "build_evaluator"]

log = logging.getLogger(__name__)

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """Build the evaluator named TEST.EVALUATOR.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree.
    **kwargs
        For the evaluator; trainers give `lab2cname`, label -> class name.

    Raises
    ------
    ValueError
        With the nearest name, when none is registered under that name.
    """
    check_availability(cfg.TEST.EVALUATOR, EVALUATOR_REGISTRY.registered_names(), "evaluator (TEST.EVALUATOR)")
    if cfg.VERBOSE:
        log.info(f"Loading evaluator: {cfg.TEST.EVALUATOR}")
    return EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)(cfg, **kwargs)
