"""Figures that others published, to be shown beside ours; none of them was measured here.

Only tables that vouch for themselves are here: their rows give the averages (and harmonic means) that were printed
with them, to both decimals, which tests check.  `PUBLISHED` lists them; each says where it is from, and that source is
printed under every table that shows it.
"""

from __future__ import annotations

from typing import NamedTuple

from .protocols import HALVES

Figure = tuple[float, float | None]  # mean, and spread over seeds where one was published, in %
SHOTS = (1, 2, 4, 8, 16)


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

# base and new of CLIP, CoOp, CoCoOp
_BASE_TO_NEW = """
imagenet         72.43 68.14 76.47 67.88 75.98 70.43
caltech101       96.84 94.00 98.00 89.81 97.96 93.81
oxford_pets      91.17 97.26 93.67 95.29 95.20 97.69
stanford_cars    63.37 74.89 78.12 60.40 70.49 73.59
oxford_flowers   72.08 77.80 97.60 59.67 94.87 71.75
food101          90.10 91.22 88.33 82.26 90.70 91.29
fgvc_aircraft    27.19 36.29 40.44 22.30 33.41 23.71
sun397           69.36 75.35 80.60 65.89 79.74 76.86
dtd              53.24 59.90 79.44 41.18 77.01 56.00
eurosat          56.48 64.05 92.19 54.74 87.49 60.04
ucf101           70.53 77.50 84.69 56.05 82.33 73.45
"""

# CoOp, CoCoOp
_CROSS_DATASET = """
imagenet         71.51 71.02
caltech101       93.70 94.43
oxford_pets      89.14 90.14
stanford_cars    64.51 65.32
oxford_flowers   68.71 71.88
food101          85.30 86.06
fgvc_aircraft    18.47 22.94
sun397           64.15 67.36
dtd              41.92 45.73
eurosat          46.39 45.37
ucf101           66.55 68.21
"""

# CLIP, CoOp, CoCoOp
_DOMAIN = """
imagenet         66.73 71.51 71.02
imagenetv2       60.83 64.20 64.07
imagenet_sketch  46.15 47.99 48.75
imagenet_a       47.77 49.71 50.63
imagenet_r       73.96 75.21 76.18
"""


def _read(table: str, places: list[tuple[str, int]], first: int = 0) -> dict[str, dict[tuple[str, int], Figure]]:
    """Parse lines of a folder name and numbers, of which those from `first` on belong to `places` (part, shots)."""
    rows = [line.split() for line in table.strip().splitlines()]
    return {
        name: {place: (float(values[first + k]), None) for k, place in enumerate(places)} for name, *values in rows
    }


def _cocoop_paper(protocol: str, table: str, number: int, methods: list[str], parts: list[str]) -> list[Published]:
    """Split a table of the CoCoOp paper into one entry a method; its columns go by method, then by part."""
    source = f"Zhou et al., Conditional Prompt Learning for Vision-Language Models, CVPR 2022, Table {number}"
    source += " (16 shots, means over three seeds; CLIP with hand-written prompts)"
    return [
        Published(
            f"{method} ViT-B/16 (published)",
            source,
            protocol,
            _read(table, [(part, 0) for part in parts], first=k * len(parts)),
        )
        for k, method in enumerate(methods)
    ]


PUBLISHED = (
    Published(
        "PLOT++ ViT-B/16 (published)",
        "README of the authors' PLOT++ code, ViT-B/16, mean over seeds",
        "fewshot",
        _read(_PLOTPP, [("", shots) for shots in SHOTS]),
    ),
    Published(
        "CoOp RN50 (published)",
        "the authors' documentation of CoOp, RN50, 16 context tokens, class name at the end, seeds 1 to 3 "
        "(91.81, 92.01, 92.17), population standard deviation",
        "fewshot",
        {"caltech101": {("", 16): (92.00, 0.15)}},
    ),
    *_cocoop_paper("base2new", _BASE_TO_NEW, 2, ["CLIP", "CoOp", "CoCoOp"], list(HALVES)),
    *_cocoop_paper("crossdataset", _CROSS_DATASET, 3, ["CoOp", "CoCoOp"], [""]),
    *_cocoop_paper("domain", _DOMAIN, 4, ["CLIP", "CoOp", "CoCoOp"], [""]),
)
