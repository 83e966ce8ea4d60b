"""The data sets. Importing this package registers each under its class name, for `DATASET.NAME`."""

from importlib import import_module

MODULES = ("caltech101", "demo", "folder")

for _name in MODULES:
    import_module(f"{__name__}.{_name}")
