"""The commands about runs that were submitted: how far they are, and how they are ended."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import Counter
from datetime import datetime

from dassl.plain.text import first_few, shortened
from runs.cluster.status import OPEN, STATES, RunStatus, read_status
from runs.files import ResultsError, to_stderr, to_stdout

from ..tables.layout import FORMATS
from ..tables.status import format_status, summary
from .command import TO_FILE, argument, command, deliver

SECONDS = 10.0  # between two looks
CLEAR = "\x1b[H\x1b[2J"  # a terminal's screen


@command(
    "status",
    argument("output", metavar="OUTPUT", help="folder with runs, or of a sweep that was submitted"),
    argument("--state", nargs="+", choices=STATES, metavar="STATE", help=f"only these: {', '.join(STATES)}"),
    argument("--failed", action="store_true", help="only what is failed or lost"),
    argument("--watch", nargs="?", type=float, const=SECONDS, metavar="SECONDS",
             help=f"look again and again until nothing is queued or running; default: every {SECONDS:.0f} s"),
    argument("--format", choices=(*FORMATS, "json"), default="text", help="default: text"),
    TO_FILE,
)  # fmt: skip
def status(args: argparse.Namespace) -> int:
    """How far each run of a sweep is: complete, running where, queued, failed why, or lost.

    All runs below OUTPUT, and all that were submitted for it with --cluster. Slurm is asked once for all its jobs;
    where it does not answer, runs are "unknown", and what their files say is shown. A run is lost when its job is over
    and neither finished it nor said why; the command that submitted it submits it again.

    The exit status is 0 only when every run is complete.

    Examples
    --------
    python -m results status output
    python -m results status output --watch
    python -m results status output --failed
    python -m results status output --state running queued --format csv
    python -m results status output --format json --out status.json
    """
    watching = args.watch is not None
    if watching and not 0.1 <= args.watch <= 86_400:
        raise ResultsError(f"--watch {args.watch:g}: give seconds, from 0.1 to 86400")
    runs = _watch(args.output, args.watch) if watching else read_status(args.output)
    for reason, number in Counter(run.reason for run in runs if run.state == "unknown").items():
        to_stderr(f"unknown: {reason} ({number} run{'s' * (number > 1)})")
    wanted = ("failed", "lost") if args.failed else args.state or STATES
    deliver(format_status(runs, args.format, [run for run in runs if run.state in wanted]), args.out)
    return int(any(run.state != "complete" for run in runs))


def _watch(output: str, seconds: float) -> list[RunStatus]:
    """Look until nothing changes by itself any more, and return what was seen last.

    On a terminal the screen shows what is not complete, as far as there is room; elsewhere a line tells every change.
    """
    runs, last = read_status(output), ""
    while True:
        line = f"{datetime.now():%H:%M:%S}  {summary(runs)}"
        if sys.stdout.isatty():
            shown = format_status(runs, "text", [run for run in runs if run.state != "complete"]).split("\n")
            width, height = shutil.get_terminal_size()
            rows = [shortened(row, width - 1) for row in (line, *shown[1:])]
            if len(rows) > height - 1:
                rows[height - 2 :] = ["..."]
            sys.stdout.write(CLEAR + "\n".join(rows) + "\n")
        elif last != summary(runs):
            print(line)
            last = summary(runs)
        sys.stdout.flush()
        if not any(run.state in OPEN for run in runs):
            sys.stdout.write(CLEAR if sys.stdout.isatty() else "")
            return runs
        time.sleep(seconds)
        runs = read_status(output, {run.run for run in runs if run.state == "complete"})


@command(
    "cancel",
    argument("output", metavar="OUTPUT", help="folder of a sweep that was submitted"),
    argument("--dry-run", action="store_true", help="name the jobs, end none"),
)
def cancel(args: argparse.Namespace) -> int:
    """End the jobs that a tree has submitted, on Slurm or on this machine.

    Only jobs that OUTPUT itself has submitted are ended, and nothing is asked before. A run in training keeps its state
    first, so that the command that submitted it goes on where it stopped. Local jobs of another machine are named; they
    can be ended there alone.

    Examples
    --------
    python -m results cancel output --dry-run
    python -m results cancel output
    """
    from runs.cluster import scheduler
    from runs.cluster.journal import Journal

    journal = Journal(args.output)
    if not journal.exists:
        raise ResultsError(f"{args.output} has submitted nothing; give the --output of a sweep with --cluster")
    with journal.hold():
        submissions = journal.submissions()
        states = scheduler.states(submissions)
        live = [job for job in submissions if states[job.job].live]
        unknown = [job for job in submissions if states[job.job].state == scheduler.UNKNOWN]
        runs = sum(len(job.runs) for job in live)
        words = f"{len(live)} job{'s' * (len(live) != 1)} with {runs} run{'s' * (runs != 1)}"
        if args.dry_run:
            for job in live:
                to_stdout(f"{job.job}  {states[job.job].state}  {first_few(run.name for run in job.runs)}")
            print(f"to end: {words}")
        else:
            try:
                journal.cancel(scheduler.cancel(live))
            except scheduler.SlurmError as error:
                raise ResultsError(f"not all jobs were told to end: {error}; give the same command again") from error
            print(f"told to end: {words}")
    for reason, number in Counter(states[job.job].reason for job in unknown).items():
        to_stderr(f"not ended: {number} job{'s' * (number > 1)}: {reason}")
    return int(bool(unknown))


COMMANDS = (status, cancel)
