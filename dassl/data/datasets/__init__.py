"""What a data set is (`Datum`, `DatasetBase`) and how one is found by name (`DATASET_REGISTRY`).

Describing and registering a data set loads no torch.
"""

from .base_dataset import DatasetBase, Datum
from .build import DATASET_REGISTRY, build_dataset

__all__ = ["DATASET_REGISTRY", "DatasetBase", "Datum", "build_dataset"]
