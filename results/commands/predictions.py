"""The commands about what a test said of single images: a table of them, and how far its probabilities hold."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runs.files import ResultsError, to_stderr
from runs.restore.names import add_run_argument, run_of

from .command import OUTPUT, SHOTS, TEXT, argument, check_shots, command, deliver, read_summary


@command(
    "predictions",
    add_run_argument,
    argument("--out", metavar="FILE", type=Path, help=".csv or .parquet; default: CSV on the console"),
)
def predictions(args: argparse.Namespace) -> int:
    """Table of what a run's test said of every image.

    A row an image: its path, true and predicted class, and the class probabilities: of all classes, or of more than 128
    classes the 20 most probable and the true one. They are kept by every test (TEST.PREDICTIONS); nothing is computed
    anew, so neither data nor backbone is needed. Parquet needs pyarrow.

    Examples
    --------
    python -m results predictions output:PLOT@16#1
    python -m results predictions RUN --out predictions.csv
    python -m results predictions RUN --out predictions.parquet
    """
    from runs.predictions import read_predictions
    from runs.record import read_classnames

    from ..tables.predictions import csv_of, prediction_table, write_table

    folder = run_of(args)
    table = prediction_table(read_predictions(folder), read_classnames(folder) or [])
    if args.out:
        to_stderr(f"written: {write_table(table, args.out)} ({len(table['image']):,} images)")
    else:
        sys.stdout.write(csv_of(table))
    return 0


@command(
    "calibration",
    *OUTPUT,
    *TEXT,
    SHOTS,
    argument("--figure", metavar="FILE", help="also draw reliability diagrams, to a .png, .svg or .pdf"),
)
def calibration(args: argparse.Namespace) -> int:
    """How far the probabilities of each method can be believed.

    ECE, NLL, Brier score and AURC of every method at its most shots, before and after temperature scaling on validation
    images; a block a data set. The figure has a panel a method: accuracy against confidence, all seeds together. A run
    from before this was recorded has what its predictions tell, and no temperature.

    Examples
    --------
    python -m results calibration output
    python -m results calibration output --shots 16 --format latex --out calibration.tex
    python -m results calibration output --figure reliability.png
    """
    from ..numbers.calibration import all_calibrations, reliability
    from ..tables.calibration import format_calibration

    summary, status = read_summary(args)
    check_shots(summary, args.shots)
    by_section = all_calibrations(summary, args.shots)
    if not by_section:
        raise ResultsError(
            f"no run in {args.output} has predictions; test the runs again "
            "(train.py --eval-only --model-dir RUN --output-dir NEW)"
        )
    lacking = [run for _, members in by_section for calibrated in members for run in calibrated.lacking]
    for run in lacking:
        to_stderr(f"no predictions in {run.folder}: it is from before they were kept, or TEST.PREDICTIONS was False")
    deliver(format_calibration(by_section, args.format), args.out)
    if args.figure:
        from ..figures.calibration import reliability_figure
        from ..figures.curves import looks
        from ..figures.style import drawing, save_figure

        drawn = [
            (section.title, [shown for calibrated in members if (shown := reliability(calibrated.column))])
            for section, members in by_section
        ]
        if not any(members for _, members in drawn):
            raise ResultsError(f"no method in {args.output} has kept the predictions of all its runs: nothing to draw")
        with drawing():
            figure = reliability_figure([row for row in drawn if row[1]], looks(summary))
            to_stderr(f"written: {save_figure(figure, args.figure)}")
    return status or int(bool(lacking) and not args.allow_missing)


COMMANDS = (predictions, calibration)
