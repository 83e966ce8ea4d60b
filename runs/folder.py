"""The folder of a run: who may use it, and the config.yaml that says whose it is.

A folder belongs to one run.  `open_run` refuses a folder whose stored configuration would give other results, so that
checkpoints of one experiment are never continued by another.
"""

from __future__ import annotations

import contextlib
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
    """Claim OUTPUT_DIR for a run, before anything is written there.

    It makes the folder, compares its config.yaml with `cfg`, except for the keys that change no result and keys that
    only one of them has, and writes config.yaml.  An evaluation in a training run's folder changes nothing.  A folder
    where nothing came of another run is taken over.

    Parameters
    ----------
    cfg
        The run's config.
    mode
        "train" or "eval".

    Returns
    -------
    bool
        Whether the folder is that of this same run, begun before.

    Raises
    ------
    RunFolderError
        Where the folder holds checkpoints or a result of another run (with the keys and both values), where it cannot
        be made or written to, or where RESUME holds no run to continue.
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
            about = json.dumps(Declared.of(trainer_class(cfg.TRAINER.NAME))._asdict())
            text = yaml.safe_dump(plain_config(cfg), sort_keys=True)
            file.write(f"{MODE}{mode}\n{ABOUT}{about}\n{text}{END}\n")
    except OSError as error:
        raise refusal(folder, "written to", error) from error
    return same


def check_folder(cfg: CfgNode, mode: str) -> bool:
    """Tell whether OUTPUT_DIR is the folder of this same run, begun before; changes no file.

    Raises
    ------
    RunFolderError
        Where it holds checkpoints or a result of another run.
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
    """Raise ValueError unless `mode` is one of the two that there are."""
    if mode not in ("train", "eval"):
        raise ValueError(f'mode must be "train" or "eval", got {mode!r}')


def holds_training(folder: Path) -> bool:
    """Tell whether a folder is that of a training run: its config says so, or it has checkpoints."""
    config = folder / CONFIG_NAME
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    return text.partition("\n")[0].strip() == f"{MODE}train" or holds_checkpoints(folder)


def holds_checkpoints(folder: Path) -> bool:
    """Tell whether a folder holds checkpoints, or the state of a run on its way."""
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
    """Return the config of the run in `folder`; None where there is none, or none that can be read and no work lost.

    Raises RunFolderError where it cannot be read, and checkpoints or a result lie beside it.
    """
    path = folder / CONFIG_NAME
    try:
        return load_config(path) if path.is_file() else None
    except (OSError, ValueError) as error:
        if not _holds_work(folder):
            return None
        reason = str(error).partition("\n")[0]
        raise RunFolderError(
            f"{path} cannot be read ({reason}), and only it can tell whose checkpoints or result are beside it; "
            "restore it, or delete it if you know that they belong to this run, or choose another output folder"
        ) from error


def plain_config(cfg: Mapping[str, Any], quote: bool = True) -> dict[str, Any]:
    """Return a config as plain data, tuples as lists.

    With `quote`, a text that merging would read as something else ("2024") gets extra quotes.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return plain_config(value, quote)
        if quote and isinstance(value, str):
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                return repr(value) if literal_eval(value) != value else value
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in cfg.items()}


def _differences(stored: Mapping[str, Any], cfg: CfgNode) -> str:
    return differences(effective(flatten(stored)), effective(flatten(plain_config(cfg))))
