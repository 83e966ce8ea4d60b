"""Which methods of a column are the best, as far as the differences between them can tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .cells import Cell
from .comparison import NotComparable, compare_cells
from .paired import average_differences
from .summary import Section


@dataclass
class Best:
    """Which cells of a table are the best of their column, ties included.

    `reasons` counts the columns in which that cannot be said.
    """

    places: set[tuple[str, int]] = field(default_factory=set)  # (method, shots)
    reasons: Counter[str] = field(default_factory=Counter)


def best(sections: Sequence[Section], shots: Sequence[int] = ()) -> Best:
    """Find the best methods of every column of a data set, or of the average over several of one kind.

    The method with the highest mean is among them, and every one from which it does not differ beyond the 95 %
    interval.  A column in which the highest cannot be compared with every other has none.

    Parameters
    ----------
    sections
        Of one kind.
    shots
        Only these columns; default: all.
    """
    result = Best()
    for count in shots or sections[0].shots:
        columns = {name: [section.cell(name, count) for section in sections] for name in sections[0].methods}
        whole = {
            name: [cell for cell in cells if cell and cell.runs]
            for name, cells in columns.items()
            if all(cell and cell.runs for cell in cells)
        }
        if len(whole) < 2:
            continue
        top = max(whole, key=lambda name: math.fsum(cell.mean or 0.0 for cell in whole[name]))
        try:
            result.places |= {(name, count) for name in whole if name == top or not _beats(whole[top], whole[name])}
        except NotComparable as error:
            result.reasons[error.reason] += 1
    return result


def _beats(top: Sequence[Cell], other: Sequence[Cell]) -> bool:
    """Tell whether a method is better than another beyond the interval, over one or several data sets."""
    pairs = [compare_cells(a, b).difference for a, b in zip(top, other, strict=True)]
    return (average_differences(pairs) if len(pairs) > 1 else pairs[0]).winner > 0
