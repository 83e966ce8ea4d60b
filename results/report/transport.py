"""The section of the report on the transport: how far from doing nothing, at what price, and the heat maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dassl.plain.reading import COUNT, NUMBER, TEXT, WHOLE, Each, Maybe
from runs.files import read_shaped, tell
from runs.methods import group
from runs.record import Run, relative_to

from ..looking.claims import NAME
from ..looking.transport import FOLDER, INDEX
from ..numbers.summary import Summary, spread
from ..tables.tables import ABSENT, shots_name
from .page import cell, esc, image, paragraph, section, table

MOST_PICTURES, MOST_SHEETS = 12, 6  # in the report; the files stay where they are
DIAGNOSTICS = (  # key of the record, column, format, whether the worst run counts instead of the mean
    ("distance_from_uniform", "from uniform, all classes", "{:.3f}", False),
    ("distance_from_uniform_predicted", "of predicted class", "{:.3f}", False),
    ("iterations_mean", "iterations, mean", "{:.1f}", False),
    ("iterations_max", "iterations, most", "{:.0f}", True),
    ("marginal_error_max", "largest marginal error", "{:.1e}", True),
    ("converged_share", "converged", "{:.1%}", False),
)
FILES = Each(TEXT)  # by format
SHOWN = {"name": TEXT, "distance_from_uniform": NUMBER, "distance_by_prompt": [Maybe(NUMBER)]}
PICTURE = {"file": TEXT, "predicted": TEXT, "true": Maybe(TEXT), "grid": Maybe([WHOLE]), "classes": [SHOWN]}
MAPS = {"pictures": Maybe([PICTURE | {"files": FILES}])}  # index.json, as far as it is read here
CLAIMS = {
    "files": FILES,
    "classes": [TEXT],
    "images": COUNT,
    "prompts": [{"prompt": COUNT, "claimed": [{"true": TEXT}]}],
}
NO_PLACES = " PLOTPP's plans are between visual and text prompts, each about the whole image."


def transport_section(summary: Summary, output: Path) -> str:
    """How far the plans are from uniform, what solving them took, and the heat maps that exist."""
    rows = []
    for title, method, shots, runs in trained_cells(summary):
        reports = [run.record["transport"] for run in runs if isinstance(run.record.get("transport"), dict)]
        if not reports:
            continue
        row = [esc(method if len(summary.sections) == 1 else f"{method}, {title}"), cell(shots_name(shots))]
        for key, _, pattern, worst in DIAGNOSTICS:
            values = [report[key] for report in reports if NUMBER(report.get(key))]
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
    return section("transport", "Transport", diagnostics, heat_maps(output), claims_sheets(output))


def heat_maps(output: Path) -> str:
    """The pictures that the last `transport` of each run below `output` made, up to MOST_PICTURES."""
    found = [
        (index.parent, meta, picture)
        for index, listed in read_lists(output, INDEX, MAPS)
        for meta in listed.get("pictures") or ()
        if (picture := picture_beside(index, meta))
    ]
    if not found:
        return ""
    parts = [
        "<h3>What each prompt is matched with</h3>",
        paragraph(
            "For the class that each image was taken for, and below it for its true class where that is another: "
            "orange where a prompt receives more mass than uniform, purple where less, untinted where the transport "
            "makes no difference; one scale for both. Above smoothed over the picture, below cell by cell as computed."
            + NO_PLACES * any(meta["grid"] is None for _, meta, _ in found),
            "soft",
        ),
    ]
    for folder, pictures in group(found[:MOST_PICTURES], lambda one: one[0]).items():
        parts.append(name_of_run(folder, output))
        parts += [image(path, *describe_map(meta)) for _, meta, path in pictures]
    if len(found) > MOST_PICTURES:
        parts.append(paragraph(f"{len(found) - MOST_PICTURES} more lie beside their runs.", "soft"))
    return "\n".join(parts)


def describe_map(meta: dict[str, Any]) -> tuple[str, str]:
    """(words for those who cannot see it, caption)."""
    truth = f", truly {meta['true']}" if meta["true"] not in (None, meta["predicted"]) else ""
    caption = f"{meta['file']}: taken for {meta['predicted']}{truth}"
    said = []
    for one in meta["classes"]:
        by_prompt = ", ".join("none" if far is None else f"{far:.2f}" for far in one["distance_by_prompt"])
        said.append(f"{one['name']}: plan {one['distance_from_uniform']:.2f} from uniform, by prompt {by_prompt}")
    plans = " and ".join(f"{one['distance_from_uniform']:.2f}" for one in meta["classes"])
    return f"Transport heat maps. {caption}. {'. '.join(said)}.", f"{caption}; plan {plans} from uniform"


def claims_sheets(output: Path) -> str:
    """The contact sheets that `claims` left beside the runs below `output`, up to MOST_SHEETS."""
    found = [
        (path, listed, picture)
        for path, listed in read_lists(output, f"{NAME}*.json", CLAIMS)
        if (picture := picture_beside(path, listed))
    ]
    if not found:
        return ""
    parts = [
        "<h3>Which images each prompt claims</h3>",
        paragraph(
            "How much more similar what a prompt receives is than what the other prompts of the class receive: "
            "N · Σ T[m,n] S[m,n] minus its mean over the prompts, ranked within each prompt.",
            "soft",
        ),
    ]
    for path, listed, picture in found[:MOST_SHEETS]:
        most = "; ".join(
            f"prompt {one['prompt']} " + ", ".join(claimed["true"] for claimed in one["claimed"])
            for one in listed["prompts"]
        )
        of = f" of {', '.join(listed['classes'])}" if listed["classes"] else ""
        caption = f"What each prompt claims most{of}, of {listed['images']} test images"
        parts += [name_of_run(path.parent, output), image(picture, f"{caption}: {most}.", caption)]
    if len(found) > MOST_SHEETS:
        parts.append(paragraph(f"{len(found) - MOST_SHEETS} more lie beside their runs.", "soft"))
    return "\n".join(parts)


def name_of_run(folder: Path, output: Path) -> str:
    """The line above the pictures in `folder`, below their run."""
    return paragraph(f"Run <code>{esc(relative_to(folder.parent, output))}</code>", "soft")


def read_lists(output: Path, name: str, shape: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(path, content) of the lists of pictures beside the runs below `output`, sorted; those that are torn or not of
    `shape` are named and left out."""
    for path in sorted(output.glob(f"**/{FOLDER}/{name}")):
        try:
            yield path, read_shaped(path, shape)
        except ValueError as error:
            tell(f"not shown: {path} cannot be read: {error}")


def picture_beside(path: Path, listed: dict[str, Any]) -> Path | None:
    """The PNG of an entry of the list at `path`, in the list's own folder whatever the entry says; None: it is gone."""
    name = Path(listed["files"].get("png", "")).name
    return path.with_name(name) if name and path.with_name(name).is_file() else None


def trained_cells(summary: Summary, every: bool = False) -> list[tuple[str, str, int, list[Run]]]:
    """(section title, method, shots, runs) of every cell that holds a run; all methods with `every`."""
    return [
        (one.title, method, shots, held.runs)
        for one in summary.sections
        for (method, shots), held in one.cells.items()
        if held.runs and (every or held.runs[0].trained)
    ]
