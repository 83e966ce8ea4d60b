"""How a run was set up otherwise than the published recipes of its method."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from runs.keys import flatten, of_method
from runs.plugins import CHECKOUT, trainer_class
from runs.sweeps.planning import config_family

COMPARED = ("INPUT.", "OPTIM.", "DATALOADER.TRAIN_X.", "DATALOADER.TEST.", "MODEL.BACKBONE.", "TEST.FINAL_MODEL")
SAID_ELSEWHERE = ("MODEL.BACKBONE.NAME", "INPUT.SIZE", "INPUT.EXIF_ORIENTATION", "INPUT.ALPHA")  # on the card
NOT_PUBLISHED = ("demo", "photos")  # beginnings of the names of recipes that are this project's own


class Departures(NamedTuple):
    """The settings in which a run departs from a recipe.

    Attributes
    ----------
    recipe
        Path of its file below the project, like configs/trainers/PLOT/rn50.yaml; empty where the method has none.
    changed
        Key -> (value of the recipe, value of the run).
    """

    recipe: str
    changed: dict[str, tuple[Any, Any]]


def departures(config: Mapping[str, Any], zero_shot: bool = False) -> Departures | None:
    """Compare a run's config (flat) with that published recipe of its method, and its backbone, that is nearest to it.

    Parameters
    ----------
    config
        {"TRAINER.NAME": "PLOT", ...}, whole, as `RunFolder` reads it.
    zero_shot
        Whether its method sees no training image, so that only what is read in a test counts.

    Returns
    -------
    Departures or None
        None for a method without published recipes, as of a plugin.
    """
    trainer = str(config["TRAINER.NAME"])
    own = _compared(config, zero_shot)
    candidates: dict[tuple[bool, int, int], Departures] = {}  # by how far they are from the run
    for path in sorted((CHECKOUT / "configs" / "trainers" / config_family(trainer)).glob("*.yaml")):
        if path.name.startswith(NOT_PUBLISHED):
            continue
        whole = _recipe(path, config)
        recipe = _compared(whole, zero_shot)
        shared = sorted(recipe.keys() & own.keys())
        changed = {key: (recipe[key], own[key]) for key in shared if recipe[key] != own[key]}
        other_backbone = whole["MODEL.BACKBONE.NAME"] != config.get("MODEL.BACKBONE.NAME")
        distance = (other_backbone, len(changed), len(path.name))
        candidates.setdefault(distance, Departures(path.relative_to(CHECKOUT).as_posix(), changed))
    return candidates[min(candidates)] if candidates else None


def _recipe(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat config of a recipe's file, with the schedule that is published for the run's data and shots."""
    recipe, in_file = _read_recipe(path)
    schedule = getattr(trainer_class(config["TRAINER.NAME"]), "recipe", None)
    planned = schedule(config.get("DATASET.NAME", ""), config.get("DATASET.NUM_SHOTS", -1)) if schedule else {}
    chosen = {key: value for key, value in planned.items() if key not in in_file}
    return {**recipe, **flatten(chosen), "TRAINER.NAME": config["TRAINER.NAME"]}


@cache
def _read_recipe(path: Path) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the flat config of a recipe's file, and the keys that the file itself has; read once in a process."""
    from dassl.config import get_cfg_default, merge_file
    from runs.config import extend_cfg

    cfg = get_cfg_default()
    extend_cfg(cfg)
    in_file = frozenset(merge_file(cfg, path))
    return flatten(cfg), in_file


def _compared(config: Mapping[str, Any], zero_shot: bool) -> dict[str, Any]:
    """Return the settings that make the method; no path is among them, nor what a card says anyway."""
    own = f"TRAINER.{config['TRAINER.NAME']}.".upper()
    return {
        key: value
        for key, value in of_method(config, zero_shot).items()
        if (key.startswith(COMPARED) or key.upper().startswith(own)) and key not in SAID_ELSEWHERE
    }
