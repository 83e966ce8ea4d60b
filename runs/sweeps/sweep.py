r"""Run a grid of trainers, data sets, shots and seeds in one process, skipping what is complete.

Some examples:
  everything that the demo shows:
    python scripts/sweep.py --root data --output output/demo --dataset demo --config demo
  PLOT with 2 and then with 4 prompts, on one data set:
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \
        --trainers PLOT --shots 1 2 4 8 16 TRAINER.PLOT.N 2
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \
        --trainers PLOT --shots 1 2 4 8 16 TRAINER.PLOT.N 4

  a cache beside hand-written prompts, and beside PLOT's (which run first):
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \
        --trainers TipAdapter TipAdapterF PLOT PLOTAdapter --shots 16

  few shots as GalLoP's tables have them, in proportion to the classes' sizes, in folders of their own:
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \
        --trainers CoOp PLOT --shots 16 DATASET.DRAW proportional

  twenty seeds, which take seconds each where the image features are computed once (VIEWS, of frozen encoders):
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \
        --trainers CoOp PLOT --shots 4 --seeds 1-20 DATALOADER.TRAIN_X.VIEWS 8

  two data sets, on two GPUs with two runs each:
    python scripts/sweep.py --root DATA --output output --dataset caltech101 dtd --config rn50 \
        --trainers CoOp PLOT --jobs 4 --devices 0,1

  as jobs of Slurm, of which each has a GPU; again, it submits what is missing (docs/scale.md):
    python scripts/sweep.py --root DATA --output output --dataset caltech101 dtd --config rn50 \
        --trainers CoOp PLOT PLOTAdapter --cluster slurm --partition gpu --gpus 1 --cpus 8 --time 4:00:00
  in a process that goes on without the terminal, two runs at a time:
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 --cluster local --jobs 2

Each run has its own folder in OUTPUT, under the original's names; its log.txt holds what it printed.  A run is
skipped when its result.json says that it is complete; an interrupted one goes on from its last
finished epoch.  The process loads models and data once.
`python -m results table OUTPUT` shows what came out.  `python -m results sweep` is the same command as this one.

With --cluster the command ends when the jobs are submitted; `python -m results status OUTPUT` shows how far they are.

exit status: 0 all runs complete (with --cluster: submitted), 1 some failed (they are listed), 2 bad command line,
130 interrupted, 143 stopped by SIGTERM.
"""

# The text above is what `python scripts/sweep.py --help` prints.

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from dassl.plain.console import NumberRanges

from ..command_line import documented_parser
from .flags import add_sweep_flags, finish_args, split_options
from .jobs import execute
from .planning import DEFAULT_GRID, Job, grid

OWN_KEYS = {  # config keys that a flag of the sweep sets
    "SEED": "--seeds",
    "RESUME": "the same command again",
    "OUTPUT_DIR": "--output",
    "DATASET.NUM_SHOTS": "--shots",
    "DATASET.NAME": "--dataset",
    "DATASET.ROOT": "--root",
    "TRAINER.NAME": "--trainers",
}
ONE_VALUE = ("--root", "--output", "--config")  # flags whose value may look like a config key


def build_parser() -> argparse.ArgumentParser:
    """Declare the flags of the sweep; the KEY VALUE pairs behind them are split off before (`parse_args`)."""
    parser = documented_parser(__doc__, prog="scripts/sweep.py")
    add = parser.add_argument
    add("--root", required=True, metavar="DIR", help="folder that holds the data sets")
    add("--output", required=True, metavar="DIR", help="parent of all run folders")
    add("--dataset", required=True, nargs="+", metavar="NAME", help="name(s) in configs/datasets, e.g. caltech101")
    add("--config", required=True, metavar="NAME", help="name in configs/trainers/<trainer>, e.g. rn50")
    default = {name: f"default: {' '.join(map(str, values))}" for name, values in DEFAULT_GRID.items()}
    add("--trainers", nargs="+", default=[], metavar="NAME", help=default["trainers"])
    ranges: dict[str, Any] = {"nargs": "+", "default": [], "action": NumberRanges}
    add("--shots", **ranges, least=1, metavar="K", help=f"images a class; {default['shots']}")
    add("--seeds", **ranges, metavar="S", help=f"as in 1 2 or 1-20; {default['seeds']}")
    add_sweep_flags(parser)
    parser.usage = parser.format_usage().removeprefix("usage: ").rstrip() + " [KEY VALUE ...]"
    return parser


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Read the flags, and as `opts` the KEY VALUE pairs behind them.

    Bad input ends the program with status 2 and a message, as argparse does.
    """
    words, options = split_options(argv, ONE_VALUE)
    parser = build_parser()
    args = parser.parse_args(words)
    finish_args(parser, args, options, OWN_KEYS, "sweep")
    return args


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """Plan the jobs that a command line asks for; errors as in `planning.grid`."""
    axes = (args.trainers, args.dataset, args.config, args.root, args.output, args.shots, args.seeds)
    return grid(*axes, args.opts, args.plugins)


def main(argv: list[str] | None = None) -> int:
    """Run the command line, by default that of the program; returns the exit status as in the help text."""
    return execute(plan_jobs, parse_args(sys.argv[1:] if argv is None else argv))
