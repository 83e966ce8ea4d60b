"""The record of a run, written as its very last act: what came out, with which program, on which data.

Numbers that are not finite become null in it, so that every JSON reader takes it.  record.py says what shape it has,
and reads it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from yacs.config import CfgNode

import dassl
from dassl.data import fingerprint
from dassl.data.datasets import DatasetBase
from dassl.engine.heldout import heldout_images, heldout_logits
from dassl.plain.calibration import fit_temperature, measure
from dassl.plain.devices import describe_device
from dassl.plain.ranks import RankError, is_first, size
from dassl.utils.checkpoint import BEST_NAME, checksum
from dassl.utils.logger import warned
from dassl.utils.tools import atomic_write
from datasets.draws import PER_CLASS

from .folder import check_mode, holds_training, plain_config
from .keys import effective, flatten
from .predictions import Predictions, write_predictions
from .record import EVAL_RESULT_NAME, RESULT_NAME, SCHEMA, Declared, beside

MOST_REASON = 300  # letters
UNTRAINED = "untrained: nothing was trained or loaded"  # methods.py marks results by the first word


def write_result(
    cfg: CfgNode, trainer: Any, mode: str, seconds: float, argv: Sequence[str] = (), checkpoint: str | None = None
) -> Path:
    """Write result.json, or for an evaluation in a training run's folder result-eval.json.

    All processes of a run come here, since the calibration is their common work; the first one writes.

    Parameters
    ----------
    cfg
        The run's config.
    trainer
        After its test; `last_test`, `history` and `diagnostics()` say what came out.
    mode
        "train" or "eval".
    seconds
        The run's whole time.
    argv
        The words of its command line.
    checkpoint
        The file that was evaluated; after a training it is looked for in OUTPUT_DIR.

    Returns
    -------
    Path
        The file that was written.
    """
    check_mode(mode)
    folder = Path(cfg.OUTPUT_DIR)
    test = trainer.last_test or {}
    results = dict(test.get("results") or {})
    protocol = _protocol(cfg, trainer, mode, checkpoint)
    if mode == "train" and checkpoint is None:
        checkpoint = _final_checkpoint(cfg, trainer)
    config = plain_config(cfg, quote=False)
    result_name = EVAL_RESULT_NAME if mode == "eval" and holds_training(folder) else RESULT_NAME
    predictions = predictions_of(trainer)
    record = {
        "schema": SCHEMA,
        "complete": True,
        "mode": mode,
        "trainer": cfg.TRAINER.NAME,
        "method": Declared.of(type(trainer))._asdict(),
        "dataset": cfg.DATASET.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "shots": cfg.DATASET.NUM_SHOTS,
        "draw": cfg.DATASET.get("DRAW", PER_CLASS) if cfg.DATASET.NUM_SHOTS > 0 else None,
        "seed": cfg.SEED,
        "subsample_classes": cfg.DATASET.get("SUBSAMPLE_CLASSES", "all"),
        "split": test.get("split"),
        **{name: results.get(name) for name in ("accuracy", "error_rate", "macro_f1")},
        **{name: test.get(name) for name in ("total", "correct", "confusions")},
        "per_class": test.get("per_class", []),
        "predictions": write_predictions(folder, result_name, predictions) if predictions and is_first() else None,
        "epochs": trainer.max_epoch if mode == "train" else None,
        "checkpoint": checkpoint,
        "checkpoints_sha256": _checksums(folder / checkpoint, trainer.get_model_names()) if checkpoint else None,
        "protocol": protocol,
        "warnings": warned(),
        "looks": getattr(trainer, "looks", None) if test else None,  # a plugin's own test counts nothing
        "selection": getattr(trainer, "selection", None),
        "templates": list(getattr(trainer, "templates", ())) or None,
        "transport": trainer.diagnostics(),
        "history": trainer.history,
        "device": describe_device(trainer.device),
        "processes": size(),
        "seconds": {"total": seconds, "train": getattr(trainer, "train_seconds", None), "test": test.get("seconds")},
        "peak_memory_mb": _peak_memory_mb(),
        "peak_cuda_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else None,
        "data": _describe_data(trainer),
        "config": config,
        "config_digest": _digest(config),
        "versions": versions(),
        "argv": list(argv),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    # last, since the pass over validation images changes what diagnostics() is of
    wanted = cfg.TEST.get("CALIBRATION", False)
    record["calibration"] = calibration_of(trainer, predictions) if wanted and predictions else None
    path = folder / result_name
    if not is_first():
        return path
    text = json.dumps(_json_ready(record), indent=1, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text + "\n")
    return path


# --- what came out ---------------------------------------------------------------------------------------


def predictions_of(trainer: Any) -> Predictions | None:
    """Return what the last test said of every image.

    None where nothing was kept, or where what was kept is not of the images of that split in their order: a plugin may
    test on data of its own.
    """
    test = trainer.last_test or {}
    kept, dataset = test.get("predictions"), getattr(getattr(trainer, "dm", None), "dataset", None)
    if kept is None or not isinstance(dataset, DatasetBase):
        return None
    items = (dataset.val if test["split"] == "val" else dataset.test) or []
    if [item.label for item in items] != kept["labels"].tolist():
        return None
    root = os.path.abspath(os.path.expanduser(trainer.cfg.DATASET.ROOT))
    images = [Path(os.path.relpath(os.path.abspath(item.impath), root)).as_posix() for item in items]
    return Predictions.of_test(images, kept)


def calibration_of(trainer: Any, predictions: Predictions) -> dict[str, Any]:
    """Measure the calibration of the test, as it is and at a temperature fitted on validation images.

    Nothing that goes wrong with these images, or in the trainer of a plugin that is asked about them, makes a finished
    run fail: there is no temperature then, and `reason` says why. (Of several processes all must know of it.)
    """
    before = measure(predictions.at_temperature())
    unscaled = {"before": before, "temperature": None, "images": 0, "reason": "", "exact": True, "after": None}
    try:
        images = heldout_images(trainer)
        temperature = fit_temperature(heldout_logits(trainer, images), np.array([item.label for item in images]))
    except Exception as error:
        if size() > 1 and not isinstance(error, ValueError | RankError):
            raise  # other processes may not have come here
        words = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return unscaled | {"reason": " ".join(words.split())[:MOST_REASON]}
    after = measure(predictions.at_temperature(temperature))
    exact = predictions.top is None
    return unscaled | {"temperature": temperature, "images": len(images), "after": after, "exact": exact}


def _protocol(cfg: CfgNode, trainer: Any, mode: str, checkpoint: str | None) -> str | None:
    """Say what makes the result no fair one: in the trainer's words, or that what it could learn has not learned."""
    learns = any(optim is not None for optim in getattr(trainer, "_optims", {}).values())
    trained = mode == "train" and (trainer.max_epoch > 0 or trainer.start_epoch > 0)
    loaded = checkpoint or getattr(trainer, "loaded_checkpoint", None) or cfg.MODEL.INIT_WEIGHTS
    untrained = UNTRAINED if learns and not trained and not loaded else None
    return getattr(trainer, "protocol", None) or untrained


