"""The later sections of the report: what differs, what is missing, cost, setting."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.methods import data_path, group
from runs.record import Run, relative_to

from ..numbers.differences import Difference, Setting, between_methods, between_runs, version_name
from ..numbers.summary import Section, Summary, spread
from ..tables.tables import ABSENT, shots_name, shots_text
from .page import cell, esc, fold, paragraph, section, table
from .transport import trained_cells

MOST_FOLDERS = 3  # runs that are named, where so few differ from the rest

# --- differences -----------------------------------------------------------------------------------------


def differences_section(summary: Summary, output: Path) -> str:
    """The settings that tell methods apart, and what should not differ between runs but does."""
    differing, partial = between_methods(summary)
    odd = between_runs(summary)
    if not (differing or partial or odd or len(summary.complete_runs) > 1):
        return ""
    rows = [
        [f"<code>{esc(one.what)}</code>", cell(esc(one.method), kind="left"), cell(values_of(one, output), kind="left")]
        for one in odd
    ]
    agree = paragraph(
        "Runs of one method agree in their settings, but for data, shots, seed, paths and a schedule that goes by "
        "shots; all runs agree in device and versions."
    )
    only = settings_table(partial, summary.methods, "Settings that only some methods have")
    return section(
        "differences",
        "Differences",
        "<h3>Between methods</h3>" if differing or partial else "",
        settings_table(differing, summary.methods, "Settings that differ between methods"),
        fold(f"{len(partial)} settings that only some methods have", only) if partial else "",
        "<h3>Between runs, unexpectedly</h3>" if rows else "",
        table(["what", "runs of", "values"], rows, "Unexpected differences", kind="plain") if rows else agree,
    )


def settings_table(settings: Sequence[Setting], methods: Sequence[str], label: str) -> str:
    """A row a setting, a column a method."""
    told = [method for method in methods if any(method in one.values for one in settings)]
    rows = [
        [f"<code>{esc(one.key)}</code>", *(cell(esc(one.values.get(method, ABSENT)), kind="left") for method in told)]
        for one in settings
    ]
    return table(["setting", *map(esc, told)], rows, label, kind="plain") if rows else ""


def values_of(one: Difference, output: Path) -> str:
    """ "2.5.0: 18 runs; 2.6.0: 1 run (demo/CoOp/...)"."""
    most = max(map(len, one.values.values()))
    told = []
    for value, runs in one.values.items():
        name = f"<b>{esc(value)}</b>: {len(runs)} run{'s' * (len(runs) != 1)}"
        named = len(runs) < most and len(runs) <= MOST_FOLDERS
        folders = ", ".join(f"<code>{esc(relative_to(run.folder, output))}</code>" for run in runs)
        told.append(name + f" ({folders})" * named)
    return "; ".join(told)


# --- missing ---------------------------------------------------------------------------------------------


def missing_section(summary: Summary, output: Path) -> str:
    """Cells with too few seeds, and the folders of runs that did not finish."""
    if summary.whole:
        return ""
    gaps = []
    for one in summary.sections:
        for (method, shots), held in one.cells.items():
            if held.missing:
                at = "" if not shots else f" at {shots_text(shots)}"
                gaps.append(f"<li>{esc(method)} on {esc(one.title)}{at}: {len(held.runs)} of {held.expected} runs</li>")
    folders = [
        f"<li><code>{esc(relative_to(run.folder, output))}</code>: {esc(run.problem)}</li>"
        for run in summary.incomplete
    ]
    return section(
        "missing",
        "Missing",
        paragraph("Expected are all numbers of shots and seeds that occur anywhere, for every method and data set."),
        f"<ul>{''.join(gaps)}</ul>" if gaps else "",
        f"<h3>Runs that did not finish</h3><ul>{''.join(folders)}</ul>" if folders else "",
    )


# --- cost and setting ------------------------------------------------------------------------------------


def cost_section(summary: Summary) -> str:
    """Time and memory."""
    rows = []
    for title, method, shots, runs in trained_cells(summary, every=True):
        seconds = [run.record.get("seconds") or {} for run in runs]
        memory = [run.record["peak_memory_mb"] for run in runs if run.record.get("peak_memory_mb")]
        epochs = sorted({str(run.record["epochs"]) for run in runs if run.record.get("epochs")})
        rows.append(
            [
                esc(method if len(summary.sections) == 1 else f"{method}, {title}"),
                cell(shots_name(shots)),
                cell(esc(", ".join(epochs)) or ABSENT),
                *(cell(duration([one[key] for one in seconds if one.get(key)])) for key in ("train", "test", "total")),
                cell(f"{max(memory):,.0f} MB" if memory else ABSENT),
            ]
        )
    heads = ["method", "shots", "epochs", "training", "test", "whole run", "peak memory"]
    note = "Mean over seeds. Memory is the most that the process of a run had taken by its end, earlier runs included."
    return section("cost", "Cost", table(heads, rows, "Time and memory", note)) if rows else ""


def duration(seconds: Sequence[float]) -> str:
    if not seconds:
        return ABSENT
    mean = spread(seconds).mean
    if mean < 90:
        return f"{mean:.1f} s"
    return f"{mean / 60:.1f} min" if mean < 5400 else f"{mean / 3600:.1f} h"


def setting_section(summary: Summary) -> str:
    """Data, versions, and one command of every method."""
    runs = summary.complete_runs
    rows = [
        [esc(name), cell(esc(value), kind="left")]
        for name, value in (
            ("backbone", distinct(runs, lambda record: record.get("backbone"))),
            *(
                (
                    version_name(key),
                    distinct(runs, lambda record, key=key: (record.get("versions") or {}).get(key)),
                )
                for key in sorted({key for run in runs for key in run.record.get("versions") or {}})
            ),
            ("test images", by_section(summary, lambda record: record.get("total"))),
            ("classes", by_section(summary, lambda record: (record.get("data") or {}).get("classes"))),
        )
        if value
    ]
    commands = []
    for method in summary.methods:
        own = [
            run
            for one in summary.sections
            for (name, _), held in one.cells.items()
            if name == method
            for run in held.runs
            if run.record.get("argv")
        ]
        if own:
            commands.append(
                f"<h3>{esc(method)}</h3><pre>python train.py {esc(shlex.join(own[-1].record['argv']))}</pre>"
            )
    return section(
        "setting",
        "Setting",
        same_images(runs),
        table(["what", "value"], rows, "Versions and data", kind="plain"),
        fold("One command of every method", "".join(commands)) if commands else "",
    )


def same_images(runs: Sequence[Run]) -> str:
    """Do all methods of a place have the same data?  Their fingerprints say so."""
    trained = [run for run in runs if run.trained and (run.record.get("data") or {}).get("fingerprint")]
    places = group(trained, lambda run: (run.dataset, run.classes, run.shots, run.seed, data_path(run))).items()
    differing = [
        where
        for where, members in places
        if where[3] >= 0 and len({run.record["data"]["fingerprint"] for run in members}) > 1
    ]
    if differing:
        told = "; ".join(
            f"{dataset}, {shots_text(shots)}, seed {seed}" for dataset, _, shots, seed, _ in differing[:5]
        )
        return paragraph(
            f"The methods did not see the same images in: {esc(told)}"
            f"{' and more' if len(differing) > 5 else ''}. Compare with care.",
            "warn",
        )
    compared = any(len(members) > 1 for _, members in places)
    return (
        paragraph(
            "All trained methods saw the same images at the same number of shots and seed: the fingerprints "
            "of their data agree."
        )
        if compared
        else ""
    )


# --- helpers ---------------------------------------------------------------------------------------------


def section_runs(one: Section) -> list[Run]:
    return [run for held in one.cells.values() for run in held.runs]


def by_section(summary: Summary, read: Any) -> str:
    """ "Demo: 560; EuroSAT: 8100"; of a single section the value alone."""
    told = [(one.title, value) for one in summary.sections if (value := distinct(section_runs(one), read))]
    if len(summary.sections) == 1:
        return "".join(value for _, value in told)
    return "; ".join(f"{title}: {value}" for title, value in told)


def distinct(runs: Sequence[Run], read: Any) -> str:
    """The different values, joined; "" where there is none."""
    return ", ".join(sorted({str(value) for run in runs if (value := read(run.record)) is not None}))
