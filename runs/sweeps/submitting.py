"""Send the runs of a sweep to a cluster, and end: what is complete or under way is left alone.

The same command can be given again at any time.  What a run's record, the tree's journal and the scheduler say decides
what is done: a complete run is skipped, one that a live job will make is left to it, and everything else is submitted,
whether it was never submitted, has failed, or was lost with its job.  A second command waits until the first has
written down what it has submitted.  Where the scheduler cannot be asked, nothing is submitted, as nobody can know.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dassl.plain.text import error_text, printable

from ..cluster import detached, scheduler
from ..cluster.flags import Resources
from ..cluster.journal import FOLDER, LOCAL, SLURM, Journal, PlannedRun, Submission
from ..cluster.slurm import Slurm, SlurmError, most_elements, require_submitit
from .batches import batches, pace
from .planning import Job
from .states import first_line, is_complete, starts_of, state_of
from .task import Batch, Errand

GONE, UNKNOWN = "gone", "unknown"


@dataclass
class Standing:
    """How the runs of a sweep stand before anything is submitted."""

    complete: list[Job] = field(default_factory=list)
    under_way: list[tuple[Job, Submission]] = field(default_factory=list)  # with the job that makes or will make it
    refused: list[tuple[Job, str]] = field(default_factory=list)  # with the reason
    to_make: list[Job] = field(default_factory=list)


def submit(jobs: Sequence[Job], args: argparse.Namespace, output: str | os.PathLike[str]) -> int:
    """Submit what is neither complete nor under way, and say what was done.

    Parameters
    ----------
    jobs
        All runs of the sweep.
    args
        A command line with the flags of `add_sweep_flags`.
    output
        The tree that they are in, which gets the journal.

    Returns
    -------
    int
        The exit status: 0, or 1 where runs cannot be made or submitted.
    """
    journal = Journal(Path(output).absolute())
    if args.cluster == SLURM:
        require_submitit()
    if args.dry_run:
        return _show(jobs, args, journal)
    try:
        with journal.hold():
            standing = survey(jobs, journal)
            submitted = _submit(standing, args, journal)
    except SlurmError as error:
        print(f"error: {error_text(error)}; nothing else is submitted, and nothing is lost: try again", file=sys.stderr)
        return 1
    _summary(jobs, standing, submitted, output)
    return int(bool(standing.refused))