def _final_checkpoint(cfg: CfgNode, trainer: Any) -> str | None:
    """Return the file of the tested weights, relative to OUTPUT_DIR; None for methods that save nothing."""
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
    """Return {model: SHA-256} of the checkpoint that was tested and of those of the other models beside it."""
    files = {name: beside(tested, name) for name in (tested.parent.name, *names)}
    return {name: checksum(file) for name, file in files.items() if file.is_file()}


def _describe_data(trainer: Any) -> dict[str, Any] | None:
    """Return sizes, class names and the fingerprint of the data set, which tells whether another one is the same."""
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
    """Return the SHA-256 (hex) over the keys that decide what comes out, with their values."""
    return hashlib.sha256(json.dumps(effective(flatten(config)), sort_keys=True, default=str).encode()).hexdigest()


def _json_ready(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json_ready(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json_ready(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return _json_ready(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, int | str) else str(value)


# --- what it was made with -------------------------------------------------------------------------------


def _peak_memory_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def versions() -> dict[str, str]:
    """Return the versions of the interpreter, the libraries and this program."""
    try:
        project = importlib.metadata.version("plot-prompt-learning")
    except importlib.metadata.PackageNotFoundError:  # used from the checkout
        project = f"dassl {dassl.__version__}"
    libraries = {module.__name__: module.__version__ for module in (torch, torchvision, np)}
    return {"python": platform.python_version(), **libraries, "project": project, "commit": commit_of_program()}


@cache
def commit_of_program() -> str:
    """Return the git commit of the program that runs, with -dirty where its files have changed since.

    It is "" where git knows none, and looked up once: a process goes on with the code that it has loaded.
    """
    program = Path(getattr(sys.modules["__main__"], "__file__", None) or "here").resolve().parent
    commit = _git(program, "rev-parse", "--short=12", "HEAD")
    changed = commit and _git(program, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *command: str) -> str:
    """Return what git says about the repository of `folder`, without locking it; "" where it says nothing."""
    words = ["git", "--no-optional-locks", "-C", str(folder), *command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
