"""Whole programs, old against new: the test of a finished run, and a small sweep.

Both work in a made-up world: a folder of photographs that are noise, and a CLIP of the real size with random weights.
What they learn means nothing; that both sides learn the same, and how long it takes, does.
"""
from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clip.loading.layout import SIZE_KEYS
from dassl.engine import build_trainer
from dassl.utils.logger import quiet
from runs.config import request_of
from runs.record import read_result
from runs.sweeps.sweep import parse_args, plan_jobs

from .measure import Row, Step, measure
from .sizes import RESOLUTION, Sizes
from .subjects import class_names, clip_model

ROOT = Path(__file__).resolve().parents[1]
KEEP_NOTHING = ("FEATURE_CACHE.USE", "False", "DATALOADER.KEEP_MB", "0")
FEW_SHOT = 16  # most shots


@contextlib.contextmanager
def world(sizes: Sizes, shots: int, images: int) -> Iterator[Path]:
    """Make a folder with weights of the real size and made-up pictures, until the end of the block.

    Parameters
    ----------
    sizes : Sizes
        Its backbone and classes.
    shots : int
        Training images of each class.
    images : int
        Test images of all classes together.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = clip_model(sizes.backbone)
        stated = (model.visual.input_resolution, model.context_length, model.vocab_size)  # as OpenAI's archives do
        entries = {name: torch.tensor(size) for name, size in zip(SIZE_KEYS, stated, strict=True)}
        torch.save(model.state_dict() | entries, folder / "weights.pt")
        random = np.random.default_rng(0)
        names = class_names(sizes.classes)
        for split, count in (("train", sizes.classes * shots), ("test", images)):
            for i in range(count):
                path = folder / "photos" / split / names[i % sizes.classes] / f"{i:05d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                coarse.resize((RESOLUTION + 32, RESOLUTION), Image.Resampling.BICUBIC).save(path)
        yield folder


def options(folder: Path, sizes: Sizes) -> list[str]:
    """Return the KEY VALUE pairs that both sides have."""
    pairs: dict[str, Any] = {
        "MODEL.BACKBONE.NAME": folder / "weights.pt", "FEATURE_CACHE.DIR": folder / "features",
        "DATALOADER.NUM_WORKERS": 0, "DATALOADER.TRAIN_X.BATCH_SIZE": sizes.batch, "USE_DEVICE": sizes.device,
        "TRAINER.PLOT.N": sizes.prompts, "TRAINER.PLOT.N_CTX": sizes.context, "TRAINER.PLOT.PREC": "fp32",
        "TRAINER.COOP.N_CTX": sizes.context, "TRAINER.COOP.PREC": "fp32",
    }  # fmt: skip
    return [str(word) for pair in pairs.items() for word in pair]


def quiet_trainer(trainer: str, root: Path | str, dataset: str, method: str, options: list[str]) -> Any:
    """Build a trainer with seed 1, and print nothing.

    Parameters
    ----------
    trainer : str
        Its registered name.
    root : path
        The folder that holds the data.
    dataset, method : str
        Names of config files: configs/datasets/DATASET.yaml, configs/trainers/TRAINER/METHOD.yaml.
    options : list of str
        KEY VALUE pairs.
    """
    configs = ROOT / "configs"
    argv = [
        "--root", str(root), "--seed", "1", "--trainer", trainer,
        "--dataset-config-file", str(configs / f"datasets/{dataset}.yaml"),
        "--config-file", str(configs / f"trainers/{trainer}/{method}.yaml"), *options,
    ]  # fmt: skip
    with quiet():
        return build_trainer(request_of(argv).cfg)


# --- a test ----------------------------------------------------------------------------------------------


def evaluation(side: str, sizes: Sizes, folder: Path, warm: bool) -> Step:
    """Logits of all test images, by the trainer's own test.

    With `warm` the cache of image features is left from step to step; else it is emptied before each.
    """
    if side == "old":
        from .original_trainers import install

        install()
    trainer = quiet_trainer("PLOT", folder / "photos", "folder", "rn50", options(folder, sizes))

    def step() -> list[Tensor]:
        if not warm:
            shutil.rmtree(folder / "features", ignore_errors=True)
        evaluator = trainer.evaluator
        with quiet(), patch.object(evaluator, "process", wraps=evaluator.process) as process:
            trainer.test()
        return [torch.cat([call.args[0] for call in process.call_args_list])]  # logits (K, C) of all K images

    return step


def evaluation_rows(sizes: Sizes, images: int, repeats: int, kept: bool) -> Iterator[Row]:
    """Measure a test with an empty cache of features, and with a full one."""
    with world(sizes, 1, images) as folder:
        for warm in (False, True):
            title = f"test of {images} images, {'warm' if warm else 'cold'} cache, C = {sizes.classes}"
            yield measure(title, partial(evaluation, sizes=sizes, folder=folder, warm=warm), repeats, kept)


# --- a sweep ---------------------------------------------------------------------------------------------


def sweep(sizes: Sizes, images: int, epochs: int) -> Row:
    """Measure CoOp and PLOT on RN50, 5 shots, 3 seeds: as 30 runs of the original kind, and then as one sweep.

    The original has a process for each run. Once each, as it takes long; the difference is the largest between the test
    accuracies of a run.
    """
    sizes = sizes._replace(backbone="RN50")
    seconds, accuracies = [], []
    with world(sizes, FEW_SHOT, images) as folder:
        for side in ("old", "new"):
            words = [
                "--root", str(folder / "photos"), "--output", str(folder / side), "--dataset", "folder",
                "--config", "rn50", "--trainers", "CoOp", "PLOT", "--shots", "1", "2", "4", "8", str(FEW_SHOT),
                "--seeds", "1", "2", "3", "OPTIM.MAX_EPOCH", str(epochs), *options(folder, sizes),
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
    old, new = seconds
    difference = max(abs(a - b) for a, b in zip(*accuracies, strict=True)) / 100
    return Row(f"sweep of {len(jobs)} runs of {epochs} epochs, C = {sizes.classes}", old, new, difference)


def _call(*words: str) -> None:
    """Run a program of ours in a process of its own; RuntimeError with the end of what it said where it fails."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:4])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
