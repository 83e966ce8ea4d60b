"""The commands that read run records, and nothing else."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from runs.files import say, tell, write_text

from ..numbers.protocols import PROTOCOLS
from .command import Command, add_allow_missing, add_output, add_text, deliver, read_summary

PROTOCOL_HELP = {  # (what it reads and shows, examples)
    "fewshot": (
        "Reads <dataset>/<trainer>/<config>_<shots>shots/... and ZeroshotCLIP/<config>/<dataset>. "
        "A block a data set, and the average over data sets.",
        """\
  python -m results fewshot output
  python -m results fewshot output --published --format latex --out fewshot.tex
  python -m results fewshot output --datasets protocol --shots 1 2 4 8 16""",
    ),
    "base2new": (
        "Reads base2new/train_base and base2new/test_new. Base, new and their harmonic mean: "
        "the average over data sets, and a block a data set.",
        """\
  python -m results base2new output
  python -m results base2new output --datasets protocol --format markdown""",
    ),
    "crossdataset": (
        "Reads imagenet/<trainer>/... and evaluation/<trainer>/.... A row a data set, and the average of the targets.",
        """\
  python -m results crossdataset output
  python -m results crossdataset output --ci95 --format csv --out cross.csv""",
    ),
    "domain": (
        "Reads imagenet/<trainer>/... and evaluation/<trainer>/.... A row a variant of ImageNet, and their average.",
        """\
  python -m results domain output
  python -m results domain output --datasets protocol --format latex""",
    ),
}

# --- arguments -------------------------------------------------------------------------------------------


def _deviation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ci95", action="store_true", help="spread: 1.96 std / sqrt(n) instead of std")
    parser.add_argument("--sample-std", action="store_true", help="std with ddof 1; default: ddof 0, as the original")


def table_arguments(parser: argparse.ArgumentParser) -> None:
    add_output(parser)
    add_text(parser)


def curve_arguments(parser: argparse.ArgumentParser) -> None:
    add_output(parser)
    default = "default: accuracy.png and accuracy.svg in OUTPUT"
    parser.add_argument("--out", metavar="FILE", nargs="+", help=f".png, .svg or .pdf; {default}")


def report_arguments(parser: argparse.ArgumentParser) -> None:
    add_output(parser)
    parser.add_argument("--out", metavar="FILE", help="default: OUTPUT/report.html")
    parser.add_argument("--title", default="Few-shot prompt learning", help="heading of the page")


def protocol_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(protocol=name)
    parser.add_argument("output", metavar="OUTPUT", help="folder with run folders under the original's names")
    add_text(parser)
    _deviation(parser)
    parser.add_argument("--published", action="store_true", help="also show published figures, with their source")
    parser.add_argument(
        "--datasets",
        nargs="+",
        metavar="NAME",
        help="expect these, by folder name; `protocol`: all that belong to it; default: those that occur",
    )
    parser.add_argument("--seeds", nargs="+", type=int, metavar="S", help="expect these; default: 1 2 3, and others")
    if PROTOCOLS[name].by_shots:
        parser.add_argument("--shots", nargs="+", type=int, metavar="K", help="expect these; default: what occurs")
    add_allow_missing(parser)


def parse_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="parent of the seed folders")
    _deviation(parser)
    parser.add_argument("--test-log", action="store_true", help="logs of evaluations, which hold no training")
    parser.add_argument("--multi-exp", action="store_true", help="DIR holds experiments, and they the seed folders")
    parser.add_argument("--keyword", default="accuracy", metavar="NAME", help="metric; default: accuracy")
    add_allow_missing(parser)


# --- what they do ----------------------------------------------------------------------------------------


def table(args: argparse.Namespace) -> int:
    from ..tables.tables import format_table

    summary, status = read_summary(args)
    deliver(format_table(summary, args.format), args.out)
    return status


def curve(args: argparse.Namespace) -> int:
    from ..figures.curves import accuracy_figure
    from ..figures.plotting import drawing, save_figure

    summary, status = read_summary(args)
    with drawing():
        figure = accuracy_figure(summary)
        for path in args.out or [Path(args.output, "accuracy.png"), Path(args.output, "accuracy.svg")]:
            say(f"written: {save_figure(figure, path)}")
    return status


def report(args: argparse.Namespace) -> int:
    from ..report.report import build_report

    summary, status = read_summary(args)
    path = write_text(args.out or Path(args.output, "report.html"), build_report(summary, args.output, args.title))
    say(f"written: {path}")
    return status


def protocol_table(args: argparse.Namespace) -> int:
    from ..numbers.parse import ParseOptions
    from ..numbers.protocols import SOURCE, arrange, find_results
    from ..tables.protocol_tables import format_grid

    protocol = PROTOCOLS[args.protocol]
    datasets = args.datasets
    if datasets == ["protocol"]:
        datasets = [*([SOURCE] if protocol.transfers else []), *protocol.datasets]
    found = find_results(args.output, protocol)
    grid = arrange(found, protocol, datasets, getattr(args, "shots", None), args.seeds)
    for result in grid.problems:
        tell(f"incomplete: {result.folder}: {result.problem}")
    for result in grid.repeated:
        tell(f"not counted: {result.folder}: another run has its place")
    if grid.missing:
        due = sum(cell.expected for cell in grid.cells.values())
        tell(f"missing: {grid.missing} of {due} runs")
    options = ParseOptions(ci95=args.ci95, sample_std=args.sample_std)
    deliver(format_grid(grid, args.format, options, args.published), args.out)
    return int(bool(grid.missing) and not args.allow_missing)


def parse(args: argparse.Namespace) -> int:
    from ..numbers.parse import ParseOptions, parse_directory, parse_experiments

    options = ParseOptions(args.keyword, args.test_log, args.ci95, args.sample_std)
    if args.multi_exp:
        missing = any(parsed.missing for parsed in parse_experiments(args.folder, options))
    else:
        missing = bool(parse_directory(args.folder, options).missing)
    return int(missing and not args.allow_missing)


COMMANDS = (
    Command(
        "table",
        "Table of accuracies",
        "Rows: methods; columns: shots; a block a data set.",
        """\
  python -m results table output
  python -m results table output --format latex --out table.tex""",
        table_arguments,
        table,
    ),
    Command(
        "curve",
        "Accuracy against shots, with the spread over seeds",
        "Methods without training stand at 0 shots.",
        """\
  python -m results curve output
  python -m results curve output --out accuracy.png accuracy.svg""",
        curve_arguments,
        curve,
    ),
    Command(
        "report",
        "One self-contained HTML page",
        "Table, curves, training, transport, classes, what is missing.",
        """\
  python -m results report output
  python -m results report output --out report.html --title "Few-shot flowers\"""",
        report_arguments,
        report,
    ),
    *(
        Command(
            name,
            f"{protocol.title}: table over data sets",
            *PROTOCOL_HELP[name],
            partial(protocol_arguments, name),
            protocol_table,
        )
        for name, protocol in PROTOCOLS.items()
    ),
    Command(
        "parse",
        "Mean and spread from log.txt files",
        "Reads the logs of any program of this family, in the format of its parse_test_res.py.",
        """\
  python -m results parse output/caltech101/CoOp/rn50_16shots/nctx16_cscFalse_ctpend
  python -m results parse output/evaluation/CoOp/rn50_16shots/caltech101 --test-log --ci95""",
        parse_arguments,
        parse,
    ),
)
