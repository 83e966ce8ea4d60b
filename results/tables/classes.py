"""Gains over zero-shot and confusions, as text, Markdown, LaTeX or CSV.

The blocks that are made here are also those of the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..numbers.cells import ABSENT, shots_name
from ..numbers.classes import Confusion, Confusions, Gains
from ..numbers.summary import Section
from .layout import Block, csv_text, show_document, show_mean

GAIN_CAPTION = (
    "Accuracy of each class minus that of zero-shot CLIP with the same backbone, in points; mean ± population standard "
    "deviation over seeds. Sorted by the mean over the methods."
)
CONFUSION_CAPTION = (
    "Test images that were taken for another class: mean ± population standard deviation over seeds, and their share "
    "of the true class's images."
)
AT_LEAST = " ≥: some record lists its most frequent pairs only, and this one is not among them."
GAIN_COLUMNS = "dataset label class method shots seeds zero_shot gain population_std".split()
CONFUSION_COLUMNS = (
    "dataset method shots seeds true predicted true_name predicted_name images population_std share at_least"
).split()

# --- gains -----------------------------------------------------------------------------------------------


def format_gains(compared: Sequence[Gains], style: str) -> str:
    """Show a table a data set and backbone; CSV is one line a class and method.  Ends with a newline."""
    if style == "csv":
        return csv_text(GAIN_COLUMNS, _gain_lines(compared))
    return show_document([GAIN_CAPTION], map(gain_block, compared), style)


def gain_block(gains: Gains) -> Block:
    """Make a row a class, and one of the means over classes; a column of zero-shot accuracies, and one a method."""
    head = ["class", "zero-shot", *(gain.column.title for gain in gains.gains)]
    rows = [
        [known.name, f"{gains.zero_shot[known]:.1f}"]
        + [show_mean(gain.by_class.get(known), 1, "+") for gain in gains.gains]
        for known in gains.classes
    ]
    zero_shot = sum(gains.zero_shot.values()) / len(gains.zero_shot)
    overall = [show_mean(gain.overall, 1, "+") for gain in gains.gains]
    return Block(gains.title, head, [*rows, ["mean over classes", f"{zero_shot:.1f}", *overall]])


def _gain_lines(compared: Sequence[Gains]) -> Iterator[Sequence[Any]]:
    """Yield the lines of the CSV, at full precision."""
    for gains in compared:
        for gain in gains.gains:
            for known, value in gain.by_class.items():
                method = (gain.column.method, shots_name(gain.column.shots), value.n)
                yield gains.title, *known, *method, gains.zero_shot[known], value.mean, value.deviation


# --- confusions ------------------------------------------------------------------------------------------


def format_confusions(by_section: Sequence[tuple[Section, list[Confusions]]], style: str, top: int) -> str:
    """Show the `top` pairs of every method; CSV has all that there are."""
    if style == "csv":
        return csv_text(CONFUSION_COLUMNS, _confusion_lines(by_section))
    blocks = [
        confusion_block(section.title, confusions, top)
        for section, columns in by_section
        for confusions in columns
        if confusions.known
    ]
    cut = any(pair.at_least for _, columns in by_section for column in columns for pair in column.pairs[:top])
    return show_document([CONFUSION_CAPTION + AT_LEAST * cut], blocks, style)


def confusion_block(title: str, confusions: Confusions, top: int) -> Block:
    """Make a row a pair, the most frequent first."""
    rows = [
        [pair.true.name, pair.predicted.name, show_images(pair), show_share(pair)] for pair in confusions.pairs[:top]
    ]
    return Block(f"{title}, {coverage(confusions, top)}", ["true class", "taken for", "images", "share"], rows, words=2)


def coverage(confusions: Confusions, top: int) -> str:
    """Say how much of all mistakes is shown: "PLOT N=4, 16 shots: 171 mistakes, of which these are 34%"."""
    text = f"{confusions.column.title}: {confusions.mistakes:.0f} mistakes"
    shown = sum(pair.images.mean for pair in confusions.pairs[:top])
    return f"{text}, of which these are {shown / confusions.mistakes:.0%}" if confusions.mistakes else text


def show_images(pair: Confusion) -> str:
    """Show how many images: "6.3 ± 1.2"; of a single run "6"; of a lower bound "≥ 4.0 ± 2.1"."""
    return "≥ " * pair.at_least + show_mean(pair.images, int(pair.images.n > 1))


def show_share(pair: Confusion) -> str:
    """Show the share of the true class's images, in whole %."""
    return ABSENT if pair.share is None else "≥ " * pair.at_least + f"{pair.share:.0f}%"


def _confusion_lines(by_section: Sequence[tuple[Section, list[Confusions]]]) -> Iterator[Sequence[Any]]:
    """Yield the lines of the CSV, of all pairs, at full precision."""
    for section, columns in by_section:
        for confusions in columns:
            column = confusions.column
            for pair in confusions.pairs:
                method = (column.method, shots_name(column.shots), pair.images.n)
                labels = (pair.true.label, pair.predicted.label, pair.true.name, pair.predicted.name)
                numbers = (pair.images.mean, pair.images.deviation, pair.share, int(pair.at_least))
                yield section.title, *method, *labels, *numbers
