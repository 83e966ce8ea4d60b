"""The commands that look into one trained run: they rebuild it, so they need its backbone, and most its data."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dassl.plain.devices import add_device_flag
from runs.files import ResultsError
from runs.restore.names import add_run_argument, run_of
from runs.restore.trust import add_trust_paths

from ..inspection.claims import FORMATS as CLAIMS_FORMATS
from ..inspection.images import COUNT, Choice
from ..inspection.rebuilt import RunAtRest
from ..inspection.transport import FORMATS as TRANSPORT_FORMATS
from ..inspection.words import FORMATS as WORDS_FORMATS
from ..numbers.feature_map import METHODS
from ..tables.layout import FORMATS as TABLE_FORMATS
from .command import TO_FILE, Argument, argument, command, deliver


def positive(text: str) -> float:
    """Read an epsilon or a temperature.

    Raises
    ------
    argparse.ArgumentTypeError
        For anything but a positive finite number; argparse shows its message.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value


def classes(text: str, *names: str) -> Argument:
    """Declare --class: names of classes, as typed, that choose something."""
    return argument("--class", *names, dest="classes", metavar="NAME", nargs="+", default=[], help=text)


def formats(known: tuple[str, ...], what: str) -> Argument:
    """Declare --formats: what to write, by default everything."""
    text = f"{what}, of {', '.join(known)}; default: all"
    return argument("--formats", metavar="FORMAT", nargs="+", choices=known, default=known, help=text)


def folder(default: str) -> Argument:
    """Declare --out: where the files go."""
    return argument("--out", metavar="DIR", type=Path, help=default)


RUN = (
    add_run_argument,
    argument("--root", default="", metavar="DIR", help="where the data sets are now, if they have moved"),
    argument("--backbone", default="", metavar="PATH", help="where the weights are now, if they have moved"),
    add_device_flag,
    add_trust_paths,
    argument("--verbose", action="store_true", help="also show what building the model prints"),
)
BESIDE = folder("default: RUN/transport, where `report` looks")


def _run(args: argparse.Namespace) -> RunAtRest:
    return RunAtRest(run_of(args), args.backbone, args.root, args.verbose, args.device)


@command(
    "ablate",
    *RUN,
    argument("--eps", metavar="E", nargs="+", type=positive, default=[],
             help="epsilons of the transport, besides the run's own; as --try epsilon=E,E"),
    argument("--try", dest="tried", metavar="SETTING=VALUES", nargs="+", default=[],
             help="values of the settings that matchings are varied by, with commas between; default: several of each, "
                  "and the run's own"),
    argument("--matchings", metavar="NAME", nargs="+", default=[],
             help="default: all (a name that there is not lists them). The run's own is always among them"),
    argument("--format", choices=tuple(TABLE_FORMATS), default="text", help="of the table; default: text"),
    folder("for ablation.png and ablation.svg; default: RUN"),
)  # fmt: skip
def ablate(args: argparse.Namespace) -> int:
    """Test one PLOT run again under every matching, to see whether the transport matters.

    Tests the prompts of a finished run of PLOT or a relative under every matching, those that have a strength at
    several: a table, RUN/ablation.json (which `report` shows) and a figure. Needs the run's data and backbone.

    Examples
    --------
    python -m results ablate output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
    python -m results ablate RUN --eps 0.05 0.1 0.2 --matchings ot uniform --format csv
    python -m results ablate RUN --matchings unbalanced partial --try rho=0.05,0.2 share=0.5
    """
    from ..inspection.ablation import show_ablation

    values = {"epsilon": args.eps} if args.eps else {}
    for word in args.tried:
        setting, _, numbers = word.partition("=")
        try:
            values[setting] = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise ResultsError(f"--try {word}: write a setting and its numbers, as in rho=0.05,0.2") from None
    show_ablation(_run(args), values, args.matchings, args.out, args.format)
    return 0


@command(
    "transport",
    *RUN,
    argument("--images", metavar="FILE|DIR", nargs="+", default=[], help="pictures, or folders of them; need no data"),
    classes("only test images of these classes"),
    argument("--wrong", action="store_true", help="only test images that the run takes for another class"),
    argument("--count", metavar="K", type=int,
             help=f"how many test images, spread over the classes; default: {COUNT}"),
    formats(TRANSPORT_FORMATS, "what to write of each image"),
    BESIDE,
)  # fmt: skip
def transport(args: argparse.Namespace) -> int:
    """Heat maps of what each prompt of a PLOT run is matched with.

    For each image a map a prompt, for the class that it is taken for
    and for its true class: orange where the prompt receives more mass than an even spread, purple where less.
    Beside the pictures lie arrays (npz), and index.json, which lists what the last call made.

    Test images are read from the run's data set. --images needs no data: the true class is then known only for files
    below the root of the data set. Runs of PLOTPP have no places: the plan itself is drawn, visual by text prompts.
    Files that are no images are named and skipped: exit status 1, or 2 if none was left.

    Examples
    --------
    python -m results transport output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
    python -m results transport RUN --wrong --count 20            # only what it gets wrong
    python -m results transport RUN --class "ice cream" church    # of these classes
    python -m results transport RUN --images photos/ cat.jpg --formats png --out heatmaps
    """
    from ..inspection.transport import draw_transport

    choice = Choice(args.images, args.classes, args.wrong, args.count)
    return draw_transport(_run(args), choice, args.out, args.formats)


