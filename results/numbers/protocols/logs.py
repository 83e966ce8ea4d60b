"""Accuracies out of `log.txt` files of any program of this family, printed as the original tool does.

    Parsing files in DIR
    file: DIR/seed1/log.txt. accuracy: 91.81%.
    ===
    Summary of directory: DIR
    * accuracy: 91.91% +- 0.10%
    ===

Where the original falls over or keeps silent, this one does not: both end-of-training markers are known, the
newest complete log of a folder counts (a continued run may write log.txt-<time>), stray entries are skipped with
a warning, and folders without a result are counted and named.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dassl.plain.text import GOES_ON
from runs.files import ResultsError, to_stderr, to_stdout
from runs.methods import mark
from runs.record import read_run

TRAINING_ENDED = ("Finish training", "Finished training")  # Dassl 0.6 and later; 0.5 and earlier
RESULT_BLOCK = ("=> result",)
LOG_NAME = re.compile(r"log\.txt(-\d[\d-]*)?")  # the logger adds the time where there is a log already


class LogOptions(NamedTuple):
    """What to look for in logs, and which spread to print."""

    keyword: str = "accuracy"
    test_log: bool = False  # logs of evaluations, which hold no training
    ci95: bool = False  # 1.96 standard errors instead of the standard deviation
    sample_std: bool = False  # ddof 1 instead of 0


class Parsed(NamedTuple):
    """Result of one directory."""

    mean: float
    spread: float
    values: list[float]
    missing: list[str]  # run folders without a result


def read_metric(path: Path, options: LogOptions) -> float | None:
    """Return the last value of the metric after the end marker; None where the log is not complete.

    Validations before the end print the same lines as the final test, so nothing counts until training has ended.
    Where a run went on in the same log, its end has to come again.
    """
    pattern = re.compile(rf"\* {re.escape(options.keyword)}: ([.\deE+-]+)%")
    markers = RESULT_BLOCK if options.test_log else TRAINING_ENDED
    ended, value = False, None
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in map(str.strip, lines):
            ended = (ended or line in markers) and not line.startswith(GOES_ON)
            match = pattern.search(line) if ended else None
            if match:
                with contextlib.suppress(ValueError):
                    number = float(match.group(1))
                    value = number if math.isfinite(number) else value
    return value


def find_logs(folder: Path) -> list[Path]:
    """List the logs of a run folder, newest first: log.txt is older than any log.txt-<time>.

    Other names (an editor's backup) are no logs.
    """
    logs = [path for path in folder.glob("log.txt*") if LOG_NAME.fullmatch(path.name) and path.is_file()]
    return sorted(logs, key=lambda path: path.name, reverse=True)


def newest_result(folder: Path, options: LogOptions) -> tuple[Path, float] | None:
    """Find the newest complete log of a run folder; returns its path and value, or None.

    A run that was continued may have written a second log, of which the first is then a torn half.
    """
    for path in find_logs(folder):
        with contextlib.suppress(OSError):
            value = read_metric(path, options)
            if value is not None:
                return path, value
    return None


def parse_directory(directory: str | Path, options: LogOptions) -> Parsed:
    """Read the run folders in `directory` and print its block.

    Raises
    ------
    ResultsError
        If no log has a result.
    """
    to_stdout(f"Parsing files in {directory}")
    values, missing = [], []
    for entry in entries(directory):
        if not entry.is_dir():
            _warn(f"{entry} is no run folder; skipped")
        elif not find_logs(entry):
            _warn(f"{entry} holds no log.txt")
            missing.append(entry.name)
        elif (newest := newest_result(entry, options)) is None:
            _warn(f"{entry}: no complete log; the run has no result")
            missing.append(entry.name)
        else:
            path, value = newest
            shown = os.path.join(directory, entry.name, path.name)  # as it was given: ./out stays ./out
            to_stdout(f"file: {shown}. {options.keyword}: {value:.2f}%. ")
            if remark := mark(read_run(entry)):
                _warn(f"{entry}: the result is marked{remark}")
            values.append(value)
    if not values:
        hint = "" if options.test_log else "; logs of evaluations (--eval-only) need --test-log"
        raise ResultsError(f"nothing found in {directory}: no log says '* {options.keyword}: ...%' after its end{hint}")

    mean, spread = statistics.fmean(values), deviation(values, options)
    print("===")
    to_stdout(f"Summary of directory: {directory}")
    print(f"* {options.keyword}: {mean:.2f}% +- {spread:.2f}%")
    if missing:
        to_stdout(f"{len(values)} of {len(values) + len(missing)} runs; no result: {', '.join(missing)}")
    print("===")
    return Parsed(mean, spread, values, missing)


def deviation(values: Sequence[float], options: LogOptions) -> float:
    """Spread of at least one value: the population standard deviation, unless asked otherwise.

    With `sample_std` it is the sample's (ddof 1; NaN for one value), with `ci95` 1.96 standard errors of either.
    """
    if options.sample_std:
        std = statistics.stdev(values) if len(values) > 1 else math.nan
    else:
        std = statistics.pstdev(values)
    return 1.96 * std / math.sqrt(len(values)) if options.ci95 else std


def parse_experiments(directory: str | Path, options: LogOptions) -> list[Parsed]:
    """Print the block of each child of `directory`, then the mean of their means (`--multi-exp`).

    Raises
    ------
    ResultsError
        Where it holds no folder, or one of them no result.
    """
    parsed = []
    for child in entries(directory):
        if child.is_dir():
            parsed.append(parse_directory(os.path.join(directory, child.name), options))
        else:
            _warn(f"{child} is no folder; skipped")
    if not parsed:
        raise ResultsError(f"{directory} holds no folder; --multi-exp expects one folder an experiment")
    print("Average performance")
    print(f"* {options.keyword}: {statistics.fmean(experiment.mean for experiment in parsed):.2f}%")
    return parsed


def entries(directory: str | Path) -> list[Path]:
    """List `directory` without hidden names, sorted.  Raises ResultsError where it is no folder."""
    if not Path(directory).is_dir():
        raise ResultsError(f"{directory} is no folder; give the parent of the seed folders")
    return sorted(path for path in Path(directory).iterdir() if not path.name.startswith("."))


def _warn(message: str) -> None:
    to_stderr(f"warning: {message}")
