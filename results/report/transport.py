"""The section on the transport: how far from doing nothing, at what price, and the pictures beside the runs.

The numbers are from run records. Heat maps and contact sheets are what `python -m results transport` and `claims` left
in the folder `transport` of a run; their lists may be torn or foreign, so each is read only as far as its shape is
right, and a picture is looked for nowhere but beside its list.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dassl.plain.reading import COUNT, NUMBER, TEXT, WHOLE, Each, Maybe
from runs.files import find_files, read_shaped, to_stderr
from runs.record import Run

from ..inspection.claims import NAME
from ..inspection.transport import FOLDER, INDEX
from ..numbers.cells import shots_name
from ..numbers.plans import DIAGNOSTICS
from ..numbers.summary import Summary
from .parts import Table, cells, pictures

MOST_PICTURES, MOST_SHEETS = 12, 6  # in the report; the files stay where they are
FILES = Each(TEXT)  # by format
SHOWN = {
    "name": TEXT,
    "distance_from_uniform": NUMBER,
    "distance_by_prompt": [Maybe(NUMBER)],
    "left_out": Maybe(NUMBER),
}
PICTURE = {"file": TEXT, "predicted": TEXT, "true": Maybe(TEXT), "grid": Maybe([WHOLE]), "classes": [SHOWN]}
MAPS = {"pictures": Maybe([PICTURE | {"files": FILES}])}  # index.json, as far as it is read here
CLAIMS = {
    "files": FILES,
    "classes": [TEXT],
    "images": COUNT,
    "prompts": [{"prompt": COUNT, "claimed": [{"true": TEXT}]}],
}


def transport(summary: Summary, output: Path) -> dict[str, Any] | None:
    """Show how far the plans are from uniform, what solving them took, and the pictures that exist."""
    maps = [
        (path, entry)
        for index, listed in read_lists(output, INDEX, MAPS)
        for entry in listed.get("pictures") or ()
        if (path := picture_beside(index, entry))
    ]
    sheets = [
        (picture, listed)
        for path, listed in read_lists(output, f"{NAME}*.json", CLAIMS)
        if (picture := picture_beside(path, listed))
    ]
    data = {
        "table": diagnostics(summary),
        "maps": pictures(output, maps, MOST_PICTURES, describe_map),
        "claims": pictures(output, sheets, MOST_SHEETS, describe_claims),
        "table_has_no_places": any(
            run.method.transports and not run.method.has_places for run in summary.complete_runs
        ),
        "maps_have_no_places": any(entry["grid"] is None for _, entry in maps),
    }
    return data if data["table"] or data["maps"] or data["claims"] else None


def diagnostics(summary: Summary) -> Table | None:
    """Tabulate what the records say of the transport of the final test, in the columns that some run has.

    Over seeds it is the mean, but the worst run of what counts how badly a problem was solved.
    """
    found = {}  # by name and shots, the values of every diagnostic
    for name, shots, runs in trained_cells(summary):
        reports = [run.record["transport"] for run in runs if isinstance(run.record.get("transport"), dict)]
        if reports:
            found[name, shots] = {
                diagnostic: [report[diagnostic.key] for report in reports if NUMBER(report.get(diagnostic.key))]
                for diagnostic in DIAGNOSTICS
            }
    shown = [diagnostic for diagnostic in DIAGNOSTICS if any(values[diagnostic] for values in found.values())]
    rows = []
    for (name, shots), values in found.items():
        numbers = (diagnostic.show(diagnostic.over(values[diagnostic])) for diagnostic in shown)
        rows.append(cells(name, shots_name(shots), *numbers))
    head = ["method", "shots", *(diagnostic.heading for diagnostic in shown)]
    return Table("Transport in the final test", head, rows) if rows else None


def describe_map(entry: dict[str, Any]) -> tuple[str, str]:
    """Return words for those who cannot see a heat map, and its caption."""
    truth = f", truly {entry['true']}" if entry["true"] not in (None, entry["predicted"]) else ""
    caption = f"{entry['file']}: taken for {entry['predicted']}{truth}"
    said = []
    for shown in entry["classes"]:
        by_prompt = ", ".join("none" if far is None else f"{far:.2f}" for far in shown["distance_by_prompt"])
        words = f"{shown['name']}: plan {shown['distance_from_uniform']:.2f} from uniform, by prompt {by_prompt}"
        said.append(words + (f", {shown['left_out']:.0%} left out" if shown.get("left_out") is not None else ""))
    plans = " and ".join(f"{shown['distance_from_uniform']:.2f}" for shown in entry["classes"])
    left = [f"{shown['left_out']:.0%}" for shown in entry["classes"] if shown.get("left_out") is not None]
    caption_left = f"; {' and '.join(left)} left out" if left else ""
    return f"Transport heat maps. {caption}. {'. '.join(said)}.", f"{caption}; plan {plans} from uniform{caption_left}"


def describe_claims(listed: dict[str, Any]) -> tuple[str, str]:
    """Return words for those who cannot see a contact sheet, and its caption."""
    most = "; ".join(
        f"prompt {prompt['prompt']} " + ", ".join(claimed["true"] for claimed in prompt["claimed"])
        for prompt in listed["prompts"]
    )
    of = f" of {', '.join(listed['classes'])}" if listed["classes"] else ""
    caption = f"What each prompt claims most{of}, of {listed['images']} test images"
    return f"{caption}: {most}.", caption


def read_lists(output: Path, name: str, shape: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (path, content) of the lists of pictures beside the runs below `output`, sorted.

    Those that are torn or not of `shape` are named on stderr and left out.
    """
    for path in find_files(output, name, FOLDER):
        try:
            yield path, read_shaped(path, shape)
        except ValueError as error:
            to_stderr(f"not shown: {path} cannot be read: {error}")


def picture_beside(path: Path, entry: dict[str, Any]) -> Path | None:
    """Find the PNG of an entry of the list at `path`, in the list's own folder whatever the entry says.

    None where it is gone.
    """
    name = Path(entry["files"].get("png", "")).name
    return path.with_name(name) if name and path.with_name(name).is_file() else None


def trained_cells(summary: Summary, every: bool = False) -> Iterator[tuple[str, int, list[Run]]]:
    """Yield (method, with the data set where there are several; shots; runs) of every cell that holds a run.

    With `every` those of methods without training, too.
    """
    for section in summary.sections:
        for (method, shots), cell in section.cells.items():
            if cell.runs and (every or cell.runs[0].trained):
                yield method if len(summary.sections) == 1 else f"{method}, {section.title}", shots, list(cell.runs)
