"""The registry of data sets. Importing this registers none: every plugin's `datasets` package does."""

from __future__ import annotations

import logging
from typing import Any

from dassl.utils import Registry, check_availability

log = logging.getLogger(__name__)

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: Any) -> Any:
    """The data set named `cfg.DATASET.NAME`, built from `cfg`.

    Raises ValueError listing the known names, with the nearest one, when the name is not registered.
    """
    check_availability(cfg.DATASET.NAME, DATASET_REGISTRY.registered_names(), "data set (DATASET.NAME)")
    if cfg.VERBOSE:
        log.info(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
