"""The commands that look into one trained run: they rebuild it, so they need its backbone, and most its data."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from .command import Command
from .tables import FORMATS


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


def positive(text: str) -> float:
    """argparse shows the message of its error."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number; the original's epsilon is 0.1")
    return value


def ablate_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    eps = "of the transport, besides the run's own; default: 0.01 0.02 0.05 0.1 0.2 0.5 1"
    parser.add_argument("--eps", metavar="E", nargs="+", type=positive, default=[], help=eps)
    names = "of ot, uniform, max, global; default: all. The run's own is always among them"
    parser.add_argument("--matchings", metavar="NAME", nargs="+", default=[], help=names)
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="of the table; default: text")
    parser.add_argument("--out", metavar="DIR", help="for ablation.png and ablation.svg; default: RUN")


def ablate(args: argparse.Namespace) -> int:
    from .ablation import run_command

    out = Path(args.out) if args.out else None
    folder, moved = Path(args.folder), (args.backbone, args.root)
    run_command(folder, args.eps, args.matchings, out, args.format, *moved, args.verbose)
    return 0


COMMANDS = (
    Command(
        "ablate",
        "Does the transport matter? One PLOT run, tested again under every matching",
        "Tests the prompts of a finished PLOT or PLOTPP run under ot at several epsilon, uniform, max and global: "
        "a table, RUN/ablation.json (which `report` shows) and a figure. Needs the run's data and backbone.",
        """\
  python -m results ablate output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
  python -m results ablate RUN --eps 0.05 0.1 0.2 --matchings ot uniform --format csv""",
        ablate_arguments,
        ablate,
    ),
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
