"""The commands that look into one trained run: they rebuild it, so they need its backbone, and most its data."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import Command


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of one trained run")
    parser.add_argument("--root", default="", metavar="DIR", help="where the data sets are now, if they have moved")
    parser.add_argument("--backbone", default="", metavar="PATH", help="where the weights are now, if they have moved")
    parser.add_argument("--verbose", action="store_true", help="also show what building the model prints")


def transport_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--images", metavar="FILE", nargs="+", default=[], help="instead of test images")
    parser.add_argument(
        "--count",
        metavar="K",
        type=int,
        default=6,
        help="how many test images, spread over the classes; default: 6",
    )
    parser.add_argument("--out", metavar="DIR", help="default: RUN/transport, where `report` looks")


def transport(args: argparse.Namespace) -> int:
    from .transport import run_command

    run_command(
        Path(args.folder),
        args.images,
        args.count,
        Path(args.out) if args.out else None,
        args.backbone,
        args.root,
        args.verbose,
    )
    return 0


COMMANDS = (
    Command(
        "transport",
        "Heat maps of what each prompt of a PLOT run is matched with",
        "Rebuilds the run, so it needs its data and backbone.",
        """\
  python -m results transport output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
  python -m results transport RUN --images cat.jpg dog.jpg --out heatmaps""",
        transport_arguments,
        transport,
    ),
)
