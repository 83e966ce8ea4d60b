"""Which settings of a run make it what it is: of another method, of another place, or of neither.

Every key counts that changes what comes out (dassl/plain/effect.py); here is what comparing runs says besides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .effect import effective

UNTRAINED = ("ZeroshotCLIP", "ZeroshotCLIP2")  # one run stands for every number of shots, and for every seed
UNTRAINED_HEED = ("MODEL.", "INPUT.", "DATASET.", "TEST.")  # all that matters to them
PLACE = {  # what a sweep varies: not the method, but where its result belongs
    "SEED",
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    "DATASET.SUBSAMPLE_CLASSES",
    "DATASET.FOLDER.PATH",
    "DATASET.FOLDER.CSV",
    "TEST.SPLIT",
    "TRAINER.NAME",  # a method's name begins with it
}
SCHEDULE = ("OPTIM.MAX_EPOCH", "DATALOADER.TRAIN_X.BATCH_SIZE")  # goes by shots in the published recipes
# where a run of several stages starts: another file for each shots and seed
STARTS = ("TRAINER.PLOTPP.PRETRAIN_DIR", "TRAINER.PLOTADAPTER.PRETRAIN_DIR")
FILES = ("MODEL.BACKBONE.NAME", "MODEL.INIT_WEIGHTS")  # or the first one a name
CHANCE = ("DATALOADER.NUM_WORKERS",)  # changes the random crops, and nothing else: told where runs are compared


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a flat config, the keys that decide the run's result; files that exist by their real paths."""
    found = {key: same_path(value) if key in FILES else value for key, value in effective(config).items()}
    if config.get("TRAINER.NAME") in UNTRAINED:
        return {key: value for key, value in found.items() if key.startswith(UNTRAINED_HEED)}
    return found


def same_path(name: Any) -> Any:
    """Of what exists, the absolute path without links: photos and /home/me/photos are one place.  Else `name`."""
    return os.path.realpath(name) if isinstance(name, str) and os.path.exists(name) else name


def of_method(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those in which runs of one method agree, the schedule among them."""
    return {key: value for key, value in deciding(config).items() if key not in PLACE and key not in STARTS}
