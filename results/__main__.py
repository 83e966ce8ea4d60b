"""The command line: python -m results COMMAND ..."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .files import ResultsError, write_text
from .protocols import PROTOCOLS
from .tables import FORMATS

STATUS = """exit status: 0 done; 1 done, but results are incomplete (missing runs are named on stderr;
--allow-missing makes it 0); 2 bad command line or input."""
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


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m results",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Tables, curves, heat maps and a report from the records of finished runs.",
        epilog=f"python -m results COMMAND --help says more, with examples.\n\n{STATUS}",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], summary: str, text: str, examples: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary}. {text}",
            epilog=f"examples:\n{examples}\n\n{STATUS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    commands.add_parser("sweep", help="Make them first: run a grid of trainers, data sets, shots and seeds")
    sub = command(
        "table",
        table,
        "Table of accuracies",
        "Rows: methods; columns: shots; a block a data set.",
        """\
  python -m results table output
  python -m results table output --format latex --out table.tex""",
    )
    _add_output(sub)
    sub.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: text")
    sub.add_argument("--out", metavar="FILE", help="write there instead of to the console")

    sub = command(
        "curve",
        curve,
        "Accuracy against shots, with the spread over seeds",
        "Methods without training stand at 0 shots.",
        """\
  python -m results curve output
  python -m results curve output --out accuracy.png accuracy.svg""",
    )
    _add_output(sub)
    sub.add_argument(
        "--out",
        metavar="FILE",
        nargs="+",
        help=".png, .svg or .pdf; default: accuracy.png and accuracy.svg in OUTPUT",
    )

    sub = command(
        "report",
        report,
        "One self-contained HTML page",
        "Table, curves, training, transport, classes, what is missing.",
        """\
  python -m results report output
  python -m results report output --out report.html --title "Few-shot flowers\"""",
    )
    _add_output(sub)
    sub.add_argument("--out", metavar="FILE", help="default: OUTPUT/report.html")
    sub.add_argument("--title", default="Few-shot prompt learning", help="heading of the page")

    sub = command(
        "transport",
        transport,
        "Heat maps of what each prompt of a PLOT run is matched with",
        "Rebuilds the run, so it needs its data and backbone.",
        """\
  python -m results transport output/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
  python -m results transport RUN --images cat.jpg dog.jpg --out heatmaps""",
    )
    sub.add_argument("folder", metavar="RUN", help="folder of one trained PLOT run")
    sub.add_argument("--images", metavar="FILE", nargs="+", default=[], help="instead of test images")
    sub.add_argument(
        "--count",
        metavar="K",
        type=int,
        default=6,
        help="how many test images, spread over the classes; default: 6",
    )
    sub.add_argument("--out", metavar="DIR", help="default: RUN/transport, where `report` looks")
    sub.add_argument("--root", default="", metavar="DIR", help="where the data sets are now, if they have moved")
    sub.add_argument("--backbone", default="", metavar="PATH", help="where the weights are now, if they have moved")
    sub.add_argument("--verbose", action="store_true", help="also show what building the model prints")

    for name, protocol in PROTOCOLS.items():
        text, examples = PROTOCOL_HELP[name]
        sub = command(name, protocol_table, f"{protocol.title}: table over data sets", text, examples)
        sub.set_defaults(protocol=name)
        sub.add_argument("output", metavar="OUTPUT", help="folder with run folders under the original's names")
        sub.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: text")
        sub.add_argument("--out", metavar="FILE", help="write there instead of to the console")
        sub.add_argument("--ci95", action="store_true", help="spread: 1.96 std / sqrt(n) instead of std")
        sub.add_argument("--sample-std", action="store_true", help="std with ddof 1; default: ddof 0, as the original")
        sub.add_argument("--published", action="store_true", help="also show published figures, with their source")
        sub.add_argument(
            "--datasets",
            nargs="+",
            metavar="NAME",
            help="expect these, by folder name; `protocol`: all that belong to it; default: those that occur",
        )
        sub.add_argument("--seeds", nargs="+", type=int, metavar="S", help="expect these; default: 1 2 3, and others")
        if protocol.by_shots:
            sub.add_argument("--shots", nargs="+", type=int, metavar="K", help="expect these; default: what occurs")
        _add_allow_missing(sub)

    sub = command(
        "parse",
        parse,
        "Mean and spread from log.txt files",
        "Reads the logs of any program of this family, in the format of its parse_test_res.py.",
        """\
  python -m results parse output/caltech101/CoOp/rn50_16shots/nctx16_cscFalse_ctpend
  python -m results parse output/evaluation/CoOp/rn50_16shots/caltech101 --test-log --ci95""",
    )
    sub.add_argument("folder", metavar="DIR", help="parent of the seed folders")
    sub.add_argument("--ci95", action="store_true", help="spread: 1.96 std / sqrt(n) instead of std")
    sub.add_argument("--sample-std", action="store_true", help="std with ddof 1; default: ddof 0, as the original")
    sub.add_argument("--test-log", action="store_true", help="logs of evaluations, which hold no training")
    sub.add_argument("--multi-exp", action="store_true", help="DIR holds experiments, and they the seed folders")
    sub.add_argument("--keyword", default="accuracy", metavar="NAME", help="metric; default: accuracy")
    _add_allow_missing(sub)
    return parser


