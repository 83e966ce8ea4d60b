"""The page: which sections there are, and how templates make HTML of them.

To add a section, write a function that returns its data or None, a template of the section's name, and a line in
`build_report`. What several templates need is in `macros.html.jinja`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dassl.plain.text import printable

from ..figures.curves import looks
from ..figures.style import PAGE_FAINT, PAGE_INK, drawing
from ..numbers.summary import Summary
from .ablation import ablations
from .accuracy import accuracy, training
from .calibration import calibration
from .classes import class_accuracies, confusions, gains
from .comparison import comparison
from .differences import differences, missing
from .maps import maps
from .ood import ood
from .overview import overview
from .setting import cost, setting
from .transport import transport

TEMPLATES = Path(__file__).with_name("templates")
CSS = TEMPLATES / "report.css"


class Section(NamedTuple):
    """A section of the page; `name` is that of its template, its anchor, and in capitals its link."""

    name: str
    title: str
    data: dict[str, Any] | None  # what the template shows; None: it is left out


def build_report(summary: Summary, output: str | Path, title: str) -> str:
    """Build the page.

    Parameters
    ----------
    summary
        Of the runs.
    output
        The folder that they were read from, where pictures of other commands are looked for.
    title
        Heading of the page.
    """
    output, look = Path(output), looks(summary)
    with drawing(PAGE_INK, PAGE_FAINT):
        sections = [
            Section("accuracy", "Accuracy", accuracy(summary, look)),
            Section("comparison", "Differences between methods", comparison(summary)),
            Section("training", "Training", training(summary)),
            Section("transport", "Transport", transport(summary, output)),
            Section("ablation", "Does the transport matter?", ablations(output)),
            Section("ood", "Foreign images", ood(output)),
            Section("map", "Map of prompts and images", maps(output)),
            Section("calibration", "Calibration", calibration(summary, look)),
            Section("gains", "Gains over zero-shot", gains(summary, look)),
            Section("confusions", "Confusions", confusions(summary)),
            Section("classes", "Classes", class_accuracies(summary)),
            Section("differences", "Differences", differences(summary, output)),
            Section("missing", "Missing", missing(summary, output)),
            Section("cost", "Cost", cost(summary)),
            Section("setting", "Setting", setting(summary)),
        ]
    return environment().get_template("page.html.jinja").render(
        title=title,
        overview=overview(summary),
        sections=[section for section in sections if section.data is not None],
        newest=max((str(run.record.get("finished", "")) for run in summary.complete_runs), default=""),
    )  # fmt: skip


@cache
def environment() -> Environment:
    """Make the templates' environment, in which every text is escaped, and control characters are written out."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
    made.globals["css"] = Markup(CSS.read_text(encoding="utf-8"))
    return made
