"""Everything that learns: each module or package is a method; `parts` and `features` are what methods are made of.

Importing this package imports all of them, and thereby registers their trainers with the engine.  A new method is a new
module or package in this folder: nothing else has to know it.
"""
import importlib
import pkgutil

import dassl  # noqa: F401  (before torch: how its threads wait)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
