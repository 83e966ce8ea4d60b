"""The registry of data sets. Importing this registers none: every plugin's `datasets` package does."""

from __future__ import annotations

import logging
from typing import Any

from dassl.utils import Registry, check_availability

log = logging.getLogger(__name__)

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: Any) -> Any:
    """Build the data set named `cfg.DATASET.NAME` from `cfg`.

    Raises
    ------
    ValueError
        When the name is not registered; it suggests the nearest and lists the known ones.
    """
    check_availability(cfg.DATASET.NAME, DATASET_REGISTRY.registered_names(), "data set (DATASET.NAME)")
    if cfg.VERBOSE:
        log.info(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
