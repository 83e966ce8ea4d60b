"""The record that a run leaves: config.yaml when it starts, result.json as its very last act.

A folder belongs to one run. `open_run` refuses a folder whose stored configuration would give other results,
so that checkpoints of one experiment are never continued by another. A run is finished exactly when its
result.json says so.
"""
from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from ast import literal_eval
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from yacs.config import CfgNode

from dassl.data import fingerprint
from dassl.data.datasets import DatasetBase
from dassl.engine.state import STATE_NAME
from dassl.utils.checkpoint import BEST_NAME, CheckpointError, checksum, find_checkpoints
from dassl.utils.logger import warned
from dassl.utils.tools import StrPath, atomic_write

from .config_file import CONFIG_NAME, END, MODE, load_config
from .effect import differences, effective, flatten
from .environment import peak_cuda_memory_mb, peak_memory_mb, versions
from .result_file import SCHEMA, read_record
from .run_folder import RunFolderError, make_folder, refusal

__all__ = [
    "RunFolderError", "check_folder", "evaluated_checkpoint", "holds_checkpoints", "is_complete", "open_run",
    "read_classnames", "read_result", "write_result",
]  # fmt: skip

RESULT_NAME = "result.json"
EVAL_RESULT_NAME = "result-eval.json"  # an evaluation in the folder of a training run
UNTRAINED = "untrained: nothing was trained or loaded"  # results/methods.py marks results by the first word


# --- the start of a run ----------------------------------------------------------------------------------


def open_run(cfg: CfgNode, mode: str) -> bool:
    """Claim OUTPUT_DIR for a run; `mode` is "train" or "eval". Call it before anything is written there.
    Returns whether the folder is that of this same run, begun before.

    Makes the folder, compares its config.yaml with `cfg` except for the keys that change no result and keys
    that only one of them has, and writes config.yaml. An evaluation in a training run's folder changes nothing.
    Raises RunFolderError, with the keys and both values, when the folder holds checkpoints or a result of
    another run, or cannot be made or written to, or when there is no run to resume in RESUME; a folder where
    nothing came of the other run is taken over.
    """
    _check_mode(mode)
    folder = Path(cfg.OUTPUT_DIR)
    make_folder(folder)
    if mode == "eval" and _holds_training(folder):
        return False
    same = check_folder(cfg, mode)
    if not same and not (folder / CONFIG_NAME).exists() and _holds_training(folder):
        print(f"{folder} holds checkpoints but no {CONFIG_NAME}: not checked whether they belong to this run")
    if mode == "train" and cfg.RESUME and Path(cfg.RESUME).resolve() != folder.resolve():
        if not _holds_training(Path(cfg.RESUME)):
            raise RunFolderError(f"RESUME is {cfg.RESUME}, but there is no run to continue")
        origin = _stored_config(Path(cfg.RESUME))
        changed = _differences(origin, cfg) if origin is not None else ""
        if changed:
            warnings.warn(f"resuming from {cfg.RESUME} with another configuration: {changed}", stacklevel=2)
    try:
        with atomic_write(folder / CONFIG_NAME) as file:
            file.write(f"{MODE}{mode}\n{yaml.safe_dump(_plain_config(cfg), sort_keys=True)}{END}\n")
    except OSError as error:
        raise refusal(folder, "written to", error) from error
    return same


def check_folder(cfg: CfgNode, mode: str) -> bool:
    """Whether OUTPUT_DIR is the folder of this same run, begun before; touches nothing.

    Raises RunFolderError where it holds checkpoints or a result of another.
    """
    folder = Path(cfg.OUTPUT_DIR)
    stored = None if mode == "eval" and _holds_training(folder) else _stored_config(folder)
    if stored is None:
        return False
    changed = _differences(stored, cfg)
    if changed and _holds_work(folder):
        raise RunFolderError(
            f"{folder} holds a run with another configuration ({changed}); "
            "choose another output folder, or delete this one to start over"
        )
    return not changed


