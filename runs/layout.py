"""The names of run folders: one description of each kind, which both makes them and reads them.

The names are those of the programs that this project is compatible with, so that their trees are read like our own.  A
layout is a template.  `{field}` stands for a value, and `[...]` for a part that is there when its fields have values:

    >>> FEW_SHOT.folder(dataset="dtd", trainer="PLOT", config="rn50", shots=4, prompts="4", seed=1)
    'OP_N4/dtd/PLOT/rn50_4shots/seed1'
    >>> FEW_SHOT.match("output/OP_N4/dtd/PLOT/rn50_4shots/seed1")["prompts"]
    '4'

Few shots that were drawn otherwise than by default (DATASET.DRAW) have that behind their number, so that runs of two
draws never share a folder:

    >>> FEW_SHOT.folder(dataset="dtd", trainer="PLOT", config="rn50", shots=4, draw=draw_suffix("proportional"), seed=1)
    'dtd/PLOT/rn50_4shots-proportional/seed1'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from datasets.draws import PER_CLASS

FIELDS = {  # what the value of a field looks like; of all others: anything within a level of folders
    "seed": r"\d+",
    "shots": r"\d+",
    "draw": r"-[a-z]+",
    "prompts": r"\d+(?:_M\d+)?",
    "context": r"nctx[^/]+",
}
FIELD = re.compile(r"\{(\w+)\}")
OPTIONAL = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class Layout:
    """One kind of run folder."""

    template: str
    patterns: Mapping[str, str] = field(default_factory=dict)  # of fields, instead of those in FIELDS

    def folder(self, **values: object) -> str:
        """Return the folder's name, with slashes.

        Optional parts whose fields are missing or "" are left out.  Raises KeyError for a missing field elsewhere.
        """
        filled = {name: str(value) for name, value in values.items() if value not in (None, "")}

        def part(optional: re.Match[str]) -> str:
            return optional[1] if all(name in filled for name in FIELD.findall(optional[1])) else ""

        return OPTIONAL.sub(part, self.template).format(**filled)

    def match(self, path: str) -> dict[str, str] | None:
        """Read the values out of a path that ends in such a folder.

        Returns
        -------
        dict or None
            "" for the fields of parts that the path lacks; None for any other path.
        """
        match = self._pattern.search(path)
        return {name: value or "" for name, value in match.groupdict().items()} if match else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pattern = re.escape(self.template).replace(r"\{", "{").replace(r"\}", "}")
        pattern = re.sub(r"\\\[(.*?)\\\]", r"(?:\1)?", pattern)

        values = {**FIELDS, **self.patterns}
        pattern = FIELD.sub(lambda name: f"(?P<{name[1]}>{values.get(name[1], '[^/]+')})", pattern)
        return re.compile(rf"(?:^|/){pattern}$")


def draw_suffix(draw: str) -> str:
    """Return the field `draw` of a layout for a value of DATASET.DRAW: "-proportional"; "" for the default or none."""
    return "" if draw in ("", PER_CLASS) else f"-{draw}"


CONTEXT = Layout("nctx{tokens}_csc{class_specific}_ctp{position}")
FEW_SHOT = Layout("[OP_N{prompts}/]{dataset}/{trainer}/{config}_{shots}shots[{draw}][/{context}]/seed{seed}")
ZERO_SHOT = Layout("{trainer}/{config}/{dataset}", {"trainer": r"Zeroshot[^/]*"})  # all of this family begin so
BASE_CLASSES = Layout("train_base/{dataset}/shots_{shots}[{draw}]/{trainer}/{config}/seed{seed}")
NEW_CLASSES = Layout("test_new/{dataset}/shots_{shots}[{draw}]/{trainer}/{config}/seed{seed}")
TRANSFER = Layout(
    "evaluation/{trainer}/{config}_{shots}shots[{draw}][/{context}]/{dataset}/seed{seed}", {"dataset": r"(?!nctx)[^/]+"}
)
