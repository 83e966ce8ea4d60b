"""The report: one HTML page that says what was run, what came out, and what is missing.

Everything comes from the run records and from the heat maps that `transport` left beside them, so the same
records give the same page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runs.methods import group, notes
from runs.record import Run

from ..figures.curves import accuracy_panels, common_history, looks, panels, training_figure
from ..figures.plotting import PAGE_FAINT, PAGE_INK, Look, drawing, inline_svg
from ..numbers.summary import ALL_IMAGES, ZERO_SHOT, Average, Cell, Section, Spread, Summary, averages, spread
from ..tables.tables import average_title, columns, shots_text
from . import classes as report_classes
from . import details
from .ablation import ablation_section
from .collapse import describe_prompts, prompts_figure
from .maps import maps_section
from .page import anchor, by_data_set, cell, esc, flow, page, paragraph, section, table
from .transport import transport_section


def build_report(summary: Summary, output: str | Path, title: str) -> str:
    """The page as text.  `output` is the folder that the summary was read from."""
    output, look = Path(output), looks(summary)
    with drawing(PAGE_INK, PAGE_FAINT):
        parts: list[tuple[str, str, str]] = [
            ("accuracy", "Accuracy", accuracy_section(summary, look)),
            ("training", "Training", training_section(summary)),
            ("transport", "Transport", transport_section(summary, output)),
            ("ablation", "Ablation", ablation_section(output)),
            ("map", "Map", maps_section(output)),
            ("gains", "Gains", report_classes.gains_section(summary, look)),
            ("confusions", "Confusions", report_classes.confusions_section(summary)),
            ("classes", "Classes", report_classes.classes_section(summary)),
            ("differences", "Differences", details.differences_section(summary, output)),
            ("missing", "Missing", details.missing_section(summary, output)),
            ("cost", "Cost", details.cost_section(summary)),
            ("setting", "Setting", details.setting_section(summary)),
        ]
    newest = max((str(run.record.get("finished", "")) for run in summary.complete_runs), default="")
    footer = "Made from run records by <code>python -m results report</code>." + (
        f" Newest record: {esc(newest)}." if newest else ""
    )
    return page(title, header(summary), parts, footer)


# --- top of the page -------------------------------------------------------------------------------------


def header(summary: Summary) -> str:
    """What was run, in a sentence, and the numbers that one looks for first."""
    runs = summary.complete_runs
    shots = sorted({run.shots for run in runs if run.shots > 0})
    seeds = sorted({run.seed for run in runs if run.seed >= 0})
    said = f"{join(summary.methods)} on {join([one.title for one in summary.sections])}"
    if shots:
        said += f"; {join(shots)} training image{'s' * (shots != [1])} per class"
    if seeds:
        said += f"; seed{'s' * (len(seeds) > 1)} {join(seeds)}"
    tiles = [("runs complete", f"{len(runs)} <small>of {len(runs) + summary.missing}</small>")]
    most = max(shots, default=ALL_IMAGES)
    for method in summary.methods:
        for count in (ZERO_SHOT, most):
            value = headline(summary, method, count)
            if value is not None:
                where = "without training" if count == ZERO_SHOT else f"at {shots_text(most)}"
                where += ", average" if len(summary.sections) > 1 else ""
                tiles.append((f"{method} {where}", tile_number(value)))
    many = len(tiles) > 9
    shown = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{number}</dd></div>" for name, number in tiles[: 1 if many else None]
    )
    warning = paragraph('Some results are <a href="#missing">missing</a>.', "warn") if not summary.whole else ""
    warning += "".join(paragraph(esc(note), "warn") for note in notes(summary.methods))
    return f'<p class="lead">{esc(said)}.</p>\n{warning}\n<dl class="tiles">{shown}</dl>'


def headline(summary: Summary, method: str, shots: int) -> Spread | None:
    """The one cell there is, or the mean over data sets where all have one; None if they are of several kinds."""
    if len({(one.classes, one.split) for one in summary.sections}) > 1:
        return None
    cells = [found for one in summary.sections if (found := one.cell(method, shots))]
    spreads = [found.accuracy for found in cells if found.accuracy]
    if not spreads or len(spreads) < len(summary.sections):
        return None
    return spreads[0] if len(spreads) == 1 else Spread(spread(one.mean for one in spreads).mean, 0.0, 1)


def tile_number(value: Spread) -> str:
    return f"{value.mean:.1f}%" + (f" <small>± {value.std:.1f}</small>" if value.n > 1 else "")


def join(items: list) -> str:
    """ "a", "a and b", "a, b and c"."""
    texts = [str(item) for item in items]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


# --- accuracy --------------------------------------------------------------------------------------------


def accuracy_section(summary: Summary, look: dict[str, Look]) -> str:
    """Tables, then curves."""
    tables = []
    single = len(summary.sections) == 1
    for one, means in averages(summary.sections):
        cells = {key: (mean.mean if mean.n == mean.expected else None, show_mean(mean)) for key, mean in means.items()}
        tables.append(f"<h3>{esc(average_title(one, means))}</h3>" + accuracy_table(one, cells, look))
    for one in summary.sections:
        cells = {
            key: (found.accuracy.mean if found.accuracy else None, show(found)) for key, found in one.cells.items()
        }
        tables.append(("" if single else f"<h3>{esc(one.title)}</h3>") + accuracy_table(one, cells, look))
    figures = [
        inline_svg(figure, anchor(f"curve {title}"), describe(title, lines))
        for (title, figure), (_, lines) in zip(accuracy_panels(summary), panels(summary), strict=True)
    ]
    note = (
        "Test accuracy in %, mean ± population standard deviation over seeds (number of seeds in brackets). "
        "The best mean of a column is bold. In the curves the band is that deviation, short dashes are single "
        "seeds, hollow points are of one seed, and the dashed line carries the method without training across for "
        "comparison."
    )
    return section("accuracy", "Accuracy", paragraph(note, "soft"), *tables, flow(figures))


def accuracy_table(one: Section, cells: dict[tuple[str, int], tuple[float | None, str]], look: dict[str, Look]) -> str:
    best = {
        shots: max(
            (cells[method, shots][0] or -1.0 for method in one.methods if (method, shots) in cells),
            default=-1.0,
        )
        for shots in one.shots
    }
    rows = []
    for method in one.methods:
        row = [f'<span class="dot" style="background:{look[method].color}"></span>{esc(method)}']
        for shots in one.shots:
            mean, text = cells.get((method, shots), (None, ""))
            is_best = mean is not None and mean == best[shots] and shots != ZERO_SHOT
            kind = "best" if is_best else "gap" if mean is None and text else ""
            row.append(cell(text, kind=kind))
        rows.append(row)
    return table(["method", *map(esc, columns(one))], rows, f"Accuracy on {one.title}")


def show(found: Cell) -> str:
    count = f"({len(found.runs)}/{found.expected})" if found.missing else f"({len(found.runs)})"
    if found.accuracy is None:
        return f"missing <small>{count}</small>"
    deviation = f" ± {found.accuracy.std:.2f}" if found.accuracy.n > 1 else ""
    return f"{found.accuracy.mean:.2f}<small>{deviation} {count}</small>"


def show_mean(mean: Average) -> str:
    count = "" if mean.whole else f" <small>(lacks {mean.missing} run{'s' * (mean.missing > 1)})</small>"
    return ("missing" if mean.mean is None else f"{mean.mean:.2f}") + count


def describe(title: str, lines: dict) -> str:
    """The curves in words, for those who cannot see them."""
    said = []
    for method, points in lines.items():
        first, last = points[0], points[-1]
        if first[0] == ZERO_SHOT:
            said.append(f"{method} {first[1]:.1f}% without training")
        elif len(points) == 1:
            said.append(f"{method} {first[1]:.1f}% at {shots_text(first[0])}")
        else:
            said.append(f"{method} from {first[1]:.1f}% at {first[0]} to {last[1]:.1f}% at {shots_text(last[0])}")
    return f"Accuracy against shots, {title}: {'; '.join(said)}."


# --- training --------------------------------------------------------------------------------------------


def training_section(summary: Summary) -> str:
    """Loss and accuracy by epoch, a figure for every method and data set, mean over seeds."""
    parts, said = [], []
    several = len(summary.sections) > 1
    for one in summary.sections:
        figures = []
        for method in one.methods:
            runs = [run for (name, _), found in one.cells.items() if name == method for run in found.runs]
            title = f"{method}, {one.title}" if several else method
            figure = training_figure(title, runs)
            if figure is not None:
                figures.append(inline_svg(figure, anchor(f"training {title}"), describe_training(title, runs)))
            figure = prompts_figure(title, runs)
            if figure is not None:
                said.append(describe_prompts(title, runs))
                figures.append(inline_svg(figure, anchor(f"prompts {title}"), said[-1]))
        if figures:
            parts.append((one.title, flow(figures)))
    note = "Mean over seeds of each epoch's mean batch loss and batch accuracy, on augmented training images."
    if said:
        note += (
            " Cosines are between the text features of a class's prompts, in the last step of an epoch, mean over "
            "classes and seeds; the band is the range of the pairs. At 1 the prompts have become one."
        )
    words = [paragraph(esc(one)) for one in said]
    return section("training", "Training", paragraph(note, "soft"), by_data_set(parts), *words) if parts else ""


def describe_training(title: str, runs: list[Run]) -> str:
    said = []
    losses: Callable[[Run], list] = lambda run: [loss for _, (loss,) in common_history([run], "loss")]  # noqa: E731
    for shots, members in sorted(group([run for run in runs if losses(run)], lambda run: run.shots).items()):
        first = spread(losses(run)[0] for run in members).mean
        last = spread(losses(run)[-1] for run in members).mean
        said.append(f"{shots_text(shots)}: loss from {first:.2f} to {last:.2f}")
    return f"Training of {title}: {'; '.join(said)}."
