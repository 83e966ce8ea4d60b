"""The command that describes finished runs on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from runs.restore.names import find_run

from .command import ALLOW_MISSING, TO_FILE, argument, command, deliver, read_summary


@command(
    "card",
    argument("output", metavar="RUN|OUTPUT",
             help="folder of a run, or of several at any depth, or a short name such as output:PLOT@16"),
    ALLOW_MISSING,
    TO_FILE,
)  # fmt: skip
def card(args: argparse.Namespace) -> int:
    """One Markdown page about a run or a tree of runs.

    For a paper's appendix or a repository: data, methods with the settings that differ from the published ones,
    accuracy with 95 % intervals, calibration where it was measured, cost, versions, warnings, and the exact commands.
    Paths of your machine are replaced by DATA and OUTPUT. Only records are read: neither data nor backbone is needed.

    Examples
    --------
    python -m results card output
    python -m results card output:PLOT@16 --out card.md
    """
    from ..sharing.run_card import card_of_runs

    args.output = str(find_run(args.output))
    summary, status = read_summary(args)
    deliver(card_of_runs(summary, Path(args.output)), args.out)
    return status


COMMANDS = (card,)
