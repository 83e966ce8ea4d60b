"""The command `python -m datasets fetch`: get what is missing, then check the data set."""

from __future__ import annotations

import argparse
import os.path as osp
import sys

from dassl.plain.text import printable_lines

from ..catalogue import find_kind
from ..checking.check import check
from ..fetching.fetch import fetch, preview
from .check import describe, summary


def run(options: argparse.Namespace) -> int:
    """Fetch every named data set, or say what would be fetched; returns the exit status."""
    kinds = list(dict.fromkeys(map(find_kind, options.names)))
    root = osp.abspath(osp.expanduser(options.root))
    if options.dry_run:
        for kind in kinds:
            print(preview(kind, root, options.only, options.again) + "\n")
        print("Sizes are rounded; the addresses are those that were published, and were not tried.")
        return 0
    failed, reports = False, []
    for kind in kinds:
        problems = fetch(kind, root, options.only, options.again, options.keep, options.mirror)
        for problem in problems:
            print(f"error: {printable_lines(problem)}", file=sys.stderr)
        report = check(kind, root)
        print(describe(report), flush=True)
        reports.append(report)
        failed |= bool(problems) or (not options.only and report.state != "complete")
    print(summary(reports, root, named=True))
    return int(failed)
