"""The data sets. Importing this package registers each under its class name, for `DATASET.NAME`; it needs no torch.

    base.py         what every data set declares, and how it is built
    loaders/        the data sets
    published.py    the words in which a loader describes the published copy
    catalogue.py    which data sets there are
    splits.py, fewshot.py, draws.py, layout.py, files.py, annotations.py, legacy.py      what loaders share
    checking/       is a copy on disk complete, and the published one?
    fetching/       getting what is missing
    picks.py        the few-shot images of a seed

`python -m datasets` is the command line of the last three.
"""

import sys
from importlib import import_module
from pkgutil import iter_modules

import dassl  # noqa: F401  (before torch: how its threads wait)

from . import loaders
from .catalogue import declared

__all__ = ["declared"]

for _module in iter_modules(loaders.__path__):
    import_module(f"{loaders.__name__}.{_module.name}")

# A train.py written for CoOp imports its data sets one by one, as `datasets.oxford_pets`: the names of our configs.
for _kind in declared():
    if _kind.__module__.startswith(f"{loaders.__name__}."):
        _loader = sys.modules[_kind.__module__]
        sys.modules[f"{__name__}.{_kind.config}"] = globals()[_kind.config] = _loader
