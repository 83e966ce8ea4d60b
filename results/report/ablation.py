"""The section of the report on what the transport contributes: the ablations that lie beside their runs."""

from __future__ import annotations

from pathlib import Path

from runs.record import read_run, relative_to

from ..figures.plotting import inline_svg
from ..looking import ablation_view as view
from .page import cell, esc, flow, paragraph, section, table

MOST_ABLATIONS = 6  # in the report; the files stay where they are
AGAIN = "<code>python -m results ablate</code> makes it anew."


def ablation_section(output: Path) -> str:
    """Every run below `output` that was ablated, up to MOST_ABLATIONS; draw it within `drawing()`."""
    found = sorted(output.glob(f"**/{view.NAME}"))
    if not found:
        return ""
    note = (
        "The prompts of one run, tested again under other matchings: the transport at several epsilon, uniform (every "
        "pair equally), max (each place wholly to its nearest prompt) and global (the pooled feature, no places)."
    )
    parts = [ablation_part(path, output, number) for number, path in enumerate(found[:MOST_ABLATIONS], start=1)]
    more = len(found) - MOST_ABLATIONS
    rest = paragraph(f"{more} more lie beside their runs.", "soft") if more > 0 else ""
    return section("ablation", "Does the transport matter?", paragraph(esc(note), "soft"), *parts, rest)


def ablation_part(path: Path, output: Path, number: int) -> str:
    """Figure, table and words of one run."""
    heading = f"<h3>Run <code>{esc(relative_to(path.parent, output))}</code></h3>"
    try:
        found, finished = view.read_ablation(path)
    except ValueError as error:
        return heading + paragraph(f"{view.NAME} cannot be read: {esc(error)}. {AGAIN}", "warn")
    stale = finished != read_run(path.parent).record.get("finished")
    old = paragraph(f"Made of an earlier result of this run. {AGAIN}", "warn") if stale else ""
    svg = inline_svg(view.ablation_figure(found), f"ablation-{number}", view.describe_figure(found))
    said = "".join(f"<li>{esc(sentence)}</li>" for sentence in view.conclusions(found))
    return heading + old + flow([svg]) + f"<ul>{said}</ul>" + settings_table(found)


def settings_table(found: view.Ablation) -> str:
    texts = [[esc(text) for text in view.cells(found, row)] for row in found.rows]
    rows = [[first, *map(cell, others)] for first, *others in texts]
    return table([esc(head) for head in view.HEADS], rows, "The same prompts under other matchings", esc(view.NOTE))
