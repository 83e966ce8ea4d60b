"""Figures that others published, to be shown beside ours; none of them was measured here.

published.yaml holds the tables and says how they are laid out.  `PUBLISHED` lists their methods; each says where its
figures are from, and that source is printed under every table that shows it.
"""

from __future__ import annotations

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


def _methods_of(table: dict[str, Any]) -> list[Published]:
    """Split a table into one entry a method; its columns go by method, then by place.

    Raises
    ------
    ValueError
        When a row has more or fewer figures than the table has columns.
    """
    methods, places = table["methods"], [(part, shots) for part in table["parts"] for shots in table["shots"]]
    entries = [Published(f"{name} (published)", table["source"], table["protocol"], {}) for name in methods]
    for dataset, row in table["figures"].items():
        if len(row) != len(methods) * len(places):
            raise ValueError(f"published.yaml, {table['source']}: {dataset} has {len(row)} figures, not one a column")
        figures = iter([tuple(figure) if isinstance(figure, list) else (figure, None) for figure in row])
        for entry in entries:
            entry.accuracy[dataset] = dict(zip(places, figures, strict=False))
    return entries


_TABLES = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
PUBLISHED = tuple(entry for table in _TABLES for entry in _methods_of(table))
