"""Whole programs, old against new: the test of a finished run, and a small sweep."""
from __future__ import annotations

import contextlib
import os
import shutil
import statistics
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

from dassl.engine.record import read_result
from scripts.sweep import parse_args, plan_jobs

from .measure import Row, Step
from .subjects import RESOLUTION, class_names, clip_model

ROOT = Path(__file__).resolve().parents[1]
KEEP_NOTHING = ("FEATURE_CACHE.USE", "False", "DATALOADER.KEEP_MB", "0")


# --- a test ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def evaluation_world(backbone: str, classes: int, images: int) -> Iterator[Path]:
    """A folder with weights of the real size and pictures of `classes` kinds: one each to train, `images` to test."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.save(clip_model(backbone).state_dict(), folder / "weights.pt")
        random = np.random.default_rng(0)
        names = class_names(classes)
        for split, count in (("train", classes), ("test", images)):
            for i in range(count):
                path = folder / "photos" / split / names[i % classes] / f"{i:05d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                coarse.resize((RESOLUTION + 32, RESOLUTION), Image.Resampling.BICUBIC).save(path)
        yield folder


def evaluation(
    side: str, backbone: str, classes: int, prompts: int, context: int, batch: int, folder: str, warm: bool
) -> Step:
    """Logits of all test images.  Cold: the cache is empty at the start of every step; warm: it is not."""
    import train

    if side == "old":
        from .original_trainers import install

        install()
    cache = Path(folder) / "features"
    argv = [
        "--root", str(Path(folder) / "photos"), "--seed", "1", "--trainer", "PLOT", "--backbone",
        str(Path(folder) / "weights.pt"), "--dataset-config-file", str(ROOT / "configs/datasets/folder.yaml"),
        "--config-file", str(ROOT / "configs/trainers/PLOT/rn50.yaml"),
        "TRAINER.PLOT.N", str(prompts), "TRAINER.PLOT.N_CTX", str(context), "TRAINER.PLOT.PREC", "fp32",
        "DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False", "FEATURE_CACHE.DIR", str(cache),
    ]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        cfg, _ = train.setup_cfg(train.build_parser().parse_args(argv))
        trainer = train.build_trainer(cfg)
    found: list[Tensor] = []
    count = trainer.evaluator.process

    def process(logits: Tensor, labels: Tensor) -> None:
        found.append(logits)
        count(logits, labels)

    trainer.evaluator.process = process

    def step() -> list[Tensor]:
        found.clear()
        if not warm:
            shutil.rmtree(cache, ignore_errors=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            trainer.test()
        return [torch.cat(found)]

    return step


# --- a sweep ---------------------------------------------------------------------------------------------


def sweep(epochs: int, repeats: int) -> Row:
    """CoOp and PLOT, 5 shots, 3 seeds, on the demo world: a process for each run of the original kind, and one sweep.

    The difference is that of the test accuracies, in images of all that were tested.
    """
    seconds: dict[str, list[float]] = {"old": [], "new": []}
    accuracies: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for turn in range(repeats):
            for side in seconds:
                output = Path(temporary) / f"{side}{turn}"
                words = [
                    "--root", str(ROOT / "data"), "--output", str(output), "--dataset", "demo", "--config", "demo",
                    "--trainers", "CoOp", "PLOT", "--shots", "1", "2", "4", "8", "16", "--seeds", "1", "2", "3",
                    "OPTIM.MAX_EPOCH", str(epochs), "USE_CUDA", "False",
                ]
                jobs = plan_jobs(parse_args(words))
                start = time.perf_counter()
                if side == "old":
                    for job in tqdm(jobs, "old sweep", disable=None):
                        _call("-m", "benchmarks.original_trainers", *job.argv, *KEEP_NOTHING)
                else:
                    environment = {"PLOT_FEATURE_CACHE": str(Path(temporary) / f"features{turn}")}
                    _call("scripts/sweep.py", *words, **environment)
                seconds[side].append(time.perf_counter() - start)
                accuracies[side] = [float((read_result(job.folder) or {})["accuracy"]) for job in jobs]
    difference = max(abs(a - b) for a, b in zip(*accuracies.values(), strict=True)) / 100
    old, new = (statistics.median(seconds[side]) for side in ("old", "new"))
    nothing = float("nan")
    return Row(f"sweep of {len(jobs)} runs, {epochs} epochs", old, new, None, None, nothing, nothing, difference)


def _call(*words: Any, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:4])} failed: {done.stderr.strip()[-2000:]}")
