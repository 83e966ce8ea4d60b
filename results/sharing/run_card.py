"""The card of a run, or of a tree of runs: one Markdown page for a paper's appendix or a repository.

Everything on it is read off the records, and what they do not tell is said to be unknown.  Paths of the maker's machine
do not appear (repeat.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runs.methods import group, notes
from runs.record import Run

from ..numbers.cells import ABSENT, Cell, interval, shots_name, shots_text
from ..numbers.differences import distinct, processes_name, same_images, version_name
from ..numbers.summary import Section, Summary, averages
from ..tables import standing
from ..tables.accuracies import CAPTION, seeds
from ..tables.layout import duration, show_average, show_mean, show_number
from .markdown import code, counted, departures_blocks, escaped, folded, page, table
from .repeat import DATA, OUTPUT, Paths, sweeps

UNKNOWN = standing.UNKNOWN
INTERVAL_NOTE = (
    "The interval holds the accuracy with a probability of 95 %: of several seeds over test images and seeds "
    f"(`results/numbers/paired.py`), of a single run over test images alone (exact binomial). {ABSENT}: the records do "
    "not keep which images were right."
)
CALIBRATION = {"ece": "ECE in %", "nll": "NLL", "brier": "Brier score", "aurc": "AURC in %"}  # keys of a record's entry


def card_of_runs(summary: Summary, output: Path) -> str:
    """Write the card of the complete runs in a summary.

    Parameters
    ----------
    summary
        Of one run, or of all runs below a folder.
    output
        That folder.
    """
    runs = summary.complete_runs
    paths = Paths(runs, output)
    sections = {
        "Data": _data(summary),
        "Methods": list(_methods(summary, paths)),
        "Accuracy": list(_accuracy(summary)),
        "Calibration": list(_calibration(summary)),
        "Cost": [_cost(summary)],
        "Versions": [_versions(runs)],
        "Warnings": _warnings(runs, paths),
        "How to repeat": list(_repeat(runs, paths)),
    }
    return page(_title(summary), _lead(summary), sections)


def _title(summary: Summary) -> str:
    """Name methods and data sets; of one run also the shots."""
    methods, datasets = list(summary.runs_by_method()), [section.title for section in summary.sections]
    runs = summary.complete_runs
    title = f"{_listed(methods)} on {_listed(datasets)}"
    return f"{title}, {shots_text(runs[0].shots)}" if len(runs) == 1 and runs[0].trained else title


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _lead(summary: Summary) -> str:
    """Say how many runs there are, what is missing, and what stands behind them."""
    parts = [f"{counted(len(summary.complete_runs), 'finished run')}."]
    if not summary.whole:
        lacking = max(summary.missing, len(summary.incomplete))
        parts.append(f"**{counted(lacking, 'run')} of this comparison {'is' if lacking == 1 else 'are'} missing.**")
    parts += [escaped(text) for text in (standing.footnote(summary.runs_by_method()), *notes(summary.methods)) if text]
    return " ".join(parts)


def _fact(runs: Sequence[Run], *keys: str) -> str:
    return distinct(runs, *keys) or UNKNOWN


# --- data and methods ------------------------------------------------------------------------------------


def _data(summary: Summary) -> list[str]:
    """Show every data set, with the fingerprints of what runs saw: equal where images and classes were the same."""
    rows, prints = [], []
    for section in summary.sections:
        for shots, runs in group(section.runs(), lambda run: run.shots).items():
            sizes = [_fact(runs, "data", entry) for entry in ("classes", "train", "val", "test")]
            draw = runs[0].draw.replace("_", " ") or ABSENT
            rows.append([section.title, shots_text(shots), draw, *sizes])
            seen = group(runs, lambda run: (run.seed, _fact([run], "data", "fingerprint")))
            for (seed, name), members in seen.items():
                trainers = ", ".join(dict.fromkeys(run.trainer for run in members))
                prints.append([section.title, shots_text(shots), seed if seed >= 0 else "none", trainers, name])
    different = same_images(summary.complete_runs)["differing"]
    return [
        table(rows, ["data set", "shots", "draw", "classes", "training images", "validation images", "test images"]),
        f"**The methods did not see the same images:** {escaped('; '.join(different))}." * bool(different),
        f"Fingerprint of images and classes: `{prints[0][-1]}`."
        if len(prints) == 1
        else folded("Fingerprints: equal where runs saw the same images and classes",
                    table(prints, ["data set", "shots", "seed", "trainers", "fingerprint"])),
    ]  # fmt: skip


def _methods(summary: Summary, paths: Paths) -> Iterator[str]:
    """Say of every method what it is, and how it departs from the published settings."""
    for method, runs in summary.runs_by_method().items():
        places = {(run.dataset, run.shots): run for run in runs}
        configs = {
            f"{dataset}, {shots_text(shots)}": {
                key: paths.word(value) if isinstance(value, str) else value for key, value in run.config.items()
            }
            for (dataset, shots), run in places.items()
        }
        yield f"### {escaped(method)}"
        yield f"Trainer {escaped(runs[0].trainer)}, backbone {escaped(paths.word(_fact(runs, 'backbone')))}."
        if all("TRAINER.NAME" in config for config in configs.values()):
            yield from departures_blocks(configs, not runs[0].trained)
        else:
            yield "The settings are unknown: the record has no config."


# --- figures ---------------------------------------------------------------------------------------------


def _cells(summary: Summary) -> Iterator[tuple[Section, str, int, Cell]]:
    """Yield every cell with a result, in the order of the tables; runs without a draw once a data set."""
    seen = set()
    for section in summary.sections:
        for (method, shots), cell in section.cells.items():
            if cell.runs and cell.runs[0] not in seen:
                seen.add(cell.runs[0])
                yield section, method, shots, cell


def _accuracy(summary: Summary) -> Iterator[str]:
    """Show the figures with their intervals, a row a cell, and the averages over data sets."""
    yield f"{CAPTION} {INTERVAL_NOTE}"
    rows = []
    for section, method, shots, cell in _cells(summary):
        ends = interval(cell.runs)
        shown = f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else ABSENT
        rows.append([section.title, method, shots_name(shots), f"{show_mean(cell.accuracy)} ({seeds(cell)})", shown])
    yield table(rows, ["data set", "method", "shots", "accuracy", "95 % interval"])
    rows = [
        [f"{average.title}", method, shots_name(shots), show_average(cell)]
        for average in averages(summary.sections)
        for (method, shots), cell in average.cells.items()
    ]
    if rows:
        yield table(rows, ["average over", "method", "shots", "accuracy"])


def _calibration(summary: Summary) -> Iterator[str]:
    """Show what the records say of calibration, means over seeds; nothing where they say nothing."""
    rows = []
    for section, method, shots, cell in _cells(summary):
        entries = [entry for run in cell.runs if (entry := run.record.get("calibration"))]
        for state, name in (("before", "as tested"), ("after", "after temperature scaling")):
            measured = [entry[state] for entry in entries if entry.get(state)]
            if measured:
                means = [_mean(measures.get(key) for measures in measured) for key in CALIBRATION]
                heat = _mean(entry.get("temperature") for entry in entries) if state == "after" else ABSENT
                rows.append([section.title, method, shots_name(shots), name, heat, *means])
    if rows:
        yield table(rows, ["data set", "method", "shots", "probabilities", "temperature", *CALIBRATION.values()])


def _mean(values: Iterable[Any]) -> str:
    numbers = [value for value in values if isinstance(value, int | float)]
    return show_number(sum(numbers) / len(numbers)) if numbers else UNKNOWN


# --- cost, versions, warnings ----------------------------------------------------------------------------


def _cost(summary: Summary) -> str:
    """Show time and memory, means over seeds; the device is that of all runs of the row, and of how many processes."""
    rows = []
    for section, method, shots, cell in _cells(summary):
        spent = [run.record.get("seconds") or {} for run in cell.runs]
        phases = ("train", "test", "total")
        times = [duration([seconds[phase] for seconds in spent if seconds.get(phase)]) for phase in phases]
        memory = max((run.record.get("peak_memory_mb") or 0 for run in cell.runs), default=0)
        gpu = max((run.record.get("peak_cuda_memory_mb") or 0 for run in cell.runs), default=0)
        shown = [f"{size:,.0f} MB" if size else ABSENT for size in (memory, gpu)]
        device, processes = _fact(cell.runs, "device"), processes_name(cell.runs)
        device += f" ({processes} processes)" if processes else ""
        rows.append([section.title, method, shots_name(shots), *times, *shown, device])
    head = ["data set", "method", "shots", "training", "test", "whole run", "peak memory", "of the GPU", "device"]
    return table(rows, head)


def _versions(runs: Sequence[Run]) -> str:
    keys = sorted({key for run in runs for key in run.record.get("versions") or {}})
    days = sorted(str(run.record.get("finished") or "")[:10] for run in runs)
    rows = [[version_name(key), _fact(runs, "versions", key)] for key in keys]
    return table([*rows, ["finished", " to ".join(dict.fromkeys((days[0], days[-1]))) or UNKNOWN]], ["what", "version"])


def _warnings(runs: Sequence[Run], paths: Paths) -> list[str]:
    """List what runs warned of, and how many did."""
    times = Counter(paths.text(text) for run in runs for text in dict.fromkeys(run.record.get("warnings") or ()))
    if not times:
        silent = all("warnings" in run.record for run in runs)
        return ["None." if silent else "None recorded; not every record keeps them."]
    return ["\n".join(f"- {escaped(text)} ({count} of {len(runs)} runs)" for text, count in times.most_common())]


def _repeat(runs: Sequence[Run], paths: Paths) -> Iterator[str]:
    """Give the commands: sweeps that make many runs, and the others one by one, folded."""
    commands, rest = sweeps(runs, paths)
    if len(commands) + len(rest) >= len(runs):  # nothing is shorter than the runs' own commands
        commands, rest = [], list(runs)
    lines = [line for run in rest if (line := paths.command(run))]
    commit = distinct(runs, "versions", "commit")
    version = f" at commit {escaped(commit)}" if commit else ""
    version += " (dirty: with changes that were not committed)" if "-dirty" in commit else ""
    yield (
        f"In a checkout of PLOT (prompt learning with optimal transport){version}, with `{DATA}` the folder of the "
        f"data sets and `{OUTPUT}` that of the runs:"
    )
    if commands:
        yield code("sh", "\n".join(commands))
    if lines:
        block = code("sh", "\n".join(lines))
        yield block if len(runs) == 1 else folded(counted(len(lines), "run") + ", one by one", block)
    if unknown := len(rest) - len(lines):
        yield f"The command of {counted(unknown, 'run')} is unknown: the record does not keep it."
