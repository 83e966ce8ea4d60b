"""The command `python -m datasets check`, and how reports are shown."""

from __future__ import annotations

import argparse
import os.path as osp
import shlex
import textwrap
from collections.abc import Sequence

from dassl.plain.text import printable_lines

from ..base import SplitDataset
from ..catalogue import OWN, UsageError, find_kind, published
from ..checking.check import Report, check
from ..checking.own_pictures import check_own
from ..files import list_folders, list_images

MARKS = {"complete": "ok", "incomplete": "!!", "not found": "--"}


def run(options: argparse.Namespace) -> int:
    """Check the named data sets (all, if none is named) or one's own pictures; returns the exit status."""
    root = osp.abspath(osp.expanduser(options.root))
    own = [name.lower() for name in options.names] == [OWN]
    if not osp.isdir(root):
        raise UsageError(f"no folder {root}; ROOT is the folder that holds the data sets' folders")
    if own:
        report = check_own(root, options.csv, options.test_csv)
        print(describe(report))
        return int(report.state != "complete")
    if options.csv or options.test_csv:
        raise UsageError(f"--csv and --test-csv are for pictures of your own: name the data set {OWN}")
    reports = []
    for kind in list(dict.fromkeys(map(find_kind, options.names))) or published():
        reports.append(check(kind, root, options.images))
        print(describe(reports[-1]), flush=True)
    if any(report.todo for report in reports):
        print("Addresses are those that were published; a fetch tells whether they still answer.\n")
    print(summary(reports, root, bool(options.names)))
    if not any(report.exists for report in reports) and any(list_images(osp.join(root, f)) for f in list_folders(root)):
        print(f"are these pictures of your own? then: python -m datasets check {shlex.quote(root)} {OWN}")
    return int(any(report.state != "complete" for report in reports))


def describe(report: Report) -> str:
    """Put one report into words that are safe for a terminal."""
    lines = [f"[{MARKS[report.state]}] {report.name} ({report.kind.config}): {report.state}"]
    for mark, entries in (("", report.facts), ("note: ", report.notes), ("problem: ", report.problems)):
        lines += [textwrap.indent(f"{mark}{entry}", "     ") for entry in entries]
    lines += [f"     to do: {entry}" for entry in dict.fromkeys(report.todo)]
    return printable_lines("\n".join(lines)) + "\n"


def summary(reports: Sequence[Report], root: str, named: bool) -> str:
    """Say how many data sets are in which state, and with which commands to go on.

    Parameters
    ----------
    reports
        One for every data set that was checked.
    root
        The folder that holds the data sets' folders.
    named
        Whether the user chose the data sets; the next command then names the unfinished ones.
    """
    states = {state: [report.kind for report in reports if report.state == state] for state in MARKS}
    lines = [
        f"{len(kinds)} {state}: {', '.join(kind.config for kind in kinds)}" for state, kinds in states.items() if kinds
    ]
    lines.append("next:")
    complete = sorted(states["complete"], key=lambda kind: kind.eval_only)  # one to train on, if there is one
    lines += [f"  {run_command(kind, root)}" for kind in complete[:1]]
    unfinished = [kind.config for kind in states["incomplete"] + states["not found"]]
    if unfinished:
        again = " ".join(unfinished) if named or len(unfinished) < len(published()) else ""
        lines.append(f"  do what is listed above, then: python -m datasets check {shlex.quote(root)} {again}".rstrip())
    return "\n".join(lines)


def run_command(kind: type[SplitDataset], root: str) -> str:
    """Return the command that runs PLOT on the data set, or tests a run on it if nothing may train on it."""
    config = kind.config
    command = f"python train.py --root {shlex.quote(root)} --dataset-config-file configs/datasets/{config}.yaml "
    command += "--config-file configs/trainers/PLOT/rn50.yaml --trainer PLOT "
    if kind.eval_only:
        return command + f"--output-dir output/{config} --eval-only --model-dir output/imagenet/seed1"
    return command + f"--output-dir output/{config}/seed1 --seed 1 DATASET.NUM_SHOTS 16"
