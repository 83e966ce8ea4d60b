"""Text on its way to a terminal, a log or a spreadsheet, whatever the names in it hold."""
from __future__ import annotations

import contextlib
import csv
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from wcwidth import wcswidth

__all__ = [
    "GOES_ON", "columns", "csv_line", "error_text", "first_few", "pad", "plain_warnings", "printable",
    "printable_lines", "shortened",
]  # fmt: skip

GOES_ON = "** The run goes on: "  # in a log, then date and time: what is above came from an earlier start of the run
_NOT_PRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # control characters: ESC, newlines, tabs
    r"\u2028\u2029"  # separators of lines and of paragraphs
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of writing
    r"\ud800-\udfff]"  # bytes of file names that are no UTF-8
)


def printable(text: object) -> str:
    r"""Make `text` fit for one line of a terminal or log.

    What would command the terminal, or break the line, becomes what Python would write for it: control characters,
    separators of lines, marks of the writing direction and lone surrogates. A file called "a", ESC, "[2J" is shown as
    a\x1b[2J. All other Unicode stays as it is.
    """
    text = str(text)
    if text.isprintable():  # for Python that is less than for us, and quick
        return text
    return _NOT_PRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def printable_lines(text: str) -> str:
    """Make several lines fit for a terminal, one by one."""
    return "\n".join(map(printable, text.split("\n")))


def error_text(error: BaseException) -> str:
    """Return what an exception says, fit for a terminal.

    str() of a KeyError would put its text in quotes, of an OSError a number before it.
    """
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        text = error.strerror
    return printable_lines(text)


def first_few(values: Iterable[Any], limit: int = 5) -> str:
    """Join the first few values: "a, b, c, ... (17 in all)"."""
    values = list(values)
    shown = ", ".join(str(value) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown}, ... ({len(values)} in all)"


def shown_bytes(size: float) -> str:
    """Write a number of bytes for people: "2.3 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings for users (UserWarning) as bare sentences, and those for programmers with the line of code."""
    usual = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
        return f"warning: {message}\n" if category is UserWarning else usual(message, category, *where, **more)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


def csv_line(*cells: Any) -> str:
    """Return a line of CSV, with its end.

    Text is `printable`, and where a spreadsheet would compute it (it begins with =, +, - or @) an apostrophe comes
    before it, which spreadsheets take for "this is text" and do not show.

    Parameters
    ----------
    *cells : str, number or None
        Numbers stay numbers, floats at full precision; None is an empty cell.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(_inert(cell) if isinstance(cell, str) else cell for cell in cells)
    return line.getvalue()


def _inert(text: str) -> str:
    text = printable(text)
    return "'" + text if text.lstrip().startswith(("=", "+", "-", "@")) else text


def columns(text: object) -> int:
    """Return how many columns of a terminal `printable(text)` takes: two for each Chinese character."""
    return wcswidth(printable(text))


def pad(text: object, width: int) -> str:
    """Return `printable(text)`, filled up with spaces to so many columns."""
    return printable(text) + " " * (width - columns(text))


def shortened(text: object, width: int, keep_end: bool = False) -> str:
    """Return `printable(text)` in at most so many columns; … stands for what is left out.

    Parameters
    ----------
    text
        Anything.
    width : int
        In columns, 1 or more.
    keep_end : bool
        Leave out the beginning, as of a path, whose end tells more, and not the end.
    """
    shown = printable(text)
    if columns(shown) <= width:
        return shown
    while columns(shown) > width - 1:
        shown = shown[1:] if keep_end else shown[:-1]
    return f"…{shown}" if keep_end else f"{shown}…"
