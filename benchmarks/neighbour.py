"""A training step where cores are shared: torch's threads that spin while they wait, against threads that soon sleep.

Long spinning is the default of GNU's OpenMP, which torch has on Linux; `import dassl` makes it short. Processes that
are compared are never there at the same time: one that waits for its turn would be the other's neighbour.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from unittest.mock import patch

import torch
from torch import Tensor

from dassl.utils import set_random_seed

from .measure import NEW, PREPARED, Outcome, Process, Row, Step, largest_difference
from .programs import quiet_trainer

SPINS = {"old": "300000", "new": "1000"}  # GOMP_SPINCOUNT: its default, and ours
STEPS = 3  # measurements of one process


def training_step(side: str, folder: str, threads: int) -> Step:
    """One step of CoOp on the demo's data and CLIP, 32 images; the same batch again and again.

    Parameters
    ----------
    side : str
        Not used: the sides differ in the environment that their processes are started with.
    folder : str
        Where the demo's data are, or are made.
    threads : int
        Threads for torch.
    """
    torch.set_num_threads(threads)
    set_random_seed(1)
    options = ["DATASET.NUM_SHOTS", "16", "DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False"]
    trainer = quiet_trainer("CoOp", folder, "demo", "demo", options)
    images, labels = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    learned = list(trainer.model.prompt_learner.parameters())

    def step() -> list[Tensor]:
        loss = torch.nn.functional.cross_entropy(trainer.model(images), labels)
        return [loss.detach(), *torch.autograd.grad(loss, learned)]

    return step


def rows(repeats: int) -> Iterator[Row]:
    """Measure alone, beside a neighbour, and two at a time with half of the cores each, as `--jobs 2` does."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        whole, half = (partial(training_step, folder=folder, threads=max(1, n)) for n in (cores, cores // 2))
        yield compare("a step of CoOp on the demo, alone", [whole], repeats)
        with neighbour(cores):
            yield compare(f"  beside a process with {cores} busy threads", [whole], repeats)
        yield compare("  two at a time, with half of the cores each", [half, half], repeats)


def compare(subject: str, makers: Sequence[Callable[[str], Step]], repeats: int) -> Row:
    """Compare long with short spinning, in turns.

    Parameters
    ----------
    subject : str
        Title of the row.
    makers : sequence of callable
        Each makes the step of one process; on either side all of them step at the same time.
    repeats : int
        Turns.
    """
    turns: dict[str, list[Outcome]] = {side: [] for side in SPINS}
    for _ in range(repeats):
        for side, spins in SPINS.items():
            turns[side] += _measured(spins, makers)
    old, new = (statistics.median(outcome.seconds for outcome in outcomes) for outcomes in turns.values())
    return Row(subject, old, new, largest_difference(turns["old"][0], turns["new"][0]))


def _measured(spins: str, makers: Sequence[Callable[[str], Step]]) -> list[Outcome]:
    """Run processes that step at the same time; return the slowest outcome of each time."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, GOMP_SPINCOUNT=spins))  # for the processes started below
        processes = [stack.enter_context(Process(NEW, make, get_context("spawn"))) for make in makers]
        pool = stack.enter_context(ThreadPoolExecutor(len(makers)))
        list(pool.map(Process.run, processes))  # finds out how many steps make a turn
        together = [list(pool.map(Process.run, processes)) for _ in range(STEPS)]
    return [max(outcomes, key=lambda outcome: outcome.seconds) for outcomes in together]


@contextlib.contextmanager
def neighbour(threads: int) -> Iterator[None]:
    """Keep that many threads of another process busy within the block."""
    process = PREPARED.Process(target=_keep_busy, args=(threads,), daemon=True)
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
