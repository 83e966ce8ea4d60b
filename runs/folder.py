"""The folder of a run: who may use it, and the config.yaml that says whose it is.

A folder belongs to one run.  `open_run` refuses a folder whose stored configuration would give other results, so that
checkpoints of one experiment are never continued by another.
"""

from __future__ import annotations

import json
import warnings
from ast import literal_eval
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from dassl.engine.state import STATE_NAME
from dassl.utils.checkpoint import BEST_NAME, find_checkpoints
from dassl.utils.tools import atomic_write

from .keys import differences, effective, flatten
from .lock import RunFolderError, make_folder, refusal
from .plugins import trainer_class
from .record import ABOUT, CONFIG_NAME, END, MODE, RESULT_NAME, Declared, load_config


def open_run(cfg: CfgNode, mode: str) -> bool:
    """Claim OUTPUT_DIR for a run; `mode` is "train" or "eval". Call it before anything is written there.
    Returns whether the folder is that of this same run, begun before.

    Makes the folder, compares its config.yaml with `cfg` except for the keys that change no result and keys
    that only one of them has, and writes config.yaml. An evaluation in a training run's folder changes nothing.
    Raises RunFolderError, with the keys and both values, when the folder holds checkpoints or a result of
    another run, or cannot be made or written to, or when there is no run to resume in RESUME; a folder where
    nothing came of the other run is taken over.
    """
    check_mode(mode)
    folder = Path(cfg.OUTPUT_DIR)
    make_folder(folder)
    if mode == "eval" and holds_training(folder):
        return False
    same = check_folder(cfg, mode)
    if not same and not (folder / CONFIG_NAME).exists() and holds_training(folder):
        print(f"{folder} holds checkpoints but no {CONFIG_NAME}: not checked whether they belong to this run")
    if mode == "train" and cfg.RESUME and Path(cfg.RESUME).resolve() != folder.resolve():
        if not holds_training(Path(cfg.RESUME)):
            raise RunFolderError(f"RESUME is {cfg.RESUME}, but there is no run to continue")
        origin = _stored_config(Path(cfg.RESUME))
        changed = _differences(origin, cfg) if origin is not None else ""
        if changed:
            warnings.warn(f"resuming from {cfg.RESUME} with another configuration: {changed}", stacklevel=2)
    try:
        with atomic_write(folder / CONFIG_NAME) as file:
            about = json.dumps(Declared.by(trainer_class(cfg.TRAINER.NAME))._asdict())
            text = yaml.safe_dump(plain_config(cfg), sort_keys=True)
            file.write(f"{MODE}{mode}\n{ABOUT}{about}\n{text}{END}\n")
    except OSError as error:
        raise refusal(folder, "written to", error) from error
    return same


def check_folder(cfg: CfgNode, mode: str) -> bool:
    """Whether OUTPUT_DIR is the folder of this same run, begun before; touches nothing.

    Raises RunFolderError where it holds checkpoints or a result of another.
    """
    folder = Path(cfg.OUTPUT_DIR)
    stored = None if mode == "eval" and holds_training(folder) else _stored_config(folder)
    if stored is None:
        return False
    changed = _differences(stored, cfg)
    if changed and _holds_work(folder):
        raise RunFolderError(
            f"{folder} holds a run with another configuration ({changed}); "
            "choose another output folder, or delete this one to start over"
        )
    return not changed


def check_mode(mode: str) -> None:
    if mode not in ("train", "eval"):
        raise ValueError(f'mode must be "train" or "eval", got {mode!r}')


def holds_training(folder: Path) -> bool:
    config = folder / CONFIG_NAME
    if config.is_file():
        with open(config, encoding="utf-8", errors="replace") as file:
            if file.readline().strip() == f"{MODE}train":
                return True
    return holds_checkpoints(folder)


def holds_checkpoints(folder: Path) -> bool:
    """Or the state of a run on its way."""
    numbered = any(find_checkpoints(path.parent) for path in folder.glob("*/model.pth.tar-*"))
    return numbered or any(folder.glob(f"*/{BEST_NAME}")) or (folder / STATE_NAME).exists()


def last_epoch(folder: str, models: Sequence[str]) -> int | None:
    """Find the epoch to load of a run that kept no best one; None where it did, or where there is nothing to choose.

    The engine's own `load_model` takes nothing but the best checkpoint, unless it is handed an epoch.
    """
    folders = [Path(folder, name) for name in models]
    if not folder or any((path / BEST_NAME).exists() for path in folders):
        return None
    return next((epoch for path in folders for epoch in find_checkpoints(path)), None)  # the highest comes first


def _holds_work(folder: Path) -> bool:
    return holds_checkpoints(folder) or (folder / RESULT_NAME).exists()


def _stored_config(folder: Path) -> dict[str, Any] | None:
    """None where there is none, or where nothing would be lost of the run whose config cannot be read.

    Raises RunFolderError where something would.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        return None
    try:
        return load_config(path)
    except (OSError, ValueError) as error:
        if _holds_work(folder):
            reason = str(error).partition("\n")[0]
            raise RunFolderError(
                f"{path} cannot be read ({reason}), and only it can tell whose checkpoints or result are beside it; "
                "restore it, or delete it if you know that they belong to this run, or choose another output folder"
            ) from error
        return None


def plain_config(cfg: Mapping[str, Any], quote: bool = True) -> dict[str, Any]:
    """Tuples as lists; with `quote`, text that would be merged as something else ("2024") in extra quotes."""
    plain: dict[str, Any] = {}
    for key, value in cfg.items():
        if isinstance(value, Mapping):
            plain[key] = plain_config(value, quote)
        elif isinstance(value, tuple):
            plain[key] = list(value)
        elif quote and isinstance(value, str) and _spells_something_else(value):
            plain[key] = repr(value)
        else:
            plain[key] = value
    return plain


def _spells_something_else(text: str) -> bool:
    try:
        return literal_eval(text) != text
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False


def _differences(stored: Mapping[str, Any], cfg: CfgNode) -> str:
    return differences(effective(flatten(stored)), effective(flatten(plain_config(cfg))))
