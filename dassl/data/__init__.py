"""Data: sets of labelled images, how they are read, transformed, sampled and batched."""

from .data_manager import DataManager, DatasetWrapper
from .integrity import check_images, fingerprint

__all__ = ["DataManager", "DatasetWrapper", "check_images", "fingerprint"]
