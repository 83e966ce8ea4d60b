"""Data: sets of labelled images, how they are read, transformed, sampled and batched.

Loaders need torch and are imported when they are first used: `dassl.data.datasets` below, where data sets are
described, is read without it.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from dassl.plain.lazy import lazy_imports

if TYPE_CHECKING:
    from .data_manager import DataManager, DatasetWrapper
    from .integrity import check_images, fingerprint
else:
    __getattr__, __dir__ = lazy_imports(__name__, "integrity", "data_manager")

__all__ = ["DataManager", "DatasetWrapper", "check_images", "fingerprint"]
