"""How far the runs of a tree are, as a table, as CSV and as JSON: the counts first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from dassl.plain.text import shortened
from runs.cluster.status import STATES, RunStatus

from .layout import Block, csv_text, show_document

COLUMNS = ("state", "run", "name", "job", "host", "since", "epoch", "epochs", "reason")
LONGEST = 90  # columns of a reason in a table


def format_status(runs: Sequence[RunStatus], style: str, shown: Sequence[RunStatus]) -> str:
    """Show how far runs are.

    Parameters
    ----------
    runs
        All of the tree, which are counted.
    style
        "json", or one of `layout.FORMATS`.
    shown
        Those that have a row.
    """
    rows = [[getattr(run, column) for column in COLUMNS] for run in shown]
    if style == "csv":
        return csv_text(COLUMNS, rows)
    if style == "json":
        table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        return json.dumps({"runs": len(runs), "counts": counts(runs), "status": table}, indent=1) + "\n"
    head = ["state", "run", "job", "host", "since", "epoch", "reason"]
    cells = [
        [run.state, run.run, run.job, run.host, _minutes(run.since), _epoch(run), shortened(run.reason, LONGEST)]
        for run in shown
    ]
    filled = [index for index in range(len(head)) if index < 2 or any(row[index] for row in cells)]
    block = Block("", [head[i] for i in filled], [[row[i] for i in filled] for row in cells], words=len(filled))
    remedies = [f"{state}: {STATES[state]}" for state in STATES if STATES[state] and state in counts(shown)]
    notes = [summary(runs), *remedies]
    return show_document(["\n".join(filter(None, notes))], [block] if cells else [], style)


def counts(runs: Sequence[RunStatus]) -> dict[str, int]:
    """Count the runs of each state that there is."""
    number = Counter(run.state for run in runs)
    return {state: number[state] for state in reversed(STATES) if number[state]}


def summary(runs: Sequence[RunStatus]) -> str:
    """Return "8 runs: 5 complete, 2 queued, 1 failed"."""
    shown = ", ".join(f"{number} {state}" for state, number in counts(runs).items())
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {shown}"


def _minutes(time: str) -> str:
    """Return an ISO time without its seconds and zone."""
    return time.replace("T", " ")[:16]


def _epoch(run: RunStatus) -> str:
    return "" if run.epoch is None else f"{run.epoch} of {run.epochs}"
