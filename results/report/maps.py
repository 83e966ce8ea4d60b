"""The section of the report with the feature maps that `python -m results map` left beside the runs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from ..looking.maps import FOLDER, OWN
from .page import image, paragraph, section
from .transport import name_of_run

MOST_MAPS = 6


def maps_section(output: Path) -> str:
    """The pictures below `output`, up to MOST_MAPS."""
    found = sorted(path for path in output.glob(f"**/{FOLDER}/*.png") if path.with_suffix(".npz").exists())
    parts = []
    for path in found[:MOST_MAPS]:
        parts += [name_of_run(path.parent, output), image(path, *describe(path))]
    if len(found) > MOST_MAPS:
        parts.append(paragraph(f"{len(found) - MOST_MAPS} more lie beside their runs.", "soft"))
    return section("map", "Map of prompts and images", *parts)


def describe(path: Path) -> tuple[str, str]:
    """(words for those who cannot see it, caption)."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            labels = np.unique(file["prompt_label"])
            told = OWN.format(own=meta["prompts_like_their_own_class"], all=len(file["prompt_label"]))
        names = ", ".join(meta["classnames"][label] for label in labels)
        return f"Map of the features of {names}. {told}", f"{meta['title']}. {told}"
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError, zipfile.BadZipFile):
        return f"Map of features, {path.stem}.", path.stem
