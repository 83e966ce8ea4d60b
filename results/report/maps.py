"""The section with the feature maps that `python -m results map` left beside the runs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from runs.files import find_files

from ..inspection.maps import FOLDER
from ..numbers.feature_map import OWN
from .parts import pictures

MOST_MAPS = 6


def maps(output: Path) -> dict[str, Any] | None:
    """Show the pictures below `output`, up to MOST_MAPS."""
    paths = [path for path in find_files(output, "*.png", FOLDER) if path.with_suffix(".npz").exists()]
    shown = pictures(output, [(path, path) for path in paths], MOST_MAPS, describe)
    return {"maps": shown} if shown else None


def describe(path: Path) -> tuple[str, str]:
    """Return words for those who cannot see the map, and its caption.

    Both come from the arrays beside the picture; where these cannot be read the picture is shown with its name alone.
    """
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            labels = np.unique(file["prompt_label"])
            own = OWN.format(own=meta["prompts_like_their_own_class"], all=len(file["prompt_label"]))
        names = ", ".join(meta["classnames"][label] for label in labels)
        return f"Map of the features of {names}. {own}", f"{meta['title']}. {own}"
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError, zipfile.BadZipFile):
        return f"Map of features, {path.stem}.", path.stem
