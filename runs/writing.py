"""The record of a run, written as its very last act."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from dassl.data import fingerprint
from dassl.data.datasets import DatasetBase
from dassl.utils.checkpoint import BEST_NAME, CheckpointError, checksum
from dassl.utils.logger import warned
from dassl.utils.tools import StrPath, atomic_write

from .environment import peak_cuda_memory_mb, peak_memory_mb, versions
from .folder import check_mode, holds_training, plain_config
from .keys import effective, flatten
from .record import EVAL_RESULT_NAME, RESULT_NAME, SCHEMA, Declared, read_result

UNTRAINED = "untrained: nothing was trained or loaded"  # methods.py marks results by the first word


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
    check_mode(mode)
    folder = Path(cfg.OUTPUT_DIR)
    test = trainer.last_test or {}
    results = dict(test.get("results") or {})
    protocol = _protocol(cfg, trainer, mode, checkpoint)
    if mode == "train" and checkpoint is None:
        checkpoint = _final_checkpoint(cfg, trainer)
    config = plain_config(cfg, quote=False)
    record = {
        "schema": SCHEMA,
        "complete": True,
        "mode": mode,
        "trainer": cfg.TRAINER.NAME,
        "method": Declared.by(type(trainer))._asdict(),
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
    path = folder / (EVAL_RESULT_NAME if mode == "eval" and holds_training(folder) else RESULT_NAME)
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


def evaluated_checkpoint(folder: StrPath) -> tuple[str, int | None]:
    """Find the checkpoint that the run in `folder` was tested with: its own, or of an evaluation the one it evaluated.

    Returns
    -------
    folder, epoch
        For a trainer's `load_model`: the folder of the run that made the checkpoint, and its epoch; None for the best
        one, and where no file is recorded, so that the trainer chooses.

    Raises
    ------
    CheckpointError
        Where the file has changed since it was tested.
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
    if not tested:
        return str(folder), None
    path = Path(folder, tested)
    if path.is_dir():
        return str(path), None
    epoch = re.fullmatch(r"model\.pth\.tar-(\d+)", path.name)
    return str(path.parent.parent), int(epoch[1]) if epoch else None
