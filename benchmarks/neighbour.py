"""A training step where cores are shared: torch's threads that spin while they wait, against threads that soon sleep.

Long spinning is the default of GNU's OpenMP, which torch has on Linux; `import dassl` makes it short. Processes that
are compared are never there at the same time: one that waits for its turn would be the other's neighbour.
"""
from __future__ import annotations

import contextlib
import hashlib
import math
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from dassl.engine import build_trainer
from runs.config import request_of

from .measure import Outcome, Process, Row, Side, Step, relative_difference

ROOT = Path(__file__).resolve().parents[1]
SPINS = {"old": "300000", "new": "1000"}  # GOMP_SPINCOUNT: its default, and ours
STEPS = 3  # measurements of one process


def training_step(side: str, folder: str, threads: int) -> Step:
    """One step of CoOp on the demo's data and CLIP, 32 images; the same batch again and again."""
    from dassl.utils import set_random_seed

    torch.set_num_threads(threads)
    argv = [
        "--root", folder, "--seed", "1", "--trainer", "CoOp", "--device", "cpu",
        "--dataset-config-file", str(ROOT / "configs/datasets/demo.yaml"),
        "--config-file", str(ROOT / "configs/trainers/CoOp/demo.yaml"),
        "DATASET.NUM_SHOTS", "16", "DATALOADER.NUM_WORKERS", "0",
    ]  # fmt: skip
    set_random_seed(1)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        cfg = request_of(argv).cfg
        trainer = build_trainer(cfg)
    images, labels = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    learned = list(trainer.model.prompt_learner.parameters())

    def step() -> list[Tensor]:
        loss = torch.nn.functional.cross_entropy(trainer.model(images), labels)
        return [loss.detach(), *torch.autograd.grad(loss, learned)]

    return step


def rows(repeats: int) -> Iterator[Row]:
    """Alone, beside a neighbour, and two at a time with half of the cores each, as in a sweep with `--jobs 2`."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        whole, half = ({"folder": folder, "threads": max(1, count)} for count in (cores, cores // 2))
        yield compare("a step of CoOp on the demo, alone", [whole], repeats)
        with neighbour(cores):
            yield compare(f"  beside a process with {cores} busy threads", [whole], repeats)
        yield compare("  two at a time, with half of the cores each", [half, half], repeats)


def compare(subject: str, settings: Sequence[Mapping[str, object]], repeats: int) -> Row:
    """As many processes a side as there are `settings`, which step at the same time; the sides in turns."""
    turns: dict[str, list[Outcome]] = {side: [] for side in SPINS}
    for _ in range(repeats):
        for side in SPINS:
            turns[side] += _measured(side, settings)
    old, new = (statistics.median(outcome.seconds for outcome in outcomes) for outcomes in turns.values())
    pairs = zip(turns["old"][0].arrays, turns["new"][0].arrays, strict=True)
    return Row(subject, old, new, None, None, math.nan, math.nan, max(relative_difference(a, b) for a, b in pairs))


def _measured(side: str, settings: Sequence[Mapping[str, object]]) -> list[Outcome]:
    """Of processes that step at the same time, the slowest one each time."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, GOMP_SPINCOUNT=SPINS[side]))  # for the processes started below
        kind = Side(side, side, keeps_memory=True)
        processes = [stack.enter_context(Process(kind, training_step, one)) for one in settings]
        pool = stack.enter_context(ThreadPoolExecutor(len(settings)))
        list(pool.map(Process.run, processes))  # finds out how many steps make a turn
        together = [list(pool.map(Process.run, processes)) for _ in range(STEPS)]
    return [max(outcomes, key=lambda outcome: outcome.seconds) for outcomes in together]


@contextlib.contextmanager
def neighbour(threads: int) -> Iterator[None]:
    """A process of somebody else's that keeps so many threads busy."""
    process = get_context("spawn").Process(target=_keep_busy, args=(threads,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _keep_busy(threads: int) -> None:
    def work() -> None:
        data = bytes(1 << 24)
        while True:
            hashlib.sha256(data)  # lets other threads run

    for _ in range(threads):
        threading.Thread(target=work).start()
