"""Text on its way to a terminal."""
from __future__ import annotations

import re

__all__ = ["printable"]

_NOT_PRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # control characters: ESC, newlines, tabs
    r"\u2028\u2029"  # separators of lines and of paragraphs
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of writing
    r"\ud800-\udfff]"  # bytes of file names that are no UTF-8
)


def printable(text: object) -> str:
    """`text` for one line of a terminal or log: what would command the terminal, or break the line, as an escape.

    Control characters, separators of lines, marks of the writing direction and lone surrogates become what Python
    would write for them: a file called "a", ESC, "[2J" is shown as a\\x1b[2J. All other Unicode stays as it is.
    """
    return _NOT_PRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))
