"""The commands about single classes, from run records."""

from __future__ import annotations

import argparse

from runs.files import ResultsError, tell

from .command import Command, add_output, add_text, deliver, read_summary


def _shots(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shots", type=int, metavar="K", help="default: the most shots of each method")


def gains_arguments(parser: argparse.ArgumentParser) -> None:
    add_output(parser)
    add_text(parser)
    _shots(parser)
    parser.add_argument("--figure", metavar="FILE", help="also draw them as bars, to a .png, .svg or .pdf")


def confusions_arguments(parser: argparse.ArgumentParser) -> None:
    add_output(parser)
    add_text(parser)
    _shots(parser)
    parser.add_argument("--top", type=int, default=10, metavar="K", help="pairs a method; default: 10 (csv: all)")


def gains(args: argparse.Namespace) -> int:
    from ..numbers.classes import class_gains
    from ..tables.class_tables import format_gains

    summary, status = read_summary(args)
    _check_shots(summary, args.shots)
    found, missing = class_gains(summary, args.shots)
    for what in missing:
        tell(f"missing: {what}")
    if not found:
        raise ResultsError(f"{args.output} holds no trained run that can be compared with a zero-shot run")
    deliver(format_gains(found, args.format), args.out)
    if args.figure:
        from ..figures.class_figures import gains_figure
        from ..figures.curves import looks
        from ..figures.plotting import drawing, save_figure

        with drawing():
            tell(f"written: {save_figure(gains_figure(found, looks(summary)), args.figure)}")
    return status or int(bool(missing) and not args.allow_missing)


def confusions(args: argparse.Namespace) -> int:
    from ..numbers.classes import all_confusions
    from ..tables.class_tables import format_confusions

    if args.top < 1:
        raise ResultsError(f"--top must be at least 1, got {args.top}")
    summary, status = read_summary(args)
    _check_shots(summary, args.shots)
    found = all_confusions(summary, args.shots)
    lacking = [run for _, held in found for one in held for run in one.lacking]
    for run in lacking:
        tell(f"no confusions in the record of {run.folder}: it is from before they were kept")
    if not any(one.told for _, held in found for one in held):
        raise ResultsError(f"no record in {args.output} has confusions; test the runs again (--eval-only)")
    deliver(format_confusions(found, args.format, args.top), args.out)
    return status or int(bool(lacking) and not args.allow_missing)


def _check_shots(summary, shots: int | None) -> None:
    known = sorted({run.shots for run in summary.complete_runs if run.shots > 0})
    if shots is not None and shots not in known:
        raise ResultsError(f"--shots {shots}: there are runs of {', '.join(map(str, known)) or 'no number of'} shots")


COMMANDS = (
    Command(
        "gains",
        "What each class gained over zero-shot CLIP",
        "Rows: classes; columns: methods, at their most shots; a block a data set.",
        """\
  python -m results gains output
  python -m results gains output --shots 4 --format markdown --figure gains.png""",
        gains_arguments,
        gains,
    ),
    Command(
        "confusions",
        "Which classes are taken for which",
        "The most frequent pairs of every method at its most shots, a block a method and data set.",
        """\
  python -m results confusions output
  python -m results confusions output --top 20 --format csv --out confusions.csv""",
        confusions_arguments,
        confusions,
    ),
)
