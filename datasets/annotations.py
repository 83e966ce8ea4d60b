"""Read the lists that data sets come with: text files and MATLAB files."""

from __future__ import annotations

from typing import Any


def read_lines(path: str) -> list[str]:
    """Return the lines of a text file, without white space at their ends and without empty ones."""
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def read_fields(path: str, count: int) -> list[list[str]]:
    """Cut each line of a text file at spaces.

    Parameters
    ----------
    path
        The file; empty lines are left out.
    count
        Number of fields, of which the last may contain spaces.

    Raises
    ------
    ValueError
        Naming the first line that has fewer fields.
    """
    rows = [line.split(" ", count - 1) for line in read_lines(path)]
    for row in rows:
        if len(row) != count:
            raise ValueError(f"{path}: {' '.join(row)!r} should have {count} fields, separated by spaces")
    return rows


def read_mat(path: str, variable: str) -> Any:
    """Read a variable of a MATLAB file.

    Parameters
    ----------
    path
        The file.
    variable
        Its name.

    Returns
    -------
    numpy.ndarray
        The variable as an array of one dimension. Within its entries, dimensions of size one are dropped, so that text
        is a str.

    Raises
    ------
    ImportError
        Without scipy, which reads such files.
    ValueError
        When the file is damaged.
    """
    try:
        import numpy as np
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs scipy: `pip install scipy`, or put the split file beside it, which says the same"
        ) from error
    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True)[variable])
    except Exception as error:  # scipy raises many kinds for damaged files
        raise ValueError(f"{path} is damaged or no MATLAB file ({error}); download it again") from error
