"""What `ablate` found, for readers: its file, the table, the conclusion in words, the figure.  No torch here."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tabulate import tabulate

from dassl.plain.reading import COUNT, NUMBER, TEXT, WHOLE, Maybe
from runs.files import read_shaped

from ..figures.plotting import GREY, LOOKS, Look, new_figure, set_title
from ..report.transport import DIAGNOSTICS
from ..tables.tables import ABSENT, FORMATS, csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "ablation.json"  # beside result.json
SCHEMA = 1
NOTE = (
    "* the run's own setting, under which its prompts were trained. Of the images, \"only *\" are right under that "
    "and not under the row's setting, \"only here\" the other way round; p: McNemar's exact test of the two counts."
)
SIGNIFICANT = 0.05
MOST_IMAGES = 10**6  # of a test: the exact p takes its time
SHAPE = {  # of the file
    "schema": WHOLE,
    "trainer": TEXT,
    "dataset": TEXT,
    "shots": WHOLE,
    "seed": WHOLE,
    "split": TEXT,
    "total": lambda value: COUNT(value) and value <= MOST_IMAGES,
    "settings": [
        {
            "matching": TEXT,
            "epsilon": Maybe(lambda value: NUMBER(value) and value > 0),
            "own": lambda value: isinstance(value, bool),
            "correct": COUNT,
            "only_own": COUNT,
            "only_this": COUNT,
            "transport": {key: Maybe(NUMBER) for key, *_ in DIAGNOSTICS},
        }
    ],
}


class Row(NamedTuple):
    """One setting and what came of it."""

    matching: str
    epsilon: float | None  # of "ot" alone
    own: bool  # the run's own setting
    correct: int
    only_own: int  # images that are right under the run's own setting, and wrong under this one
    only_this: int  # the other way round
    transport: Mapping[str, float]  # as in result.json

    @property
    def title(self) -> str:
        return self.matching if self.epsilon is None else f"{self.matching}, eps {self.epsilon:g}"

    @property
    def gain(self) -> int:
        """Images more than under the run's own setting."""
        return self.only_this - self.only_own

    @property
    def p(self) -> float:
        """McNemar's exact test, two-sided: how often a fair coin parts the images that differ at least so unevenly."""
        differ, tail, ways = self.only_own + self.only_this, 0, 1
        for k in range(min(self.only_own, self.only_this) + 1):
            tail += ways  # differ choose k
            ways = ways * (differ - k) // (k + 1)
        return min(1.0, 2 * tail / 2**differ)


@dataclass(frozen=True)
class Ablation:
    """One run under several settings, exactly one of them its own."""

    folder: Path
    trainer: str
    dataset: str
    shots: int
    seed: int
    split: str
    total: int
    rows: list[Row]

    @property
    def own(self) -> Row:
        return next(row for row in self.rows if row.own)

    def percent(self, images: float) -> float:
        return 100 * images / self.total

    @property
    def standard_error(self) -> float:
        """Of the own accuracy as an estimate from `total` images, in points: sqrt(p (1 - p) / n)."""
        p = self.own.correct / self.total
        return 100 * math.sqrt(p * (1 - p) / self.total)

    def as_json(self) -> dict[str, Any]:
        about = {key: getattr(self, key) for key in ("trainer", "dataset", "shots", "seed", "split", "total")}
        rows = [row._asdict() | {"accuracy": self.percent(row.correct), "p": row.p} for row in self.rows]
        return {**about, "standard_error": self.standard_error, "settings": rows}


def read_ablation(path: Path) -> tuple[Ablation, Any]:
    """(what it holds, when the run's result was finished).  Raises ValueError for a file that is not whole."""
    try:
        record = read_shaped(path, SHAPE)
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']!r}, this program reads {SCHEMA}")
        rows = [Row(**{key: entry[key] for key in Row._fields}) for entry in record["settings"]]
        about = {key: record[key] for key in ("trainer", "dataset", "shots", "seed", "split", "total")}
        found = Ablation(path.parent, **about, rows=rows)
        found.own, found.standard_error  # noqa: B018 (there is one, and there are images)
        if any(row.only_own + row.only_this > found.total for row in rows):
            raise ValueError("more images differ than there are")
        return found, record.get("finished")
    except (StopIteration, ZeroDivisionError) as error:
        raise ValueError(f"it is not whole ({error!r})") from error