def _check_mode(mode: str) -> None:
    if mode not in ("train", "eval"):
        raise ValueError(f'mode must be "train" or "eval", got {mode!r}')


def _holds_training(folder: Path) -> bool:
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


def _plain_config(cfg: Mapping[str, Any], quote: bool = True) -> dict[str, Any]:
    """Tuples as lists; with `quote`, text that would be merged as something else ("2024") in extra quotes."""
    plain: dict[str, Any] = {}
    for key, value in cfg.items():
        if isinstance(value, Mapping):
            plain[key] = _plain_config(value, quote)
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
    return differences(effective(flatten(stored)), effective(flatten(_plain_config(cfg))))


# --- the end of a run ------------------------------------------------------------------------------------


def write_result(
    cfg: CfgNode,
    trainer: Any,
    mode: str,
    seconds: float,
    argv: list[str] | None = None,
    checkpoint: str | None = None,
) -> Path:
    """Write result.json (for an evaluation in a training run's folder: result-eval.json); returns its path.

    `seconds` is the run's whole time, `checkpoint` the file that was evaluated; after training it is found in
    OUTPUT_DIR. Numbers that are not finite become null.
    """
    _check_mode(mode)
    folder = Path(cfg.OUTPUT_DIR)
    test = trainer.last_test or {}
    results = dict(test.get("results") or {})
    protocol = _protocol(cfg, trainer, mode, checkpoint)
    if mode == "train" and checkpoint is None:
        checkpoint = _final_checkpoint(cfg, trainer)
    config = _plain_config(cfg, quote=False)
    record = {
        "schema": SCHEMA,
        "complete": True,
        "mode": mode,
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "subsample_classes": cfg.DATASET.get("SUBSAMPLE_CLASSES", "all"),
        "split": test.get("split"),
        "accuracy": results.get("accuracy"),
        "error_rate": results.get("error_rate"),
        "macro_f1": results.get("macro_f1"),
        "total": test.get("total"),
        "correct": test.get("correct"),
        "per_class": test.get("per_class", []),
        "confusions": test.get("confusions"),
        "epochs": trainer.max_epoch if mode == "train" else None,
        "checkpoint": checkpoint,
        "checkpoints_sha256": _checksums(folder / checkpoint, trainer.get_model_names()) if checkpoint else None,
        "protocol": protocol,
        "warnings": warned(),
        "selection": getattr(trainer, "selection", None),
        "transport": trainer.diagnostics(),
        "history": trainer.history,
        "seconds": {
            "total": seconds,
            "train": getattr(trainer, "train_seconds", None),
            "test": test.get("seconds"),
        },
        "peak_memory_mb": peak_memory_mb(),
        "peak_cuda_memory_mb": peak_cuda_memory_mb(),
        "data": _describe_data(trainer),
        "config": config,
        "config_digest": _digest(config),
        "versions": versions(),
        "argv": list(argv or []),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    path = folder / (EVAL_RESULT_NAME if mode == "eval" and _holds_training(folder) else RESULT_NAME)
    text = json.dumps(_json_ready(record), indent=1, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text + "\n")
    return path


def _protocol(cfg: CfgNode, trainer: Any, mode: str, checkpoint: str | None) -> str | None:
    """How the result was come by, where it is not as it should be: in the trainer's words, or that what it could
    learn stayed as it was initialised."""
    told = getattr(trainer, "protocol", None)
    learns = any(optim is not None for optim in getattr(trainer, "_optims", {}).values())
    trained = mode == "train" and (trainer.max_epoch > 0 or trainer.start_epoch > 0)
    loaded = checkpoint or getattr(trainer, "loaded_checkpoint", None) or cfg.MODEL.INIT_WEIGHTS
    return told or (UNTRAINED if learns and not trained and not loaded else None)


def _final_checkpoint(cfg: CfgNode, trainer: Any) -> str | None:
    """The file that holds the tested weights, relative to OUTPUT_DIR; None for methods that save nothing."""
    loaded, folder = getattr(trainer, "loaded_checkpoint", None), Path(cfg.OUTPUT_DIR)
    if loaded and Path(loaded).is_relative_to(folder):
        return Path(loaded).relative_to(folder).as_posix()
    best = cfg.TEST.FINAL_MODEL == "best_val" and not cfg.TEST.NO_TEST
    for name in trainer.get_model_names():
        relative = f"{name}/{BEST_NAME if best else f'model.pth.tar-{trainer.max_epoch}'}"
        if (folder / relative).is_file():
            return relative
    return None


def _checksums(tested: Path, names: Iterable[str]) -> dict[str, str]:
    """{model: SHA-256} of the checkpoint that was tested and of those of the other models beside it."""
    files = {name: _of_model(tested, name) for name in (tested.parent.name, *names)}
    return {name: checksum(file) for name, file in files.items() if file.is_file()}


def _of_model(tested: Path, name: str) -> Path:
    return tested.parent.parent / name / tested.name


def _describe_data(trainer: Any) -> dict[str, Any] | None:
    dataset = getattr(getattr(trainer, "dm", None), "dataset", None)
    if not isinstance(dataset, DatasetBase):  # a plugin with data of its own
        return None
    skipped = list(getattr(dataset, "skipped", ()))
    described = {
        "fingerprint": fingerprint(dataset),
        "classes": dataset.num_classes,
        "train": len(dataset.train_x or []),
        "val": len(dataset.val or []),
        "test": len(dataset.test or []),
        "classnames": list(dataset.classnames),
    }
    return described | ({"skipped": {"count": len(skipped), "images": skipped}} if skipped else {})


def _digest(config: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over the keys that decide what comes out, with their values."""
    return hashlib.sha256(json.dumps(effective(flatten(config)), sort_keys=True, default=str).encode()).hexdigest()


def _json_ready(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json_ready(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json_ready(entry) for entry in value]
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return _json_ready(value.tolist())
    if isinstance(value, np.generic):
        return _json_ready(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


# --- reading ---------------------------------------------------------------------------------------------


def read_result(folder: StrPath) -> dict[str, Any] | None:
    """What result.json in `folder` (or the JSON file given) holds; None when missing, torn, or no record (a
    value is not of the kind that it should be)."""
    path = Path(folder)
    record, problem = read_record(path / RESULT_NAME if path.is_dir() else path)
    return None if problem else record


def is_complete(folder: StrPath) -> bool:
    """Whether the run in `folder` finished."""
    record = read_result(folder)
    return record is not None and record.get("complete") is True


def read_classnames(folder: StrPath) -> list[str] | None:
    """The classes of the finished run in `folder`, by label; None where its record does not tell."""
    data = (read_result(folder) or {}).get("data") or {}
    return list(data.get("classnames") or ()) or None


def evaluated_checkpoint(folder: StrPath) -> tuple[str, int | None]:
    """(run folder, epoch) of the checkpoint that the run in `folder` was tested with; epoch None: the best or last one.

    That is its own, but of an evaluation the one that it evaluated. Raises CheckpointError where the file has changed
    since it was tested.
    """
    record = read_result(folder) or {}
    tested = record.get("checkpoint")
    for name, known in (record.get("checkpoints_sha256") or {}).items():
        file = _of_model(Path(folder, tested or ""), Path(name).name)
        if file.is_file() and checksum(file) != known:
            raise CheckpointError(
                f"{file} is damaged or was replaced: its SHA-256 is not the one in {Path(folder, RESULT_NAME)}, of the "
                "file that was tested; get that one from a copy, or test what there is with train.py --eval-only"
            )
    if record.get("mode") != "eval" or not tested:
        return str(folder), None
    path = Path(tested)
    if path.is_dir():
        return str(path), None
    epoch = re.fullmatch(r"model\.pth\.tar-(\d+)", path.name)
    return str(path.parent.parent), int(epoch[1]) if epoch else None
