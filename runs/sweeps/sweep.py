"""Run a grid of trainers, data sets, shots and seeds in one process, which loads models and data once.

Finished runs are skipped, so it can be started again.  `python -m results sweep` is the same command.

    python scripts/sweep.py --root DATA --output OUT --dataset demo --config demo \\
        --trainers ZeroshotCLIP CoOp PLOT --shots 1 4 16 --seeds 1 2 3 [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dassl.plain.console import not_negative, positive
from dassl.utils.plugins import add_plugin_flag, use

from .flags import add_run_flags, add_worker_flags, check_options, options_with_flags, split_options
from .jobs import execute
from .planning import Job, grid

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
    add_plugin_flag(parser)
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
        args.plugins = use(args.plugins)
    except ValueError as error:
        parser.error(str(error))
    return args


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """The jobs that a command line asks for; errors as in `planning.grid`."""
    return grid(
        args.trainers, args.dataset, args.config, args.root, args.output, args.shots, args.seeds, args.opts,
        args.plugins,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status as in the help text."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    return execute(lambda: plan_jobs(args), args.jobs, args.verbose, args.dry_run, args.devices)

