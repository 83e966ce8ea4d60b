"""Gains over zero-shot and confusions, as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..numbers.classes import Confusion, Confusions, Gains
from ..numbers.summary import Section, Spread
from .tables import ABSENT, Block, csv_text, shots_name, show_document

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


def format_gains(found: Sequence[Gains], style: str) -> str:
    """Ends with a newline; CSV is one line a class and method, at full precision."""
    if style == "csv":
        return csv_text(GAIN_COLUMNS, _gain_lines(found))
    return show_document([GAIN_CAPTION], map(gain_block, found), style)


def gain_block(gains: Gains) -> Block:
    """A row a class, and one of their means."""
    head = ["class", "zero-shot", *(gain.column.title for gain in gains.gains)]
    rows = [
        [known.name, f"{gains.zero_shot[known]:.1f}", *(show_gain(gain.by_class.get(known)) for gain in gains.gains)]
        for known in gains.classes
    ]
    zero_shot = sum(gains.zero_shot.values()) / len(gains.zero_shot)
    rows.append(["mean over classes", f"{zero_shot:.1f}", *(show_gain(gain.overall) for gain in gains.gains)])
    return Block(gains.title, head, rows)


def show_gain(gain: Spread | None) -> str:
    """ "+12.5 ± 2.1"; without spread for a single seed."""
    if gain is None:
        return ABSENT
    return f"{gain.mean:+.1f}" + (f" ± {gain.std:.1f}" if gain.n > 1 else "")


def _gain_lines(found: Sequence[Gains]) -> Iterator[Sequence[Any]]:
    for gains in found:
        for gain in gains.gains:
            for known, value in gain.by_class.items():
                method = (gain.column.method, shots_name(gain.column.shots), value.n)
                yield gains.title, *known, *method, gains.zero_shot[known], value.mean, value.deviation


# --- confusions ------------------------------------------------------------------------------------------


def format_confusions(found: Sequence[tuple[Section, list[Confusions]]], style: str, top: int) -> str:
    """The `top` pairs of every method; CSV has all that there are."""
    if style == "csv":
        return csv_text(CONFUSION_COLUMNS, _confusion_lines(found))
    blocks = [confusion_block(section.title, one, top) for section, held in found for one in held if one.told]
    cut = any(pair.at_least for _, held in found for one in held for pair in one.pairs[:top])
    return show_document([CONFUSION_CAPTION + AT_LEAST * cut], blocks, style)


def confusion_block(title: str, found: Confusions, top: int) -> Block:
    shown = found.pairs[:top]
    rows = [[pair.true.name, pair.predicted.name, show_images(pair), show_share(pair)] for pair in shown]
    return Block(f"{title}, {coverage(found, top)}", ["true class", "taken for", "images", "share"], rows, words=2)


def coverage(found: Confusions, top: int) -> str:
    """ "PLOT N=4, 16 shots: 171 mistakes, of which these are 34%"."""
    text = f"{found.column.title}: {found.mistakes:.0f} mistakes"
    told = sum(pair.images.mean for pair in found.pairs[:top])
    return f"{text}, of which these are {told / found.mistakes:.0%}" if found.mistakes else text


def show_images(pair: Confusion) -> str:
    """ "6.3 ± 1.2"; of a single run "6"; with a lower bound "≥ 4.0 ± 2.1"."""
    images = pair.images
    number = f"{images.mean:.1f} ± {images.std:.1f}" if images.n > 1 else f"{images.mean:.0f}"
    return "≥ " * pair.at_least + number


def show_share(pair: Confusion) -> str:
    return ABSENT if pair.share is None else "≥ " * pair.at_least + f"{pair.share:.0f}%"


def _confusion_lines(found: Sequence[tuple[Section, list[Confusions]]]) -> Iterator[Sequence[Any]]:
    for section, held in found:
        for one in held:
            column = one.column
            for pair in one.pairs:
                method = (column.method, shots_name(column.shots), pair.images.n)
                labels = (pair.true.label, pair.predicted.label, pair.true.name, pair.predicted.name)
                numbers = (pair.images.mean, pair.images.deviation, pair.share, int(pair.at_least))
                yield section.title, *method, *labels, *numbers


