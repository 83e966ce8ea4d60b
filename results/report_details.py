"""The later sections of the report: classes, what is missing, cost, setting."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .methods import group
from .page import cell, esc, paragraph, section, table
from .records import Run
from .report_transport import trained_cells
from .summary import Section, Summary, spread
from .tables import ABSENT, shots_name

ALL_CLASSES = 200  # tables of more classes fold away

# --- classes ---------------------------------------------------------------------------------------------


def classes_section(summary: Summary) -> str:
    """Accuracy of every class at the largest number of shots, mean over seeds."""
    parts = []
    for one in summary.sections:
        methods, names = class_accuracies(one)
        if not methods:
            continue
        rows = []
        for name in names:
            values = [accuracies.get(name) for accuracies in methods.values()]
            rows.append([esc(name), *(class_cell(value) for value in values)])
        heads = [esc(label) for label in methods]
        body = table(["class", *heads], rows, f"Accuracy by class, {one.title}", kind="tall" if len(rows) > 14 else "")
        if len(names) > ALL_CLASSES:
            body = f"<details><summary>{len(names)} classes</summary>{body}</details>"
        parts.append((f"<h3>{esc(one.title)}</h3>" if len(summary.sections) > 1 else "") + body)
    note = paragraph(
        "Accuracy in % on the test images of a class, mean over seeds, at the most shots of each method.",
        "soft",
    )
    return section("classes", "Classes", note, *parts) if parts else ""


def class_accuracies(one: Section) -> tuple[dict[str, dict[str, float]], list[str]]:
    """({column: {class: accuracy}}, classes by label)."""
    found: dict[str, dict[str, float]] = {}
    order: dict[str, int] = {}
    for method in one.methods:
        counts = [shots for shots in one.shots if (held := one.cell(method, shots)) and held.runs]
        if not counts:
            continue
        by_name: dict[str, list[float]] = {}
        for run in one.cells[method, counts[-1]].runs:
            for entry in run.record.get("per_class") or []:
                by_name.setdefault(entry["name"], []).append(entry["accuracy"])
                order.setdefault(entry["name"], entry["label"])
        if by_name:
            shots = f", {shots_name(counts[-1])} shots" if counts[-1] else ""
            found[method + shots] = {name: spread(values).mean for name, values in by_name.items()}
    return found, sorted(order, key=lambda name: order[name])


def class_cell(value: float | None) -> str:
    if value is None:
        return cell(ABSENT)
    tint = f"background:color-mix(in srgb, var(--accent) {0.4 * value:.0f}%, transparent)"
    return cell(f"{value:.1f}", style=tint)


# --- missing ---------------------------------------------------------------------------------------------


def missing_section(summary: Summary, output: Path) -> str:
    """Cells with too few seeds, and the folders of runs that did not finish."""
    if summary.whole:
        return ""
    gaps = []
    for one in summary.sections:
        for (method, shots), held in one.cells.items():
            if held.missing:
                at = "" if not shots else f" at {shots_name(shots)} shots"
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


def relative_to(folder: Path, output: Path) -> str:
    name = folder.relative_to(output).as_posix()
    return folder.name if name == "." else name


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
                    f"{key} version",
                    distinct(runs, lambda record, key=key: (record.get("versions") or {}).get(key)),
                )
                for key in sorted({key for run in runs for key in run.record.get("versions") or {}})
            ),
            *(
                (f"{one.title}: test images", distinct(section_runs(one), lambda record: record.get("total")))
                for one in summary.sections
            ),
            *(
                (
                    f"{one.title}: classes",
                    distinct(section_runs(one), lambda record: (record.get("data") or {}).get("classes")),
                )
                for one in summary.sections
            ),
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
        f"<details><summary>One command of every method</summary>{''.join(commands)}</details>" if commands else "",
    )


def same_images(runs: Sequence[Run]) -> str:
    """Do all methods of a place have the same data?  Their fingerprints say so."""
    trained = [run for run in runs if run.trained and (run.record.get("data") or {}).get("fingerprint")]
    places = group(trained, lambda run: (run.dataset, run.classes, run.shots, run.seed)).items()
    differing = [
        where
        for where, members in places
        if where[3] >= 0 and len({run.record["data"]["fingerprint"] for run in members}) > 1
    ]
    if differing:
        told = "; ".join(
            f"{dataset}, {shots_name(shots)} shots, seed {seed}" for dataset, _, shots, seed in differing[:5]
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


def distinct(runs: Sequence[Run], read: Any) -> str:
    """The different values, joined; "" where there is none."""
    return ", ".join(sorted({str(value) for run in runs if (value := read(run.record)) is not None}))
