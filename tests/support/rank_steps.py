"""Steps of a training without a run around it, in one process or in several: what `clip.ranks` must not change."""
from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from runs.config import request_of


def take_steps(argv: Sequence[str], epochs: int) -> dict[str, Any]:
    """Train for some epochs, and test: losses and facts of each step, what is learned, and the accuracy."""
    cfg = request_of(list(argv)).cfg
    with contextlib.redirect_stdout(io.StringIO()):
        set_random_seed(cfg.SEED)
        trainer: Any = build_trainer(cfg)
        trainer.time_start, trainer.max_epoch = 0, epochs
        trainer.before_train()
        losses = []
        trainer.num_batches = len(trainer.train_loader_x)
        for epoch in range(epochs):
            trainer.epoch = epoch
            trainer.set_model_mode("train")
            for number, batch in enumerate(trainer.train_loader_x):
                trainer.batch_idx = number
                losses.append(trainer.forward_backward(batch)["loss"])
        facts = trainer.epoch_facts()
        name = trainer.get_model_names()[0]
        learned = {key: x.detach().clone() for key, x in trainer._models[name].named_parameters() if x.requires_grad}
    return {"losses": losses, "learned": learned, "facts": facts}


def _worker(rank: int, world: int, folder: str, cases: Mapping[str, tuple[Sequence[str], int]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    try:
        answers = {name: take_steps(*case) for name, case in cases.items()}
        torch.save(answers, Path(folder) / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()


def on_processes(world: int, folder: Path, cases: Mapping[str, tuple[Sequence[str], int]]) -> list[dict[str, Any]]:
    """`take_steps` of every case in `world` processes; what each of them says."""
    mp.spawn(_worker, (world, str(folder), dict(cases)), nprocs=world)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(world)]


if __name__ == "__main__":
    sys.exit("a part of tests/trainers/test_ranks.py")
