"""Which keys of a config matter: to what comes out of a run, and to which method a run belongs.

A key has no effect when it says where a run is carried out, how fast, or what it prints on the way.  The engine's are
listed here; code that adds such a key names it in the config itself, under NO_EFFECT, beside the key:

    cfg.MINE = CfgNode({"CACHE": "", "LOG_EVERY": 10})
    cfg.NO_EFFECT = (*cfg.get("NO_EFFECT", ()), "MINE.CACHE", "MINE.LOG_EVERY")

So the list is in config.yaml and in the record of each run, and every reader of a run knows it.  All other keys count.
Of those, some say where a result belongs (its place: data, shots, their draw, seed), and the rest make the method.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from datasets.draws import PER_CLASS

NO_EFFECT = (
    "VERSION",
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "USE_CUDA",
    "NO_EFFECT",
    "DATASET.ROOT",
    "DATASET.CHECK_IMAGES",
    "DATALOADER.KEEP_MB",
    "DATALOADER.NUM_WORKERS",  # but that other workers draw other random crops
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.STATE_MINUTES",
    "TRAIN.RANK_MINUTES",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.PREDICTIONS",
    "TEST.CALIBRATION",
)


def effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return, of a flat config, the keys that decide what comes out.

    A trainer that has a node of its own below TRAINER reads no other trainer's.  A config without DATASET.DRAW, of a
    plugin or from before there was a choice, is of the draw that is the default.
    """
    config = {DRAW: PER_CLASS, **config}
    declared = config.get("NO_EFFECT") or ()
    idle = {*NO_EFFECT, *map(str, declared if isinstance(declared, list | tuple) else ())}
    own = f"TRAINER.{config.get('TRAINER.NAME')}.".upper()
    nodes = [key for key in config if key.startswith("TRAINER.") and key.count(".") > 1]
    ours = {key for key in nodes if key.upper().startswith(own)}
    idle.update(set(nodes) - ours if ours else ())
    return {key: value for key, value in config.items() if key not in idle}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 8) -> str:
    """Return the keys that two flat configs both have with other values: "OPTIM.LR was 0.1, is 0.5; ..."."""
    changed = [key for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]
    shown = [f"{key} was {old[key]!r}, is {new[key]!r}" for key in changed[:most]]
    return "; ".join(shown) + (f"; and {len(changed) - most} more" if len(changed) > most else "")


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten {"A": {"B": 1}} to {"A.B": 1}; lists become tuples, so that (224, 224) is the same in JSON and YAML."""
    flat: dict[str, Any] = {}

    def fill(tree: Mapping[str, Any], prefix: str) -> None:
        for key, value in tree.items():
            if isinstance(value, (str, int, float)):
                flat[f"{prefix}{key}"] = value
            elif isinstance(value, Mapping):
                fill(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = _hashable(value)

    fill(tree, "")
    return flat


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, Mapping):
        return tuple((str(key), _hashable(item)) for key, item in value.items())
    return value


# --- comparing runs --------------------------------------------------------------------------------------

DRAW = "DATASET.DRAW"
ZERO_SHOT_READS = ("MODEL.", "INPUT.", "DATASET.", "TEST.")  # all that matters to a method without training
PLACE = {  # what a sweep varies: not the method, but where its result belongs
    "SEED",
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    DRAW,
    "DATASET.SUBSAMPLE_CLASSES",
    "DATASET.FOLDER.PATH",
    "DATASET.FOLDER.CSV",
    "TEST.SPLIT",
    "TRAINER.NAME",  # a method's name begins with it
}
SCHEDULE = ("OPTIM.MAX_EPOCH", "DATALOADER.TRAIN_X.BATCH_SIZE")  # goes by shots in the published recipes
START = ".PRETRAIN_DIR"  # end of keys: where a run of several stages starts, another file for each shots and seed
FILES = ("MODEL.BACKBONE.NAME", "MODEL.INIT_WEIGHTS")  # or the first one a name
CHANCE = ("DATALOADER.NUM_WORKERS",)  # changes the random crops, and nothing else: mentioned where runs are compared


def deciding(config: Mapping[str, Any], zero_shot: bool = False) -> dict[str, Any]:
    """Return, of a flat config, the keys that decide the run's result; files that exist by their real paths.

    Parameters
    ----------
    config
        {"OPTIM.LR": 0.002, ...}
    zero_shot
        Whether its trainer sees no training image, so that most keys mean nothing to it.
    """
    decisive = {key: real_path(value) if key in FILES else value for key, value in effective(config).items()}
    if zero_shot:
        return {key: value for key, value in decisive.items() if key.startswith(ZERO_SHOT_READS) and key != DRAW}
    return decisive


def real_path(name: Any) -> Any:
    """Return the absolute path without links of what exists, so that photos and /home/me/photos are one; or `name`."""
    return os.path.realpath(name) if isinstance(name, str) and os.path.exists(name) else name


def of_method(config: Mapping[str, Any], zero_shot: bool = False) -> dict[str, Any]:
    """Return the deciding keys in which runs of one method agree, the schedule among them."""
    decisive = deciding(config, zero_shot)
    return {key: value for key, value in decisive.items() if key not in PLACE and not key.endswith(START)}