@command(
    "claims",
    *RUN,
    classes("only within these classes"),
    argument("--of", choices=("true", "predicted"), default="true",
             help="the class whose prompts are asked; default: true"),
    argument("--count", metavar="K", type=int, default=COUNT, help=f"how many images a prompt; default: {COUNT}"),
    formats(CLAIMS_FORMATS, "what to write"),
    BESIDE,
)  # fmt: skip
def claims(args: argparse.Namespace) -> int:
    """Which test images each prompt of a PLOT run claims most: a contact sheet, and a list.

    The transport gives every prompt the same mass of every image, so mass tells nothing. With plan T and similarity S
    of an image and its true class, the claim of prompt n is
        N * sum_m T[m, n] S[m, n]  -  the mean of that over the N prompts:
    how much more similar what it receives is than what the others receive. Claims on an image sum to 0; images are
    ranked within each prompt. The test is passed as the run's own, in its batches and through the feature cache.

    Writes claims.png, claims.svg and claims.json (files and values), with --class claims-NAME.*.

    Examples
    --------
    python -m results claims RUN
    python -m results claims RUN --class "ice cream" --count 10      # within one class
    python -m results claims RUN --of predicted --formats json --out claims
    """
    from ..inspection.claims import show_claims

    return show_claims(_run(args), args.classes, args.of, args.count, args.out, args.formats)


@command(
    "words",
    *RUN,
    argument("--top", type=int, default=3, metavar="K", help="words a vector; default: 3"),
    classes("of class-specific contexts (CSC) those of these classes; default: all"),
    argument("--format", choices=WORDS_FORMATS, default="text", help="default: text"),
    TO_FILE,
)
def words(args: argparse.Namespace) -> int:
    """Find the vocabulary words nearest to each learned context vector.

    Needs the run's checkpoint and backbone, and no data. Of methods that learn vectors in the space of token
    embeddings, such as CoOp and PLOT.

    Examples
    --------
    python -m results words output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
    python -m results words RUN --top 5 --format json --out words.json
    python -m results words RUN --class cat dog        # of a run with CSC
    """
    from ..inspection.words import find_words, format_words

    run = _run(args)
    deliver(format_words(find_words(run, args.top, args.classes), args.format, run), args.out)
    return 0


@command(
    "map",
    *RUN,
    argument("--method", choices=METHODS, default="pca", help="default: pca"),
    classes("up to 10; default: 8, spread evenly", "--classes"),
    argument("--count", type=int, default=6, metavar="K", help="test images a class; default: 6"),
    argument("--out", nargs="+", metavar="FILE", type=Path, default=[],
             help=".png, .svg, .pdf or .npz (the numbers); default: RUN/map/METHOD with each of .png, .svg and .npz"),
)  # fmt: skip
def feature_map(args: argparse.Namespace) -> int:
    """Prompts and image features of some classes, in the plane.

    Rebuilds the run, so it needs its data and backbone. Of methods whose prompts are the same for all images, such as
    CoOp and PLOT.

    Examples
    --------
    python -m results map output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
    python -m results map RUN --method tsne --class cat dog horse --count 20 --out map.png
    """
    from runs.files import to_stdout

    from ..figures.maps import draw_map
    from ..figures.style import drawing, save_figure
    from ..inspection.maps import FOLDER, map_run, save_arrays

    run = _run(args)
    targets = args.out or [run.folder / FOLDER / f"{args.method}.{kind}" for kind in ("png", "svg", "npz")]
    points = map_run(run, args.method, args.classes, args.count)
    with drawing():
        figure = draw_map(points)
        for path in targets:
            written = save_arrays(points, path) if path.suffix == ".npz" else save_figure(figure, path)
            to_stdout(f"written: {written}")
    return 0


@command(
    "ood",
    *RUN,
    argument("--data", metavar="NAME|FOLDER", nargs="+", required=True,
             help="foreign images: the test images of data sets, or all images below folders (./NAME)"),
    argument("--temperature", metavar="T", type=positive, default=1.0, help="of the softmax of cosines; default: 1"),
    argument("--format", choices=tuple(TABLE_FORMATS), default="text", help="of the table; default: text"),
    folder("for ood.png and ood.svg; default: RUN"),
)  # fmt: skip
def ood(args: argparse.Namespace) -> int:
    """Tell foreign images from a run's own: FPR95, AUROC and AUPR of the scores MCM, L-MCM and GL-MCM.

    Known are the run's own test images, foreign those of --data; the table has rows for each of them, and for the mean.
    The scores are larger for what is more foreign, and are made of cosines c of image and classes at temperature T:
        MCM     -max_c softmax_c(c / T), of the pooled feature
        L-MCM   the same of the place of the image where the share of a class is largest
        GL-MCM  their sum
    L-MCM and GL-MCM need a method that compares places with classes, such as PLOT; others have MCM alone. Images whose
    class the run knows, by its name or the name of a folder, are left out, and counted on stderr.

    Writes RUN/ood.json (which `report` shows) and a figure. Needs the run's data and backbone. Features of images are
    kept, so that a second call, with another temperature, encodes none.

    Examples
    --------
    python -m results ood RUN --data groceries dtd --root DATA
    python -m results ood RUN --data ~/photos/holiday ./unsorted --temperature 0.01
    """
    from ..inspection.ood import show_ood

    show_ood(_run(args), args.data, args.temperature, args.out, args.format)
    return 0


COMMANDS = (ablate, transport, claims, words, feature_map, ood)
