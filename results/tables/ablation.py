"""An ablation as a table, and what may be concluded from it, in sentences.

Whether a difference means anything is said twice: against the standard error of the run's own accuracy, which is that
of another sample of test images, and image by image, which is the sharper test, since both settings saw the same ones.
"""

from __future__ import annotations

import textwrap

from ..numbers.ablation import Ablation, Row
from ..numbers.plans import DIAGNOSTICS
from .layout import ABSENT, Block, csv_text, show_block, show_note

NOTE = (
    "* the run's own setting, under which its prompts were trained. Of the images, \"only *\" are right under that "
    "and not under the row's setting, \"only here\" the other way round; p: McNemar's exact test of the two counts."
)
SIGNIFICANT = 0.05
KEYS = [diagnostic.key for diagnostic in DIAGNOSTICS]
HEADS = ["matching", "eps", "accuracy", "only *", "only here", "p", *(diagnostic.heading for diagnostic in DIAGNOSTICS)]
COUNTS = ["own", "accuracy", "correct", "total", "only_own", "only_this", "p"]
CSV_COLUMNS = ["matching", "epsilon", "setting", "value", *COUNTS, *KEYS]


def format_ablation(ablation: Ablation, style: str = "text") -> str:
    """Show table, note and conclusions; ends with a newline.

    `style` is one of layout.FORMATS; CSV is at full precision and without words.
    """
    if style == "csv":
        return csv_text(CSV_COLUMNS, (_csv_row(ablation, row) for row in ablation.rows))
    heads = [textwrap.fill(head, 12) for head in HEADS] if style == "text" else HEADS
    table = show_block(Block("", heads, [cells(ablation, row) for row in ablation.rows]), style)
    title = show_note(f"{ablation.folder}: {ablation.trainer} on {ablation.dataset}", style)
    notes = [show_note(note, style) for note in (NOTE, *conclusions(ablation))]
    return "\n".join([title, "", table, "", *notes]) + "\n"


def cells(ablation: Ablation, row: Row) -> list[str]:
    """Make texts in the order of HEADS. What solving took is shown only where something was solved."""
    solving = [
        diagnostic.show(row.transport.get(diagnostic.key)) if row.epsilon is not None or not diagnostic.of_solving
        else ABSENT
        for diagnostic in DIAGNOSTICS
    ]  # fmt: skip
    return [
        (row.matching if row.varied is None or row.varied.name == "epsilon" else row.title) + " *" * row.own,
        ABSENT if row.epsilon is None else f"{row.epsilon:g}",
        f"{ablation.percent(row.correct):.2f}",
        *(["", "", ""] if row.own else [str(row.only_own), str(row.only_this), f"{row.p:.2g}"]),
        *solving,
    ]


def _csv_row(ablation: Ablation, row: Row) -> list:
    counts = [ablation.percent(row.correct), row.correct, ablation.total, row.only_own, row.only_this, row.p]
    varied = row.varied or (None, None)
    return [row.matching, row.epsilon, *varied, int(row.own), *counts, *map(row.transport.get, KEYS)]


def conclusions(ablation: Ablation) -> list[str]:
    """Say in sentences what the own accuracy is, and whether others differ from it by more than chance does.

    Every p is for its own setting; they are not corrected for looking at several, and the sentence says so.
    """
    own, error = ablation.own, ablation.standard_error
    points = lambda row: f"{ablation.percent(row.gain):+.2f} points ({row.title})"  # noqa: E731
    sentences = [
        f"Under the run's own setting ({own.title}) {ablation.percent(own.correct):.2f}% of {ablation.total} "
        f"{ablation.split} images are right, with a standard error of {error:.2f} points."
    ]
    others = [row for row in ablation.rows if not row.own]
    if not others:
        return sentences
    most = max(others, key=lambda row: abs(row.gain))
    if most.gain == 0:
        sentences.append("Every other setting has the same accuracy.")
    elif abs(ablation.percent(most.gain)) <= error:
        sentences.append(f"No difference from it is larger than that standard error; the largest is {points(most)}.")
    else:
        sentences.append(f"The largest difference from it is {points(most)}.")
    clear = [row for row in others if row.p < SIGNIFICANT]
    if clear:
        counts = [f"{row.title} ({row.only_own} images lost, {row.only_this} won, p = {row.p:.2g})" for row in clear]
        rest = "; the others do not" if len(clear) < len(others) else ""
        sentences.append(
            f"Image by image, {'; '.join(counts)} differ{'s' * (len(clear) == 1)} from it by more than chance does "
            f"(p < {SIGNIFICANT}, each of {len(others)} by itself){rest}."
        )
    elif most.gain:
        sentences.append(f"Image by image, none differs from it by more than chance does (p >= {SIGNIFICANT}).")
    sentences.append(
        "The prompts were trained under the run's own setting; what training under another one gives, "
        f"TRAINER.{ablation.trainer.upper()}.MATCHING tells."
    )
    return sentences