# --- in words --------------------------------------------------------------------------------------------


def conclusions(found: Ablation) -> list[str]:
    """Sentences: the own accuracy, whether the others differ from it by more than chance does, what that is not."""
    own, error = found.own, found.standard_error
    said = [
        f"Under the run's own setting ({own.title}) {found.percent(own.correct):.2f}% of {found.total} {found.split} "
        f"images are right, with a standard error of {error:.2f} points."
    ]
    others = [row for row in found.rows if not row.own]
    if not others:
        return said
    most = max(others, key=lambda row: abs(row.gain))
    largest = abs(found.percent(most.gain))
    if most.gain == 0:
        said.append("Every other setting has the same accuracy.")
    elif largest <= error:
        said.append(
            f"No difference from it is larger than that standard error; the largest is {found.percent(most.gain):+.2f} "
            f"points ({most.title})."
        )
    else:
        said.append(f"The largest difference from it is {found.percent(most.gain):+.2f} points ({most.title}).")
    clear = [row for row in others if row.p < SIGNIFICANT]
    told = "; ".join(
        f"{row.title} ({row.only_own} images lost, {row.only_this} won, p = {row.p:.2g})" for row in clear
    )
    if clear:
        rest = "; the others do not" if len(clear) < len(others) else ""
        said.append(
            f"Image by image, {told} differ{'s' * (len(clear) == 1)} from it by more than chance does "
            f"(p < {SIGNIFICANT}, each of {len(others)} by itself){rest}."
        )
    elif most.gain:
        said.append(f"Image by image, none differs from it by more than chance does (p >= {SIGNIFICANT}).")
    said.append(
        "The prompts were trained under the run's own setting; what training under another one gives, "
        f"TRAINER.{found.trainer.upper()}.MATCHING tells."
    )
    return said


# --- the table -------------------------------------------------------------------------------------------

HEADS = ("matching", "eps", "accuracy", "only *", "only here", "p", *(column for _, column, _, _ in DIAGNOSTICS))


def format_ablation(found: Ablation, style: str = "text") -> str:
    """Ends with a newline.  `style` is one of tables.FORMATS; CSV is at full precision and without words."""
    if style == "csv":
        return _csv(found)
    heads = [textwrap.fill(head, 12) if style == "text" else head for head in HEADS]
    table = tabulate(
        [cells(found, row) for row in found.rows],
        heads,
        tablefmt=FORMATS[style],
        disable_numparse=True,
        colalign=("left", *("right" for _ in heads[1:])),
    )
    if style == "latex":
        table = table.replace(ABSENT, "--")
    lines = [f"{found.folder}: {found.trainer} on {found.dataset}", "", table, "", NOTE, *conclusions(found)]
    mark = "% " if style == "latex" else ""
    return "\n".join(line if line in ("", table) else mark + line for line in lines) + "\n"


def cells(found: Ablation, row: Row) -> list[str]:
    """Texts in the order of HEADS.  What solving took is told where something was solved."""
    shown = []
    for key, _, pattern, _ in DIAGNOSTICS:
        number = row.transport.get(key)
        told = number is not None and (row.epsilon is not None or key.startswith("distance"))
        shown.append(pattern.format(number) if told else ABSENT)
    return [
        row.matching + " *" * row.own,
        ABSENT if row.epsilon is None else f"{row.epsilon:g}",
        f"{found.percent(row.correct):.2f}",
        *(["", "", ""] if row.own else [str(row.only_own), str(row.only_this), f"{row.p:.2g}"]),
        *shown,
    ]


