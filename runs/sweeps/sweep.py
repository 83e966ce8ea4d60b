"""Run a grid of trainers, data sets, shots and seeds in one process, which loads models and data once.

Finished runs are skipped, so it can be started again.  `python -m results sweep` is the same command.

    python scripts/sweep.py --root DATA --output OUT --dataset demo --config demo \\
        --trainers ZeroshotCLIP CoOp PLOT --shots 1 4 16 --seeds 1 2 3 [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings import UNTRAINED
from .flags import (
    add_run_flags,
    add_worker_flags,
    check_options,
    config_file,
    not_negative,
    options_with_flags,
    positive,
    split_options,
)
from .jobs import SECOND_STAGE, Job, execute, own_options

OWN_KEYS = {
    "SEED": "--seeds",
    "RESUME": "the same command again",
    "OUTPUT_DIR": "--output",
    "DATASET.NUM_SHOTS": "--shots",
    "DATASET.NAME": "--dataset",
    "DATASET.ROOT": "--root",
    "TRAINER.NAME": "--trainers",
}
ONE_VALUE = ("--root", "--output", "--config")
EXAMPLES = """examples:
  everything that the demo shows:
    python scripts/sweep.py --root data --output output/demo --dataset demo --config demo
  PLOT with 2 and then with 4 prompts, on one data set:
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \\
        --trainers PLOT --shots 1 2 4 8 16 TRAINER.PLOT.N 2
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \\
        --trainers PLOT --shots 1 2 4 8 16 TRAINER.PLOT.N 4

  a cache beside hand-written prompts, and beside PLOT's (which run first):
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \\
        --trainers TipAdapter TipAdapterF PLOT PLOTAdapter --shots 16

  two data sets, on two GPUs with two runs each:
    python scripts/sweep.py --root DATA --output output --dataset caltech101 dtd --config rn50 \\
        --trainers CoOp PLOT --jobs 4 --devices 0,1

Each run has its own folder in OUTPUT, under the original's names; its log.txt holds what it printed.  A run is
skipped when its result.json says that it is complete; an interrupted one goes on from its last
finished epoch.
`python -m results table OUTPUT` shows what came out.

exit status: 0 all runs complete, 1 some failed (they are listed), 2 bad command line, 130 interrupted,
143 stopped by SIGTERM.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/sweep.py",
        description="Run a grid of trainers, data sets, shots and seeds in one process, skipping what is complete.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--root", required=True, metavar="DIR", help="folder that holds the data sets")
    add("--output", required=True, metavar="DIR", help="parent of all run folders")
    add(
        "--dataset",
        required=True,
        nargs="+",
        metavar="NAME",
        help="name(s) in configs/datasets, e.g. caltech101",
    )
    add("--config", required=True, metavar="NAME", help="name in configs/trainers/<trainer>, e.g. rn50")
    add(
        "--trainers",
        nargs="+",
        default=["ZeroshotCLIP", "CoOp", "PLOT"],
        metavar="NAME",
        help="default: ZeroshotCLIP CoOp PLOT",
    )
    add(
        "--shots",
        nargs="+",
        type=positive,
        default=[1, 4, 16],
        metavar="K",
        help="images a class; default: 1 4 16",
    )
    add("--seeds", nargs="+", type=not_negative, default=[1, 2, 3], metavar="S", help="default: 1 2 3")
    add_worker_flags(parser)
    add_run_flags(parser)
    parser.usage = parser.format_usage().removeprefix("usage: ").rstrip() + " [KEY VALUE ...]"
    return parser


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Flags, and as `opts` the KEY VALUE pairs behind them."""
    flags, options = split_options(argv, ONE_VALUE)
    parser = build_parser()
    args = parser.parse_args(flags)
    args.opts = options_with_flags(args, options)
    try:
        check_options(options, OWN_KEYS, "sweep")
    except ValueError as error:
        parser.error(str(error))
    return args


# --- the runs --------------------------------------------------------------------------------------------


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """Every run of the grid, zero-shot first, and last what starts from other runs.

    Builds all configs, so that a misspelt name or key is found before the first run starts.  Raises what the config
    raises (ValueError, KeyError, OSError).
    """
    jobs = []
    for dataset in dict.fromkeys(args.dataset):
        for trainer in dict.fromkeys(args.trainers):
            if trainer in UNTRAINED:
                jobs.append(_job(args, dataset, trainer, None, None))
                continue
            for shots in dict.fromkeys(args.shots):
                jobs += [_job(args, dataset, trainer, shots, seed) for seed in dict.fromkeys(args.seeds)]
    return sorted(jobs, key=lambda job: (job.stage, job.cfg.TRAINER.NAME not in UNTRAINED))


def _job(args: argparse.Namespace, dataset: str, trainer: str, shots: int | None, seed: int | None) -> Job:
    from ..config import request_of

    argv = ["--root", args.root, "--trainer", trainer]
    argv += ["--dataset-config-file", str(config_file(f"datasets/{dataset}"))]
    family = "CoOp" if trainer in UNTRAINED else trainer  # with whose config the original evaluates them
    argv += ["--config-file", str(config_file(f"trainers/{family}/{args.config}"))]
    options = list(args.opts)
    if shots is None:
        argv.append("--eval-only")
    else:
        argv += ["--seed", str(seed)]
        options = ["DATASET.NUM_SHOTS", str(shots), *options]
    request = request_of([*argv, *options], lambda cfg: Path(args.output) / run_folder(cfg, dataset, args.config))
    place = "" if shots is None else f" {shots} shot{'s' * (shots > 1)} seed {seed}"
    return Job(f"{trainer} {dataset}{place}", request, stage=int(trainer in SECOND_STAGE))


def run_folder(cfg: Any, dataset: str, config: str) -> Path:
    """The original's folder names, from the values that the config really holds."""
    trainer = cfg.TRAINER.NAME
    if trainer in UNTRAINED:
        return Path(trainer, config, dataset)
    options = own_options(cfg)
    folder = Path(dataset, trainer, f"{config}_{cfg.DATASET.NUM_SHOTS}shots")
    if "N_CTX" in options:
        position = options.get("CLASS_TOKEN_POSITION", "end")
        folder /= f"nctx{options['N_CTX']}_csc{options.get('CSC', False)}_ctp{position}"
    if "N" in options:
        folder = Path(f"OP_N{options['N']}" + (f"_M{options['M']}" if "M" in options else "")) / folder
    return folder / f"seed{cfg.SEED}"


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status as in the help text."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    return execute(lambda: plan_jobs(args), args.jobs, args.verbose, args.dry_run, args.devices)