def _add_output(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("output", metavar="OUTPUT", help="folder with runs, at any depth")
    _add_allow_missing(sub)


def _add_allow_missing(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--allow-missing", action="store_true", help="exit 0 although runs are missing")


# --- commands --------------------------------------------------------------------------------------------


def table(args: argparse.Namespace) -> int:
    from .tables import format_table

    summary, status = _summarise(args)
    text = format_table(summary, args.format)
    if args.out:
        print(f"written: {write_text(args.out, text)}", file=sys.stderr)
    else:
        sys.stdout.write(text)
    return status


def curve(args: argparse.Namespace) -> int:
    from .curves import accuracy_figure
    from .plotting import drawing, save_figure

    summary, status = _summarise(args)
    with drawing():
        figure = accuracy_figure(summary)
        for path in args.out or [Path(args.output, "accuracy.png"), Path(args.output, "accuracy.svg")]:
            print(f"written: {save_figure(figure, path)}")
    return status


def report(args: argparse.Namespace) -> int:
    from .report import build_report

    summary, status = _summarise(args)
    path = write_text(args.out or Path(args.output, "report.html"), build_report(summary, args.output, args.title))
    print(f"written: {path}")
    return status


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


def protocol_table(args: argparse.Namespace) -> int:
    from .parse import ParseOptions
    from .protocol_tables import format_grid
    from .protocols import SOURCE, arrange, find_results

    protocol = PROTOCOLS[args.protocol]
    datasets = args.datasets
    if datasets == ["protocol"]:
        datasets = [*([SOURCE] if protocol.transfers else []), *protocol.datasets]
    found = find_results(args.output, protocol)
    grid = arrange(found, protocol, datasets, getattr(args, "shots", None), args.seeds)
    for result in grid.problems:
        print(f"incomplete: {result.folder}: {result.problem}", file=sys.stderr)
    for result in grid.repeated:
        print(f"not counted: {result.folder}: another run has its place", file=sys.stderr)
    if grid.missing:
        due = sum(cell.expected for cell in grid.cells.values())
        print(f"missing: {grid.missing} of {due} runs", file=sys.stderr)
    text = format_grid(grid, args.format, ParseOptions(ci95=args.ci95, sample_std=args.sample_std), args.published)
    if args.out:
        print(f"written: {write_text(args.out, text)}", file=sys.stderr)
    else:
        sys.stdout.write(text)
    return int(bool(grid.missing) and not args.allow_missing)


def parse(args: argparse.Namespace) -> int:
    from .parse import ParseOptions, parse_directory, parse_experiments

    options = ParseOptions(args.keyword, args.test_log, args.ci95, args.sample_std)
    if args.multi_exp:
        missing = any(parsed.missing for parsed in parse_experiments(args.folder, options))
    else:
        missing = bool(parse_directory(args.folder, options).missing)
    return int(missing and not args.allow_missing)


def _summarise(args: argparse.Namespace):
    """(summary of args.output, exit status); names on stderr what is not there."""
    from .records import find_runs
    from .summary import summarise

    runs = find_runs(args.output)
    summary = summarise(runs)
    for run in summary.incomplete:
        print(f"incomplete: {run.folder}: {run.problem}", file=sys.stderr)
    for run in summary.repeated:
        print(
            f"not counted: {run.folder}: another run has the same method, data, shots and seed",
            file=sys.stderr,
        )
    if summary.missing:
        print(
            f"missing: {summary.missing} of {summary.missing + len(summary.complete_runs)} runs",
            file=sys.stderr,
        )
    if not summary.complete_runs:
        raise ResultsError(f"{args.output} holds no complete run: nothing to show")
    return summary, int(not summary.whole and not args.allow_missing)


def main(argv: list[str] | None = None) -> int:
    """Exit status as in the help text."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console without ± shows ?, instead of failing
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["sweep"]:  # reads its own command line
        from scripts.sweep import main as sweep

        return sweep(words[1:])
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # | head
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
