"""The commands about single classes, from run records."""

from __future__ import annotations

import argparse

from runs.files import ResultsError, to_stderr

from .command import OUTPUT, SHOTS, TEXT, argument, check_shots, command, deliver, read_summary


@command(
    "gains",
    *OUTPUT,
    *TEXT,
    SHOTS,
    argument("--figure", metavar="FILE", help="also draw them as bars, to a .png, .svg or .pdf"),
)
def gains(args: argparse.Namespace) -> int:
    """Show what each class gained over zero-shot CLIP.

    Rows: classes; columns: methods, at their most shots; a block a data set.

    Examples
    --------
    python -m results gains output
    python -m results gains output --shots 4 --format markdown --figure gains.png
    """
    from ..numbers.classes import class_gains
    from ..tables.classes import format_gains

    summary, status = read_summary(args)
    check_shots(summary, args.shots)
    compared, missing = class_gains(summary, args.shots)
    for what in missing:
        to_stderr(f"missing: {what}")
    if not compared:
        raise ResultsError(f"{args.output} holds no trained run that can be compared with a zero-shot run")
    deliver(format_gains(compared, args.format), args.out)
    if args.figure:
        from ..figures.classes import gains_figure
        from ..figures.curves import looks
        from ..figures.style import drawing, save_figure

        with drawing():
            to_stderr(f"written: {save_figure(gains_figure(compared, looks(summary)), args.figure)}")
    return status or int(bool(missing) and not args.allow_missing)


@command(
    "confusions",
    *OUTPUT,
    *TEXT,
    SHOTS,
    argument("--top", type=int, default=10, metavar="K", help="pairs a method; default: 10 (csv: all)"),
    argument("--figure", metavar="FILE", help="also draw all pairs as matrices, to a .png, .svg or .pdf"),
)
def confusions(args: argparse.Namespace) -> int:
    """Which classes are taken for which.

    The most frequent pairs of every method at its most shots, a block a method and data set. The figure has a panel for
    each: rows are true classes, columns predicted ones, shares of the true class's images, mean over seeds. It needs
    the predictions that tests keep (TEST.PREDICTIONS).

    Examples
    --------
    python -m results confusions output
    python -m results confusions output --shots 16 --figure confusions.png
    python -m results confusions output --top 20 --format csv --out confusions.csv
    """
    from ..numbers.classes import all_confusions
    from ..tables.classes import format_confusions

    if args.top < 1:
        raise ResultsError(f"--top must be at least 1, got {args.top}")
    summary, status = read_summary(args)
    check_shots(summary, args.shots)
    by_section = all_confusions(summary, args.shots)
    columns = [column for _, columns in by_section for column in columns]
    lacking = [run for column in columns for run in column.lacking]
    for run in lacking:
        to_stderr(f"no confusions in the record of {run.folder}: it is from before they were kept")
    if not any(column.known for column in columns):
        raise ResultsError(f"no record in {args.output} has confusions; test the runs again (--eval-only)")
    deliver(format_confusions(by_section, args.format, args.top), args.out)
    if args.figure:
        from ..figures.classes import confusion_figure
        from ..figures.style import drawing, save_figure
        from ..numbers.classes import confusion_matrices

        rows = [(section.title, confusion_matrices(section, args.shots)) for section in summary.sections]
        with drawing():
            to_stderr(f"written: {save_figure(confusion_figure([row for row in rows if row[1]]), args.figure)}")
    return status or int(bool(lacking) and not args.allow_missing)


COMMANDS = (gains, confusions)
