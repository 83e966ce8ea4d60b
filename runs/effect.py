"""Which keys of a config change what comes out of a run: the one list of those that do not.

They say where a run is carried out, how fast, and what it tells on the way. The engine's own are listed here; who adds
a key that changes nothing names it in the config itself, under NO_EFFECT, beside the key:

    cfg.MINE = CfgNode({"CACHE": "", "LOG_EVERY": 10})
    cfg.NO_EFFECT = (*cfg.get("NO_EFFECT", ()), "MINE.CACHE", "MINE.LOG_EVERY")

So the list is in config.yaml and in the record of each run, and whoever reads a run knows it. Every other key counts.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NO_EFFECT", "differences", "effective", "flatten"]

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
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
)


def effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a flat config, the keys that decide what comes out.

    A trainer that has a node of its own below TRAINER reads no other trainer's.
    """
    declared = config.get("NO_EFFECT") or ()
    nothing = {*NO_EFFECT, *map(str, declared if isinstance(declared, list | tuple) else ())}
    own = f"TRAINER.{config.get('TRAINER.NAME')}.".upper()
    others = "TRAINER." if any(key.upper().startswith(own) for key in config) else None

    def counts(key: str) -> bool:
        foreign = others and key.startswith(others) and key.count(".") > 1 and not key.upper().startswith(own)
        return key not in nothing and not foreign

    return {key: value for key, value in config.items() if counts(key)}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 8) -> str:
    """Of two flat configs, the keys that both have with other values: "OPTIM.LR was 0.1, is 0.5; ..."."""
    changed = [key for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]
    shown = [f"{key} was {old[key]!r}, is {new[key]!r}" for key in changed[:most]]
    return "; ".join(shown) + (f"; and {len(changed) - most} more" if len(changed) > most else "")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"A": {"B": 1}} -> {"A.B": 1}; lists become tuples, so that (224, 224) is the same in JSON and YAML."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _hashable(value)
    return flat


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, Mapping):
        return tuple((str(key), _hashable(item)) for key, item in value.items())
    return value
