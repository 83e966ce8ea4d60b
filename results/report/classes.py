"""The sections of the report on single classes: gains over zero-shot, confusions, accuracies."""

from __future__ import annotations

import re
from functools import partial

from ..figures.class_figures import gains_figure
from ..figures.plotting import Look, inline_svg
from ..numbers.classes import Gains, accuracies, all_confusions, class_gains, columns, over_seeds
from ..numbers.summary import Summary
from ..tables.class_tables import AT_LEAST, CONFUSION_CAPTION, GAIN_CAPTION, confusion_block, coverage, gain_block
from ..tables.tables import ABSENT, Block
from .page import anchor, by_data_set, cell, esc, flow, fold, paragraph, section, table

ALL_CLASSES = 200  # tables of more classes fold away
TOP = 10  # pairs of classes


def gains_section(summary: Summary, look: dict[str, Look]) -> str:
    """Bars, and the numbers behind them."""
    found, missing = class_gains(summary)
    parts = []
    for gains in found:
        svg = inline_svg(gains_figure([gains], look), anchor(f"gains {gains.title}"), describe_gains(gains))
        parts.append((gains.title, flow([svg]) + fold("Gains in numbers", block_table(gain_block(gains)))))
    if not parts:
        return ""
    warning = paragraph(f"Not shown: {esc('; '.join(missing))}.", "soft") if missing else ""
    return section("gains", "Gains over zero-shot", paragraph(esc(GAIN_CAPTION), "soft"), warning, by_data_set(parts))


def describe_gains(gains: Gains) -> str:
    """The bars in words, for those who cannot see them."""
    told = [f"{known.name} {gains.mean(known):+.1f}" for known in gains.classes]
    some = f"most {', '.join(told[:3])}; least {', '.join(told[-3:])}" if len(told) > 6 else ", ".join(told)
    overall = ", ".join(f"{gain.column.title} {gain.overall.mean:+.1f}" for gain in gains.gains)
    return f"Gain over zero-shot by class, {gains.title}, points, mean over methods: {some}. Over classes: {overall}."


def confusions_section(summary: Summary) -> str:
    """The most frequent pairs of every method."""
    parts, lacking, cut = [], 0, False
    for one, held in all_confusions(summary):
        told = [found for found in held if found.told]
        lacking += sum(len(found.lacking) for found in held)
        cut |= any(pair.at_least for found in told for pair in found.pairs[:TOP])
        tables = [
            f"<h4>{esc(coverage(found, TOP))}</h4>" + block_table(confusion_block(one.title, found, TOP))
            for found in told
        ]
        if tables:
            parts.append((one.title, flow(tables, kind="div")))
    if not parts:
        return ""
    note = CONFUSION_CAPTION + AT_LEAST * cut
    if lacking:
        note += f" {lacking} record{'s' * (lacking > 1)} from before confusions were kept tell of none."
    return section("confusions", "Confusions", paragraph(esc(note), "soft"), by_data_set(parts))


def classes_section(summary: Summary) -> str:
    """Accuracy of every class at the largest number of shots, mean over seeds."""
    parts = []
    for one in summary.sections:
        told = {column.title: over_seeds(map(accuracies, column.runs)) for column in columns(one)}
        told = {title: by_class for title, by_class in told.items() if by_class}
        if not told:
            continue
        rows = [
            [esc(known.name), *(class_cell(by[known].mean if known in by else None) for by in told.values())]
            for known in sorted({known for by in told.values() for known in by})
        ]
        body = table(["class", *map(esc, told)], rows, f"Accuracy by class, {one.title}")
        parts.append((one.title, fold(f"{len(rows)} classes", body) if len(rows) > ALL_CLASSES else body))
    note = "Accuracy in % on the test images of a class, mean over seeds, at the most shots of each method."
    return section("classes", "Classes", paragraph(note, "soft"), by_data_set(parts)) if parts else ""


def class_cell(value: float | None) -> str:
    if value is None:
        return cell(ABSENT)
    tint = f"background:color-mix(in srgb, var(--accent) {0.4 * value:.0f}%, transparent)"
    return cell(f"{value:.1f}", style=tint)


def block_table(block: Block) -> str:
    """Spreads are small print."""
    small = partial(re.sub, r"( ± [\d.]+)$", r"<small>\1</small>")
    rows = [[esc(first), *(cell(small(esc(text))) for text in rest)] for first, *rest in block.rows]
    return table(list(map(esc, block.head)), rows, block.title, kind="pairs" * (block.words == 2))

