"""The commands about what a test said of single images: a table of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runs.files import to_stderr
from runs.restore.names import add_run_argument, run_of

from .command import argument, command


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
        to_stderr(f"written: {write_table(table, args.out)} ({len(table):,} images)")
    else:
        sys.stdout.write(csv_of(table))
    return 0


COMMANDS = (predictions,)
