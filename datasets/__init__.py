"""The data sets. Importing this package registers each under its class name, for `DATASET.NAME`."""

from importlib import import_module

import dassl  # noqa: F401  (before torch: how its threads wait)

MODULES = (
    "caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat ucf101 "
    "imagenet imagenetv2 imagenet_sketch imagenet_a imagenet_r folder demo"
).split()

for _name in MODULES:
    import_module(f"{__name__}.{_name}")
