"""Figures that others published, to be shown beside ours; none of them was measured here.

They stand in published.yaml, in tables that vouch for themselves: their rows give the averages (and harmonic means)
that were printed with them, which tests check.  `PUBLISHED` has an entry for each method of each table, which says
where it is from; that source is printed under every table that shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Figure = tuple[float, float | None]  # mean, and spread over seeds where one was published, in %


class Published(NamedTuple):
    """One method of one published table.

    Places are named as in `protocols`: data sets by folder name, parts "base" and "new" or "", shots 0 except in few-
    shot.
    """

    name: str
    source: str
    protocol: str
    accuracy: dict[str, dict[tuple[str, int], Figure]]  # {data set: {(part, shots): figure}}

    def figure(self, dataset: str, part: str = "", shots: int = 0) -> Figure | None:
        """Return the printed figure of one place; None where the table has none."""
        return self.accuracy.get(dataset, {}).get((part, shots))


def read_published() -> Iterator[Published]:
    """Yield the methods of all tables in published.yaml.

    Raises
    ------
    ValueError
        For a row with too many or too few figures, naming it.
    """
    for table in yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")):
        places = list(product(table.get("parts", [""]), table.get("shots", [0])))
        columns = list(product(table["methods"], places))
        accuracy: dict[str, Any] = {method: {} for method in table["methods"]}
        for dataset, row in table["figures"].items():
            if len(row) != len(columns):
                raise ValueError(f"{table['source']}: {dataset} has {len(row)} figures for {len(columns)} columns")
            spread = table.get("spread", {}).get(dataset, [None] * len(row))
            for (method, place), *figure in zip(columns, row, spread, strict=True):
                accuracy[method].setdefault(dataset, {})[place] = tuple(figure)
        draw = f", {table['draw']} draw" if "draw" in table else ""
        for method in table["methods"]:
            yield Published(f"{method} (published{draw})", table["source"], table["protocol"], accuracy[method])


PUBLISHED = tuple(read_published())
