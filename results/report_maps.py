"""The section of the report with the feature maps that `python -m results map` left beside the runs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from .maps import FOLDER
from .page import esc, image, paragraph, section

MOST_MAPS = 6


def maps_section(output: Path) -> str:
    """The pictures below `output`, up to MOST_MAPS."""
    found = sorted(path for path in output.glob(f"**/{FOLDER}/*.png") if path.with_suffix(".npz").exists())
    parts = []
    for path in found[:MOST_MAPS]:
        run = path.parent.parent
        name = run.relative_to(output).as_posix() if run != output else run.resolve().name
        parts += [paragraph(f"Run <code>{esc(name)}</code>", "soft"), image(path, *describe(path))]
    if len(found) > MOST_MAPS:
        parts.append(paragraph(f"{len(found) - MOST_MAPS} more lie beside their runs.", "soft"))
    return section("map", "Map of prompts and images", *parts)


def describe(path: Path) -> tuple[str, str]:
    """(words for those who cannot see it, caption)."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            labels = np.unique(file["prompt_label"])
            middles = [file["image_points"][file["image_label"] == label].mean(axis=0) for label in labels]
            away = np.linalg.norm(file["prompt_points"][:, None] - np.stack(middles), axis=2)  # (T, classes)
            own = int((labels[away.argmin(axis=1)] == file["prompt_label"]).sum())
        names = ", ".join(meta["classnames"][label] for label in labels)
        told = f"in this plane {own} of {len(away)} prompts lie nearest to the middle of their own class's images"
        return f"Map of the features of {names}: {told}.", f"{meta['title']}; {told}."
    except (OSError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile):
        return f"Map of features, {path.stem}.", path.stem
