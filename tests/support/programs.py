"""A small world for tests that run train.py: the synthetic Caltech101 and the tiny CLIPs."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import trainers  # noqa: F401  (registers the methods)
from dassl.engine import TRAINER_REGISTRY
from tests.support import warm
from tests.support.golden_data import tiny_state_dict, write_synthetic_caltech

REPOSITORY = Path(__file__).resolve().parents[2]


def make_world(folder: Path) -> Path:
    """`folder`/data with the data set; `folder`/tiny_rn.pt and tiny_vit.pt with weights."""
    write_synthetic_caltech(folder / "data", per_class=20)
    for name in ("tiny_rn", "tiny_vit"):
        torch.save(tiny_state_dict(name, native=True), folder / f"{name}.pt")
    return folder


ADAPTERS = ("TipAdapter", "TipAdapterF", "PLOTAdapter")
CONFIGS = {"PLOT": "PLOT/rn50", "PLOTPP": "PLOTPP/vit", **{name: f"{name}/rn50" for name in ADAPTERS}}  # else CoOp's


def arguments(world: Path, output: Path, *options: str, trainer: str = "PLOT", seed: int = 1, flags=()) -> list[str]:
    """Command line of a short run: 2 shots, 3 epochs of 4 steps; PLOTAdapter starts from a run that is made once."""
    weights, side = ("tiny_vit.pt", 64) if trainer == "PLOTPP" else ("tiny_rn.pt", 96)
    small = {"PREC": "fp32", "N_CTX": "4", "TOPK": "(2,)", "AUGMENT_EPOCH": "2", "SEARCH_STEP": "(6, 5)"}
    own = own_options(trainer, small)
    if trainer == "PLOTAdapter":
        own |= {"PRETRAIN_DIR": str(plot_run(world, seed))}
    return [
        "--root", str(world / "data"), "--seed", str(seed), "--trainer", trainer,
        "--dataset-config-file", "configs/datasets/caltech101.yaml",
        "--config-file", f"configs/trainers/{CONFIGS.get(trainer, 'CoOp/rn50')}.yaml",
        "--backbone", str(world / weights), "--output-dir", str(output), *flags,
        "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "3", "DATALOADER.TRAIN_X.BATCH_SIZE", "4",
        "DATALOADER.NUM_WORKERS", "0", "INPUT.SIZE", f"({side}, {side})", "USE_CUDA", "False",
        *(word for key, value in own.items() for word in (f"TRAINER.{trainer.upper()}.{key}", value)), *options,
    ]


def own_options(trainer: str, wanted: dict[str, str]) -> dict[str, str]:
    """Those of the wanted values whose keys the trainer has; of TOPK only where it is set to begin with."""
    kind = TRAINER_REGISTRY.get(trainer).options_type
    defaults = kind.defaults() if kind else {}
    return {key: value for key, value in wanted.items() if key in defaults and (key != "TOPK" or defaults[key])}


def plot_run(world: Path, seed: int) -> Path:
    """A finished run of PLOT, one epoch long."""
    import train

    folder = world / f"plot-of-seed{seed}"
    if not (folder / "result.json").exists():
        train.run(arguments(world, folder, "OPTIM.MAX_EPOCH", "1", seed=seed))
    return folder


def failure(capsys, argv: list[str]) -> str:
    """What train.py says of a command line that it refuses."""
    import train

    assert train.main(argv) != 0
    message = capsys.readouterr().err
    assert message.startswith("error: "), message
    return message


def command(*argv: str, **kwargs) -> subprocess.CompletedProcess:
    """train.py as a process of its own."""
    return warm.run([sys.executable, "train.py", *argv], cwd=REPOSITORY, **kwargs)
