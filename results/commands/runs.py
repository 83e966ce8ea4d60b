"""The commands that look into one trained run: they rebuild it, so they need its backbone, and most its data."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.trust import add_trust_paths

from ..looking.choosing import CLAIMS_FORMATS, COUNT, FORMATS, Choice
from ..tables.tables import FORMATS as TABLE_FORMATS
from .command import Command, deliver


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of one trained run")
    parser.add_argument("--root", default="", metavar="DIR", help="where the data sets are now, if they have moved")
    parser.add_argument("--backbone", default="", metavar="PATH", help="where the weights are now, if they have moved")
    add_trust_paths(parser)
    parser.add_argument("--verbose", action="store_true", help="also show what building the model prints")


def rebuilding(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_run` says of how to rebuild the run."""
    return {"backbone": args.backbone, "root": args.root, "verbose": args.verbose}


def add_pictures(parser: argparse.ArgumentParser, formats: Sequence[str], what: str) -> None:
    parser.add_argument("--formats", metavar="FORMAT", nargs="+", choices=formats, default=formats,
                        help=f"{what}, of {', '.join(formats)}; default: all")
    parser.add_argument("--out", metavar="DIR", help="default: RUN/transport, where `report` looks")


def transport_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add = parser.add_argument
    add("--images", metavar="FILE|DIR", nargs="+", default=[], help="pictures, or folders of them; need no data")
    add("--class", metavar="NAME", nargs="+", default=[], dest="classes", help="only test images of these classes")
    add("--wrong", action="store_true", help="only test images that the run takes for another class")
    add("--count", metavar="K", type=int, help=f"how many test images, spread over the classes; default: {COUNT}")
    add_pictures(parser, FORMATS, "what to write of each image")


def transport(args: argparse.Namespace) -> int:
    from ..looking.transport import run_command

    return run_command(
        Path(args.folder),
        Choice(args.images, args.classes, args.wrong, args.count),
        Path(args.out) if args.out else None,
        args.formats,
        **rebuilding(args),
    )


def claims_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add = parser.add_argument
    add("--class", metavar="NAME", nargs="+", default=[], dest="classes", help="only within these classes")
    add("--of", choices=("true", "predicted"), default="true", help="the class whose prompts are asked; default: true")
    add("--count", metavar="K", type=int, default=COUNT, help=f"how many images a prompt; default: {COUNT}")
    add_pictures(parser, CLAIMS_FORMATS, "what to write")


def claims(args: argparse.Namespace) -> int:
    from ..looking.claims import run_command

    return run_command(
        Path(args.folder),
        args.classes,
        args.of,
        args.count,
        Path(args.out) if args.out else None,
        args.formats,
        **rebuilding(args),
    )


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
    from ..looking.words import find_words, format_words

    run = Path(args.folder)
    found = find_words(run, args.top, args.classes, **rebuilding(args))
    deliver(format_words(found, args.format, run), args.out)
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
    parser.add_argument("--format", choices=tuple(TABLE_FORMATS), default="text", help="of the table; default: text")
    parser.add_argument("--out", metavar="DIR", help="for ablation.png and ablation.svg; default: RUN")


def ablate(args: argparse.Namespace) -> int:
    from ..looking.ablation import run_command

    out = Path(args.out) if args.out else None
    run_command(Path(args.folder), args.eps, args.matchings, out, args.format, **rebuilding(args))
    return 0


def map_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    methods = "default: pca; tsne needs scikit-learn (pip install -e '.[map]')"
    parser.add_argument("--method", choices=("pca", "tsne"), default="pca", help=methods)
    which = "up to 10; default: 8, spread evenly"
    parser.add_argument("--class", "--classes", nargs="+", default=[], dest="classes", metavar="NAME", help=which)
    parser.add_argument("--count", type=int, default=6, metavar="K", help="test images a class; default: 6")
    default = "default: RUN/map/METHOD with each of .png, .svg and .npz"
    parser.add_argument("--out", nargs="+", metavar="FILE", help=f".png, .svg, .pdf or .npz (the numbers); {default}")


def feature_map(args: argparse.Namespace) -> int:
    from runs.files import say

    from ..figures.map_figures import draw_map
    from ..figures.plotting import drawing, save_figure
    from ..looking.maps import FOLDER, map_run, save_arrays

    run = Path(args.folder)
    targets = [Path(name) for name in args.out or ()]
    targets = targets or [run / FOLDER / f"{args.method}.{kind}" for kind in ("png", "svg", "npz")]
    found = map_run(run, args.method, args.classes, args.count, **rebuilding(args))
    with drawing():
        figure = draw_map(found)
        for path in targets:
            written = save_arrays(found, path) if path.suffix == ".npz" else save_figure(figure, path)
            say(f"written: {written}")
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
        """For each image a map a prompt, for the class that it is taken for
and for its true class: orange where the prompt receives more mass than an even spread, purple where less.
Beside the pictures lie arrays (npz), and index.json, which lists what the last call made.

Test images are read from the run's data set. --images needs no data: the true class is then known only for files
below the root of the data set. Runs of PLOTPP have no places: the plan itself is drawn, visual by text prompts.
Files that are no images are named and skipped: exit status 1, or 2 if none was left.""",
        """\
  python -m results transport output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
  python -m results transport RUN --wrong --count 20            # only what it gets wrong
  python -m results transport RUN --class "ice cream" church    # of these classes
  python -m results transport RUN --images photos/ cat.jpg --formats png --out heatmaps""",
        transport_arguments,
        transport,
    ),
    Command(
        "claims",
        "Which test images each prompt of a PLOT run claims most: a contact sheet, and a list",
        """The transport gives every
prompt the same mass of every image, so mass tells nothing. With plan T and similarity S of an image and its true class,
the claim of prompt n is
    N * sum_m T[m, n] S[m, n]  -  the mean of that over the N prompts:
how much more similar what it receives is than what the others receive. Claims on an image sum to 0; images are ranked
within each prompt. The test is passed as the run's own, in its batches and through the feature cache.

Writes claims.png, claims.svg and claims.json (files and values), with --class claims-NAME.*.""",
        """\
  python -m results claims RUN
  python -m results claims RUN --class "ice cream" --count 10      # within one class
  python -m results claims RUN --of predicted --formats json --out claims""",
        claims_arguments,
        claims,
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
    Command(
        "map",
        "Prompts and image features of some classes, in the plane",
        "Rebuilds the run, so it needs its data and backbone. Of CoOp, PLOT and PLOTPP.",
        """\
  python -m results map output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
  python -m results map RUN --method tsne --class cat dog horse --count 20 --out map.png""",
        map_arguments,
        feature_map,
    ),
)
