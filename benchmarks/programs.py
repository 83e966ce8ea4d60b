"""Whole programs, old against new: the test of a finished run, and a small sweep."""
from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dassl.engine import build_trainer
from runs.config import request_of
from runs.record import read_result
from runs.sweeps.sweep import parse_args, plan_jobs

from .measure import Row, Step
from .subjects import RESOLUTION, class_names, clip_model

ROOT = Path(__file__).resolve().parents[1]
KEEP_NOTHING = ("FEATURE_CACHE.USE", "False", "DATALOADER.KEEP_MB", "0")


FEW_SHOT = 16  # most shots


@contextlib.contextmanager
def world(backbone: str, classes: int, shots: int, images: int) -> Iterator[Path]:
    """A folder with weights of the real size and made-up pictures: `shots` of each class to train, `images` to test."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.save(clip_model(backbone).state_dict(), folder / "weights.pt")
        random = np.random.default_rng(0)
        names = class_names(classes)
        for split, count in (("train", classes * shots), ("test", images)):
            for i in range(count):
                path = folder / "photos" / split / names[i % classes] / f"{i:05d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                coarse.resize((RESOLUTION + 32, RESOLUTION), Image.Resampling.BICUBIC).save(path)
        yield folder


def options(folder: Path, prompts: int, context: int, batch: int) -> list[str]:
    """KEY VALUE pairs that both sides have."""
    pairs: dict[str, Any] = {
        "MODEL.BACKBONE.NAME": folder / "weights.pt", "FEATURE_CACHE.DIR": folder / "features",
        "DATALOADER.NUM_WORKERS": 0, "DATALOADER.TRAIN_X.BATCH_SIZE": batch, "USE_CUDA": False,
        "TRAINER.PLOT.N": prompts, "TRAINER.PLOT.N_CTX": context, "TRAINER.PLOT.PREC": "fp32",
        "TRAINER.COOP.N_CTX": context, "TRAINER.COOP.PREC": "fp32",
    }  # fmt: skip
    return [str(word) for pair in pairs.items() for word in pair]


# --- a test ----------------------------------------------------------------------------------------------


def evaluation(
    side: str, backbone: str, classes: int, prompts: int, context: int, batch: int, folder: str, warm: bool
) -> Step:
    """Logits of all test images.  Cold: the cache is empty at the start of every step; warm: it is not."""

    if side == "old":
        from .original_trainers import install

        install()
    place = Path(folder)
    argv = [
        "--root", str(place / "photos"), "--seed", "1", "--trainer", "PLOT",
        "--dataset-config-file", str(ROOT / "configs/datasets/folder.yaml"),
        "--config-file", str(ROOT / "configs/trainers/PLOT/rn50.yaml"), *options(place, prompts, context, batch),
    ]  # fmt: skip
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        cfg = request_of(argv).cfg
        trainer = build_trainer(cfg)
    found: list[Tensor] = []
    count = trainer.evaluator.process

    def process(logits: Tensor, labels: Tensor) -> None:
        found.append(logits)
        count(logits, labels)

    trainer.evaluator.process = process

    def step() -> list[Tensor]:
        found.clear()
        if not warm:
            shutil.rmtree(place / "features", ignore_errors=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            trainer.test()
        return [torch.cat(found)]

    return step


# --- a sweep ---------------------------------------------------------------------------------------------


def sweep(folder: Path, classes: int, prompts: int, context: int, batch: int, epochs: int) -> Row:
    """CoOp and PLOT, 5 shots, 3 seeds: of the original kind, a process for each run, and then as one sweep.

    Once each, as it takes long; the difference is the largest between the test accuracies of a run.
    """
    seconds, accuracies = [], []
    for side in ("old", "new"):
        words = [
            "--root", str(folder / "photos"), "--output", str(folder / side), "--dataset", "folder", "--config", "rn50",
            "--trainers", "CoOp", "PLOT", "--shots", "1", "2", "4", "8", str(FEW_SHOT), "--seeds", "1", "2", "3",
            "OPTIM.MAX_EPOCH", str(epochs), *options(folder, prompts, context, batch),
        ]  # fmt: skip
        jobs = plan_jobs(parse_args(words))
        start = time.perf_counter()
        if side == "old":
            for job in tqdm(jobs, "old sweep", disable=None):
                _call("-m", "benchmarks.original_trainers", *job.argv, *KEEP_NOTHING)
        else:
            _call("scripts/sweep.py", *words)
        seconds.append(time.perf_counter() - start)
        accuracies.append([float((read_result(job.folder) or {})["accuracy"]) for job in jobs])
    difference = max(abs(a - b) for a, b in zip(*accuracies, strict=True)) / 100
    title = f"sweep of {len(jobs)} runs of {epochs} epochs, C = {classes}"
    return Row(title, seconds[0], seconds[1], None, None, math.nan, math.nan, difference)


def _call(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:4])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
