"""How well foreign images are told from known ones, as a table: a row for each origin and score."""

from __future__ import annotations

from ..numbers.ood import Detection, Separation
from .layout import Block, csv_text, show_block, show_note

NOTE = (
    "All in %. FPR95: foreign images that pass for known where 95 % of the known ones do (the fewer the better). "
    "AUROC, AUPR: the foreign images are the positive ones; by chance, AUROC is 50 and AUPR their share of all images."
)
HEADS = ["foreign images", "score", "images", "FPR95", "AUROC", "AUPR"]
CSV_COLUMNS = ["foreign", "score", "images", "left_out", "known_images", "temperature", *Separation._fields]
MEAN = "mean"


def format_ood(detection: Detection, style: str = "text") -> str:
    """Show title, table and notes; ends with a newline.

    `style` is one of layout.FORMATS; CSV is at full precision, without words and means.
    """
    if style == "csv":
        lines = (
            [part.name, name, part.images, part.left_out, detection.images, detection.temperature,
             *part.separation[name]]
            for part in detection.foreign for name in detection.scores
        )  # fmt: skip
        return csv_text(CSV_COLUMNS, lines)
    title = f"{detection.folder}: {detection.trainer} on {detection.dataset}"
    table = show_block(ood_block(detection), style)
    said = [show_note(note, style) for note in notes(detection)]
    return "\n".join([show_note(title, style), "", table, "", *said]) + "\n"


def ood_block(detection: Detection) -> Block:
    """Make a row for each origin and score, and one of the mean over several origins for each score."""
    rows = [
        [part.name, name, str(part.images), *map(_percent, part.separation[name])]
        for part in detection.foreign
        for name in detection.scores
    ]
    if len(detection.foreign) > 1:
        rows += [[MEAN, name, "", *map(_percent, detection.mean(name))] for name in detection.scores]
    return Block("", HEADS, rows, words=2)


def notes(detection: Detection) -> list[str]:
    """Say what was compared, how, and what was left out."""
    said = [
        f"Known: {detection.images} {detection.split} images of {detection.dataset}. Scores of cosines, temperature "
        f"{detection.temperature:g}."
    ]
    said += [
        f"{part.left_out} images of {part.name} are left out: the run knows their classes."
        for part in detection.foreign
        if part.left_out
    ]
    if detection.note:
        said.append(f"{detection.note}.")
    return [*said, NOTE]


def _percent(value: float) -> str:
    return f"{value:.2f}"
