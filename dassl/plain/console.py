"""Command lines: types of their arguments, and how they end, with an exit status and a line on stderr."""
from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .ranks import started, started_as
from .text import error_text

__all__ = ["NumberRanges", "not_negative", "number_ranges", "piped", "positive", "ranges_text", "run_command"]

MOST_NUMBERS = 10_000  # that one argument may stand for: more is a slip of the finger, and would fill the memory


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


def number_ranges(words: Iterable[str], least: int = 0) -> list[int]:
    """Read whole numbers and ranges of them: "1", "2" and "5-8" are 1, 2, 5, 6, 7, 8.

    Parameters
    ----------
    words
        Each a number, or FIRST-LAST with both ends included.
    least
        The smallest number that is allowed.

    Returns
    -------
    list of int
        In the order of the words; what is named twice counts once.

    Raises
    ------
    argparse.ArgumentTypeError
        Naming the word that is no number, too small, a range that runs backwards or lacks an end, or one of more than
        MOST_NUMBERS.
    """
    numbers: dict[int, None] = {}
    for word in words:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        first, last = map(int, (match[1], match[2] or match[1])) if match else (-1, -1)
        if not match or first < least:
            raise argparse.ArgumentTypeError(f"{word!r}: give a whole number, {least} or more, or a range such as 1-20")
        if last < first:
            raise argparse.ArgumentTypeError(f"{word!r}: this range runs backwards; write {last}-{first}")
        if last - first >= MOST_NUMBERS:
            raise argparse.ArgumentTypeError(f"{word!r}: a range has at most {MOST_NUMBERS:,} numbers")
        numbers |= dict.fromkeys(range(first, last + 1))
    return list(numbers)


def ranges_text(numbers: Sequence[int]) -> str:
    """Write ascending numbers as `number_ranges` reads them: 1, 2, 3, 5 are "1-3 5"."""
    ends: list[list[int]] = []
    for number in numbers:
        if ends and number == ends[-1][1] + 1:
            ends[-1][1] = number
        else:
            ends.append([number, number])
    return " ".join(f"{first}-{last}" if first < last else str(first) for first, last in ends)


class NumberRanges(argparse.Action):
    """An argument of numbers and ranges, as in `--seeds 1-20` or `--seeds 1 2 5-8`.

    Examples
    --------
    parser.add_argument("--seeds", nargs="+", action=NumberRanges, least=0, metavar="S")
    """

    def __init__(self, *args: Any, least: int = 0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.least = least

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: str | Sequence[Any] | None, option_string: str | None = None) -> None:  # fmt: skip
        """Put the numbers into the namespace, or end the program as argparse does."""
        try:
            setattr(namespace, self.dest, number_ranges(values or (), self.least))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None


def piped(work: Callable[[], int], closed: int = 1, many: bool = False) -> int:
    """Return the exit status of `work`; `closed` where the reader of our output has gone, as in `| head`.

    A program that is not made for `many` processes of torchrun ends before its work where it is one of them.
    """
    if started() > 1 and not many:
        if started_as() == 0:
            text = f"torchrun has started {started()} processes of a program that is made for one"
            print(f"error: {text}; start it without torchrun, which is for train.py", file=sys.stderr)
        return 2
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
