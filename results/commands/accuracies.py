"""The commands that show the accuracies of runs: a table, curves, and the page with everything else."""

from __future__ import annotations

import argparse
from pathlib import Path

from runs.files import to_stdout, write_text

from ..numbers.cells import COLUMNS
from .command import OUTPUT, TEXT, argument, command, deliver, read_summary


@command(
    "table",
    *OUTPUT,
    *TEXT,
    argument("--columns", nargs="+", choices=COLUMNS, default=["accuracy"], metavar="NUMBER",
             help=f"{', '.join(COLUMNS)}; default: accuracy"),
)  # fmt: skip
def table(args: argparse.Namespace) -> int:
    """Table of accuracies.

    Rows: methods; columns: shots; a block a data set. Where classes differ in size, numbers in which every class counts
    alike can be had beside accuracy, or instead: the mean of the classes' accuracies (balanced), the mean of their F1
    (macro_f1), and the accuracy of the class that has the lowest one, with its name (worst).

    Examples
    --------
    python -m results table output
    python -m results table output --columns accuracy balanced macro_f1 worst
    python -m results table output --format latex --out table.tex
    """
    from ..tables.accuracies import format_table
    from ..tables.balanced import format_columns

    summary, status = read_summary(args)
    if args.columns == ["accuracy"]:
        deliver(format_table(summary, args.format), args.out)
    else:
        deliver(format_columns(summary, args.columns, args.format), args.out)
    return status


@command(
    "curve",
    *OUTPUT,
    argument("--out", metavar="FILE", nargs="+",
             help=".png, .svg or .pdf; default: accuracy.png and accuracy.svg in OUTPUT"),
)  # fmt: skip
def curve(args: argparse.Namespace) -> int:
    """Accuracy against shots, with the spread over seeds.

    Methods without training stand at 0 shots.

    Examples
    --------
    python -m results curve output
    python -m results curve output --out accuracy.png accuracy.svg
    """
    from ..figures.curves import accuracy_figure
    from ..figures.style import drawing, save_figure

    summary, status = read_summary(args)
    with drawing():
        figure = accuracy_figure(summary)
        for path in args.out or [Path(args.output, "accuracy.png"), Path(args.output, "accuracy.svg")]:
            to_stdout(f"written: {save_figure(figure, path)}")
    return status


@command(
    "report",
    *OUTPUT,
    argument("--out", metavar="FILE", help="default: OUTPUT/report.html"),
    argument("--title", default="Few-shot prompt learning", help="heading of the page"),
)
def report(args: argparse.Namespace) -> int:
    """One self-contained HTML page.

    Table, curves, training, transport, classes, what is missing.

    Examples
    --------
    python -m results report output
    python -m results report output --out report.html --title "Few-shot flowers"
    """
    from ..report.page import build_report

    summary, status = read_summary(args)
    path = write_text(args.out or Path(args.output, "report.html"), build_report(summary, args.output, args.title))
    to_stdout(f"written: {path}")
    return status


@command("runs", argument("output", metavar="OUTPUT", help="folder with runs, at any depth"))
def runs(args: argparse.Namespace) -> int:
    """Short names of the runs below a folder.

    Every command that takes RUN, and `python -m predict`, knows a run by its short name as well as by its folder.

    Examples
    --------
    python -m results runs output
    python -m results transport output:PLOT@16
    python -m predict output --best photos
    """
    from runs.restore.names import list_runs

    named = list_runs(args.output)
    width = max(len(name) for name, _ in named)
    for name, run in named:
        to_stdout(f"{name:{width}}  {run.accuracy:6.2f}%  {run.folder}")
    return 0


COMMANDS = (table, curve, report, runs)