def _csv(found: Ablation) -> str:
    keys = [key for key, _, _, _ in DIAGNOSTICS]
    head = ["matching", "epsilon", "own", "accuracy", "correct", "total", "only_own", "only_this", "p", *keys]
    rows = []
    for row in found.rows:
        counts = [found.percent(row.correct), row.correct, found.total, row.only_own, row.only_this, row.p]
        rows.append([row.matching, row.epsilon, int(row.own), *counts, *(row.transport.get(key) for key in keys)])
    return csv_text(head, rows)


# --- the figure ------------------------------------------------------------------------------------------

ACROSS = ((0, (6, 3)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)))  # lines of the matchings without epsilon
DISTANCES = (  # key, name, look
    ("distance_from_uniform", "all classes", LOOKS[0]),
    ("distance_from_uniform_predicted", "predicted class", LOOKS[10]),
)


def ablation_figure(found: Ablation, title: str = "") -> Figure:
    """Accuracy against epsilon, over the plan's distance from uniform; the other matchings are lines across.

    Hollow points: not every problem had converged within the limit of iterations.  Draw it within `drawing()`.
    """
    figure = new_figure(5.4, 6.0)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    top.set_xscale("log")
    set_title(top, title or f"{found.trainer}, {found.dataset}: the same prompts under other matchings")
    top.set_ylabel(f"{found.split} accuracy (%)")
    bottom.set_ylabel("distance of the plan\nfrom uniform", linespacing=1.5)
    bottom.set_xlabel("epsilon of the transport (cosine distance)")
    bottom.set_ylim(0, 1)

    transported = [row for row in found.rows if row.epsilon is not None]
    _points(top, transported, [found.percent(row.correct) for row in transported], LOOKS[0], "ot")
    for key, name, look in DISTANCES:
        _points(bottom, transported, [_number(row.transport.get(key)) for row in transported], look, name)
    across = [row for row in found.rows if row.epsilon is None]
    for index, row in enumerate(across):
        line, color = ACROSS[index % len(ACROSS)], LOOKS[1 + index].color
        name = row.matching + " (the run's own)" * row.own
        top.axhline(found.percent(row.correct), color=color, linestyle=line, linewidth=1.4, label=name)
    own = found.percent(found.own.correct)
    if found.own.epsilon is not None:
        ring = {"marker": "o", "markersize": 13, "markeredgewidth": 1.4, "markerfacecolor": "none", "linestyle": ""}
        top.plot([found.own.epsilon], [own], markeredgecolor=GREY.color, label="the run's own", zorder=4, **ring)
    low, high = own - found.standard_error, own + found.standard_error
    top.axhspan(low, high, color=GREY.color, alpha=0.14, linewidth=0, label="own ± standard error")
    if not all(map(_converged, transported)):
        top.plot([], [], color=LOOKS[0].color, marker="o", markerfacecolor="white", markeredgewidth=1.5, linestyle="",
                 label="not all converged")  # fmt: skip

    ticks = sorted(row.epsilon or 0.0 for row in transported) or [0.01, 0.1, 1.0]
    bottom.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    bottom.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    bottom.set_xticks([], minor=True)
    if transported:
        bottom.legend(loc="upper right")
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _points(axes: Axes, rows: list[Row], values: list[float], look: Look, label: str) -> None:
    """A line through the points, hollow where not all had converged."""
    epsilons = [_number(row.epsilon) for row in rows]
    axes.plot(epsilons, values, color=look.color, marker=look.marker, linestyle=look.line, label=label, zorder=3)
    hollow = [(one, value) for one, value, row in zip(epsilons, values, rows, strict=True) if not _converged(row)]
    for one, value in hollow:
        axes.plot([one], [value], marker=look.marker, color="white", markersize=3, linestyle="", zorder=4)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _converged(row: Row) -> bool:
    return row.transport.get("converged_share") == 1.0


def describe_figure(found: Ablation) -> str:
    """The figure for those who cannot see it."""
    accuracy = ", ".join(f"{row.title} {found.percent(row.correct):.1f}%" for row in found.rows)
    return f"Accuracy of one {found.trainer} run on {found.dataset} under other matchings: {accuracy}."
