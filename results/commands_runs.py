"""The commands that look into one trained run: they rebuild it, so they need its backbone, and most its data."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import Command, deliver


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


def words_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--top", type=int, default=3, metavar="K", help="words a vector; default: 3")
    parser.add_argument(
        "--class",
        dest="classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="of class-specific contexts (CSC) those of these classes; default: all",
    )
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text", help="default: text")
    parser.add_argument("--out", metavar="FILE", help="write there instead of to the console")


def words(args: argparse.Namespace) -> int:
    from .words import find_words, format_words

    run = Path(args.folder)
    found = find_words(run, args.top, args.classes, args.backbone, args.root, args.verbose)
    deliver(format_words(found, args.format, run), args.out)
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
    Command(
        "words",
        "The vocabulary words nearest to each learned context vector",
        "Needs the run's checkpoint and backbone, and no data. Of CoOp, CoCoOp, PLOT and PLOTPP.",
        """\
  python -m results words output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
  python -m results words RUN --top 5 --format json --out words.json
  python -m results words RUN --class cat dog        # of a run with CSC""",
        words_arguments,
        words,
    ),
)
