"""When does the transport matter? Draw the worlds, train under every matching, compare.

Each step goes on where it stopped: pictures that are there are kept, and complete runs skipped.

Some examples:
  python -m study run --jobs 2               # pictures and runs, to output/study
  python -m study run --dry-run              # list the runs and how far they are
  python -m study run --seeds 1 --jobs 2     # a first look
  python -m study analyse                    # tables and figures of what is complete, to output/study
  python -m study analyse --pages docs       # the tables and figures of docs/transport.md
"""

# The text above is what `python -m study --help` prints.

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dassl.plain.console import NumberRanges, run_command
from dassl.plain.writing import disk_failed
from runs.command_line import documented_parser
from runs.files import ResultsError
from runs.sweeps.flags import add_sweep_flags, finish_args


def build_parser() -> argparse.ArgumentParser:
    """Declare the steps and their flags."""
    parser = documented_parser(__doc__, prog="python -m study")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    def step(name: str, meaning: str) -> argparse.ArgumentParser:
        sub = steps.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        sub.add_argument("--output", type=Path, default=Path("output/study"), metavar="DIR",
            help="folder of the study (default: output/study)")  # fmt: skip
        return sub

    run = step("run", "draw the worlds and make the runs of the design that are not complete")
    run.add_argument("--seeds", nargs="+", action=NumberRanges, least=0, default=[], metavar="S",
        help="only these, as in 1 2 or 1-5; default: all")  # fmt: skip
    add_sweep_flags(run)
    analyse = step("analyse", "compare the complete runs, and write tables and figures")
    analyse.add_argument("--pages", type=Path, metavar="DIR", help="where tables and figures go; default: OUTPUT")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: that of the sweep for `run`."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.step == "analyse":
        from .analysis import analyse

        return run_command(lambda: analyse(args.output, args.pages or args.output), (ResultsError,), disk_failed)
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
