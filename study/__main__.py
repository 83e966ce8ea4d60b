"""When does the transport matter? Draw the worlds, train under every matching, compare.

Each step goes on where it stopped: pictures that are there are kept, and complete runs skipped.

Examples
--------
  python -m study run --jobs 2               # pictures and runs, to output/study
  python -m study run --dry-run              # list the runs and how far they are
  python -m study run --seeds 1 --jobs 2     # a first look
  python -m study analyse                    # tables and figures of what is complete, to output/study
  python -m study analyse --figures docs     # the figures of docs/transport.md
"""

# The text above is what `python -m study --help` prints.

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dassl.plain.console import not_negative
from runs.command_line import documented_parser
from runs.sweeps.flags import add_sweep_flags, finish_args


def build_parser() -> argparse.ArgumentParser:
    """Declare the steps and their flags."""
    parser = documented_parser(__doc__, prog="python -m study")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    run = steps.add_parser("run", help="draw the worlds and make the runs of the design that are not complete")
    run.add_argument("--seeds", nargs="+", type=not_negative, default=[], metavar="S", help="only these; default: all")
    add_sweep_flags(run)
    analyse = steps.add_parser("analyse", help="compare the complete runs, and write tables and figures")
    analyse.add_argument("--figures", type=Path, metavar="DIR", help="where figures go; default: OUTPUT")
    for step in (run, analyse):
        step.add_argument("--output", type=Path, default=Path("output/study"), metavar="DIR",
            help="folder of the study (default: output/study)")  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: that of the sweep for `run`."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.step == "analyse":
        from .analysis import analyse

        return analyse(args.output, args.figures or args.output)
    from demo.worlds import write_world
    from runs.sweeps.jobs import execute

    from .design import WORLDS, plan_jobs

    finish_args(parser, args, [], {}, "study")
    if not args.dry_run:
        for world in WORLDS.values():
            write_world(args.output / "worlds", world)
    return execute(lambda args: plan_jobs(args.output, args.seeds, args.opts), args)


if __name__ == "__main__":
    sys.exit(main())
