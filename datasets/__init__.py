"""The data sets. Importing this package registers each under its class name, for `DATASET.NAME`.

    base.py         what every data set declares and how it is built
    loaders/        the data sets
    published.py    the words in which a loader describes the published copy
    splits.py, fewshot.py, layout.py, files.py, annotations.py, legacy.py      what loaders share
    checking/       is a copy on disk complete, and the published one?
    fetching/       getting what is missing

`python -m datasets` is the command line of the last two.
"""

import sys
from importlib import import_module
from pkgutil import iter_modules

import dassl  # noqa: F401  (before torch: how its threads wait)
from dassl.data.datasets import DATASET_REGISTRY

from . import loaders
from .base import SplitDataset

__all__ = ["declared"]

for _module in iter_modules(loaders.__path__):
    import_module(f"{loaders.__name__}.{_module.name}")


def declared() -> list[type[SplitDataset]]:
    """Every registered data set that declares itself, plugins' included, in the order of tables.

    Needs no torch. Data sets of plain `DatasetBase`, as other repositories write them, are not among them.
    """
    kinds = map(DATASET_REGISTRY.get, DATASET_REGISTRY.registered_names())
    mine = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, SplitDataset)]
    return sorted(mine, key=lambda kind: kind.order)


# A train.py written for CoOp imports its data sets one by one, as `datasets.oxford_pets`: the names of our configs.
for _kind in declared():
    _name, _loader = f"{__name__}.{_kind.config}", sys.modules[_kind.__module__]
    sys.modules.setdefault(_name, _loader)
    globals().setdefault(_kind.config, _loader)
