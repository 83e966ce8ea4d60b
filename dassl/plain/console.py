"""Command lines: types of their arguments, and how they end, with an exit status and a line on stderr."""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from .text import error_text

__all__ = ["not_negative", "piped", "positive", "run_command"]


def positive(text: str) -> int:
    """Read a whole number of 1 or more; a type for argparse."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """Read a whole number of 0 or more, as of a seed: below, a run draws without one, and cannot be repeated."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, {least} or more")
    return int(text)


def piped(work: Callable[[], int], closed: int = 1) -> int:
    """Return the exit status of `work`; `closed` where the reader of our output has gone, as in `| head`."""
    try:
        status = work()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return closed


def run_command(
    work: Callable[[], int],
    expected: tuple[type[Exception], ...],
    failed: Callable[[Exception], bool],
    interrupted: str = "",
    closed: int = 0,
) -> int:
    """Do the work of a command line.

    Parameters
    ----------
    work
        Returns the exit status.
    expected
        What users can mend: they see its text, and no traceback (unless PLOT_TRACEBACK is set).
    failed
        Whether such an error is one of the machine or the data (exit status 1), and not of the command line (2).
    interrupted
        What to say of Ctrl-C, which is exit status 130.
    closed
        As of `piped`.

    Returns
    -------
    int
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console without ± shows ?, instead of failing
    try:
        return piped(work, closed)
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return 130
    except expected as error:
        if os.environ.get("PLOT_TRACEBACK"):
            raise
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 1 if failed(error) else 2
