"""Which methods of a column are the best, as far as the differences between them can tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .comparison import NotComparable, compare_cells
from .paired import Difference, average_differences
from .summary import Section


@dataclass
class Best:
    """Which cells of a table are the best of their column, ties included.

    Parameters
    ----------
    places
        (method, shots) of these cells.
    reasons
        Why that cannot be said, and in how many columns.
    in_part
        In how many columns methods were compared on fewer seeds than they have.
    """

    places: set[tuple[str, int]] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)
    in_part: int = 0


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
        others = [name for name in whole if name != top]
        try:  # by method, by data set
            pairs = {
                name: [compare_cells(a, b) for a, b in zip(whole[top], whole[name], strict=True)] for name in others
            }
        except NotComparable as error:
            result.reasons[error.reason] += 1
            continue
        ties = [name for name in others if _overall([pair.difference for pair in pairs[name]]).winner <= 0]
        result.places |= {(name, count) for name in (top, *ties)}
        result.in_part += any(pair.note for each in pairs.values() for pair in each)
    return result


def _overall(differences: Sequence[Difference]) -> Difference:
    """Return the one difference, or the mean over several data sets."""
    return average_differences(differences) if len(differences) > 1 else differences[0]
