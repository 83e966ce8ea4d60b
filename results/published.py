"""Figures that others published, to be shown beside ours; none of them was measured here."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One published table: {data set: {shots: (mean, spread or None)}}, in %."""

    name: str
    source: str
    accuracy: dict[str, dict[int, tuple[float, float | None]]]


_PLOTPP = """
caltech101       94.34 94.69 95.13 95.51 96.04
dtd              54.57 56.72 62.43 66.49 71.43
eurosat          65.41 76.80 83.21 88.37 92.00
fgvc_aircraft    28.60 31.14 35.29 41.42 46.74
oxford_flowers   80.48 89.81 92.93 95.44 97.56
food101          86.16 86.33 86.46 86.58 87.11
imagenet         66.45 68.28 70.40 71.31 72.60
oxford_pets      91.89 92.29 92.55 93.02 93.59
stanford_cars    68.81 73.17 76.25 81.26 84.55
sun397           66.77 68.06 71.73 73.93 76.03
ucf101           74.31 76.76 79.76 82.80 85.34
"""


def _read(table: str) -> dict[str, dict[int, tuple[float, float | None]]]:
    """Lines of a name and the accuracies at 1, 2, 4, 8 and 16 shots."""
    lines = [line.split() for line in table.strip().splitlines()]
    return {
        name: {shots: (float(value), None) for shots, value in zip((1, 2, 4, 8, 16), values, strict=True)}
        for name, *values in lines
    }


FEW_SHOT = (
    Published(
        "PLOT++ ViT-B/16 (published)",
        "README of the authors' PLOT++ code, ViT-B/16, mean over seeds",
        _read(_PLOTPP),
    ),
    Published(
        "CoOp RN50 (published)",
        "the authors' documentation of CoOp, RN50, 16 context tokens, class name at the end, seeds 1 to 3 "
        "(91.81, 92.01, 92.17), population standard deviation",
        {"caltech101": {16: (92.00, 0.15)}},
    ),
)
