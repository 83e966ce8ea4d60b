"""The section of the report on the transport: how far from doing nothing, at what price, and the heat maps."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from .methods import group
from .page import cell, esc, image, paragraph, section, table
from .records import Run
from .summary import Summary, spread
from .tables import ABSENT, shots_name
from .transport import FOLDER

MOST_PICTURES = 12  # in the report; the files stay where they are
DIAGNOSTICS = (  # key of the record, column, format, whether the worst run counts instead of the mean
    ("distance_from_uniform", "from uniform, all classes", "{:.3f}", False),
    ("distance_from_uniform_predicted", "of predicted class", "{:.3f}", False),
    ("iterations_mean", "iterations, mean", "{:.1f}", False),
    ("iterations_max", "iterations, most", "{:.0f}", True),
    ("marginal_error_max", "largest marginal error", "{:.1e}", True),
    ("converged_share", "converged", "{:.1%}", False),
)
NO_PLACES = (
    " PLOTPP's plans are between visual and text prompts, each about the whole image: there are no places to picture."
)


def transport_section(summary: Summary, output: Path) -> str:
    """How far the plans are from uniform, what solving them took, and the heat maps that exist."""
    rows = []
    for title, method, shots, runs in trained_cells(summary):
        reports = [run.record["transport"] for run in runs if isinstance(run.record.get("transport"), dict)]
        if not reports:
            continue
        row = [esc(method if len(summary.sections) == 1 else f"{method}, {title}"), cell(shots_name(shots))]
        for key, _, pattern, worst in DIAGNOSTICS:
            values = [report[key] for report in reports if isinstance(report.get(key), int | float)]
            number = (max(values) if worst else spread(values).mean) if values else None
            row.append(cell(ABSENT if number is None else pattern.format(number)))
        rows.append(row)
    diagnostics = (
        table(
            ["method", "shots", *(column for _, column, _, _ in DIAGNOSTICS)],
            rows,
            "Transport in the final test",
            "Over the final test, mean over seeds. Distance from uniform is the total variation between "
            "the transport plan and the one that spreads all mass evenly: at 0 the transport would do "
            "nothing, 1 is its limit." + NO_PLACES * any(run.trainer == "PLOTPP" for run in summary.complete_runs),
        )
        if rows
        else ""
    )
    return section("transport", "Transport", diagnostics, heat_maps(output))


def heat_maps(output: Path) -> str:
    """The pictures of `transport` below `output`, up to MOST_PICTURES."""
    found = sorted(path for path in output.glob(f"**/{FOLDER}/*.png") if path.with_suffix(".npz").exists())
    if not found:
        return ""
    parts = [
        "<h3>What each prompt is matched with</h3>",
        paragraph(
            "For the class that each image was taken for: orange where a prompt receives more mass than "
            "uniform, purple where less, untinted where the transport makes no difference. Above smoothed "
            "over the picture, below cell by cell as computed.",
            "soft",
        ),
    ]
    for folder, paths in group(found[:MOST_PICTURES], lambda path: path.parent.parent).items():
        name = folder.relative_to(output).as_posix()
        parts.append(paragraph(f"Run <code>{esc(name if name != '.' else folder.name)}</code>", "soft"))
        for path in paths:
            parts.append(image(path, *describe_map(path)))
    if len(found) > MOST_PICTURES:
        parts.append(paragraph(f"{len(found) - MOST_PICTURES} more lie beside their runs.", "soft"))
    return "\n".join(parts)


def describe_map(path: Path) -> tuple[str, str]:
    """(words for those who cannot see it, caption)."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
        truth = f", truly {meta['true']}" if meta["true"] not in (None, meta["predicted"]) else ""
        by_prompt = ", ".join("none" if value is None else f"{value:.2f}" for value in meta["distance_by_prompt"])
        caption = (
            f"{meta['file']}: taken for {meta['predicted']}{truth}; "
            f"plan {meta['distance_from_uniform']:.2f} from uniform"
        )
        return f"Transport heat maps. {caption}; by prompt {by_prompt}.", caption
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return f"Transport heat maps of {path.stem}.", path.stem


def trained_cells(summary: Summary, every: bool = False) -> list[tuple[str, str, int, list[Run]]]:
    """(section title, method, shots, runs) of every cell that holds a run; all methods with `every`."""
    return [
        (one.title, method, shots, held.runs)
        for one in summary.sections
        for (method, shots), held in one.cells.items()
        if held.runs and (every or held.runs[0].trained)
    ]
