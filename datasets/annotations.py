"""Read the lists that data sets come with: text files and MATLAB files."""

from __future__ import annotations

from typing import Any


def read_lines(path: str) -> list[str]:
    """The lines of a text file, without white space at their ends and without empty ones."""
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def read_fields(path: str, count: int) -> list[list[str]]:
    """Each line of a text file cut at spaces into `count` fields, of which the last may contain spaces.

    Raises ValueError naming the first line that has fewer.
    """
    rows = [line.split(" ", count - 1) for line in read_lines(path)]
    for row in rows:
        if len(row) != count:
            raise ValueError(f"{path}: {' '.join(row)!r} should have {count} fields, separated by spaces")
    return rows


def read_mat(path: str) -> dict[str, Any]:
    """The variables of a MATLAB file. Dimensions of size one are dropped, so that text is a str.

    Needs scipy; raises ImportError saying so, ValueError when the file is damaged.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs scipy: `pip install scipy`, or put the split file beside it, which says the same"
        ) from error
    try:
        return loadmat(path, squeeze_me=True)
    except Exception as error:  # scipy raises many kinds for damaged files
        raise ValueError(f"{path} is damaged or no MATLAB file ({error}); download it again") from error
