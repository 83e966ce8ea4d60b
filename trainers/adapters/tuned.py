"""The original programs' values of every data set, and the grids that alpha and beta are searched on.

Upstream chose epoch, alpha and beta by test accuracy and then wrote what came out into its config files.  So these
values know the test images: they are here to repeat published runs (UPSTREAM_TUNED), and nothing uses them by itself,
except that the numbers of epochs are the published schedule.
"""
from __future__ import annotations

from typing import NamedTuple

Pair = tuple[float, float]  # for beta, and for alpha
OTHER_EPOCHS = 20  # of data sets that are not listed


class Tuned(NamedTuple):
    """What upstream's config file of a data set says."""

    scale: Pair  # upper ends of the grids
    steps: tuple[int, int]
    beta: float  # during training
    alpha: float
    epochs: int


TIP_ADAPTER = {
    "Caltech101": Tuned((12, 5), (200, 20), 1, 3, 20),
    "DescribableTextures": Tuned((13, 13), (200, 20), 1, 2, 20),
    "EuroSAT": Tuned((12, 10), (200, 20), 1, 2, 100),
    "FGVCAircraft": Tuned((30, 30), (200, 20), 1, 5, 20),
    "Food101": Tuned((10, 10), (200, 20), 1, 1.17, 20),
    "ImageNet": Tuned((7, 3), (200, 20), 1, 1.17, 20),
    "OxfordFlowers": Tuned((50, 50), (200, 20), 1, 10, 20),
    "OxfordPets": Tuned((7, 3), (200, 20), 1, 1.17, 20),
    "StanfordCars": Tuned((20, 10), (200, 20), 1, 3, 20),
    "SUN397": Tuned((12, 10), (200, 20), 1, 1.17, 20),
    "UCF101": Tuned((7, 3), (200, 20), 1, 3, 20),
}
PLOT_ADAPTER = {
    "Caltech101": Tuned((12, 10), (20, 200), 0.16, 1.82, 20),
    "DescribableTextures": Tuned((13, 13), (200, 20), 0.1, 7.2, 20),
    "EuroSAT": Tuned((12, 10), (200, 20), 3.67, 0.1, 100),
    "FGVCAircraft": Tuned((7, 10), (20, 200), 1.4, 1.4, 20),
    "Food101": Tuned((10, 10), (20, 20), 0.1, 4.06, 5),
    "ImageNet": Tuned((3, 7), (20, 200), 1.0, 2.17, 20),
    "OxfordFlowers": Tuned((3, 20), (20, 200), 2.32, 0.2, 80),
    "OxfordPets": Tuned((7, 7), (20, 200), 0.1, 1.0, 20),
    "StanfordCars": Tuned((20, 10), (200, 20), 0.1, 8, 20),
    "SUN397": Tuned((12, 10), (20, 20), 6.8, 0.1, 20),
    "UCF101": Tuned((7, 3), (200, 20), 5.59, 0.1, 20),
}


def grid(scale: float, steps: int) -> list[float]:
    """`steps` values from 0.1 upwards, ending one step below `scale`."""
    return [i * (scale - 0.1) / steps + 0.1 for i in range(steps)]


def tuned_for(table: dict[str, Tuned], dataset_name: str, key: str) -> Tuned:
    """Raises ValueError, naming the config key that asked, for a data set that upstream had none for."""
    if dataset_name not in table:
        raise ValueError(f"{key} is True, but upstream has no values for {dataset_name}; it has {', '.join(table)}")
    return table[dataset_name]


def epochs_for(table: dict[str, Tuned], dataset_name: str) -> int:
    return table[dataset_name].epochs if dataset_name in table else OTHER_EPOCHS
