"""Send the runs of a sweep to a cluster, and end: what is complete or under way is left alone.

The same command can be given again at any time.  What a run's record, the tree's journal and the scheduler say decides
what is done: a complete run is skipped, one that a live job has is left to it, and everything else is submitted,
whether it never was, has failed, or was lost with its job.  A second command waits until the first has written down
what it submitted.  Where the scheduler cannot be asked, nothing is submitted, as nobody can know.

Stages become dependencies: the array of a stage begins when the jobs that make what its runs start from are over, well
or not, since one failed run must not keep a thousand others waiting.  On this machine, the jobs of a tree take turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dassl.plain.text import error_text, printable

from ..cluster import detached
from ..cluster.flags import Resources
from ..cluster.journal import FOLDER, LOCAL, SLURM, Journal, PlannedRun, Submission
from ..cluster.scheduler import SlurmError, config_value
from ..cluster.slurm import Slurm, most_elements
from .batches import batches, pace_of
from .jobs import report_failures
from .planning import Job
from .standing import Standing, survey
from .states import first_line, starts_of
from .task import Batch, Errand
from .waiting import wait

LOGS = f"{FOLDER}/submitit"  # with scripts and pickles
Send = Callable[[Sequence[Batch], Sequence[str]], list[tuple[str, Path]]]  # an array, after others: numbers and logs


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
        The exit status: 0, or 1 where some run cannot be made or submitted, or, with --wait, has failed; 128 + signal
        for one that stopped the waiting.
    """
    from dassl.engine.interruption import catching_signals, exit_status

    tree = Path(output).absolute()
    if args.dry_run:
        return _show(jobs, args, tree)
    journal, submitted = Journal(tree), list[Submission]()
    to_cluster = _to_slurm if args.cluster == SLURM else _to_this_machine
    problem, status = "", 0
    try:
        with journal.hold():
            standing = survey(jobs, args.cluster)
            with catching_signals() as signals:
                for part in to_cluster(standing, args, tree):
                    journal.append(part)  # a signal waits until this is done: what is submitted is also written down
                    submitted += part
                    signals.check()
    except SlurmError as error:
        problem, status = f"error: {error_text(error)}", 1
    except KeyboardInterrupt as stop:
        problem, status = "interrupted", exit_status(stop)
    if submitted or not problem:
        _summary(standing, submitted, output)
    if problem:
        rest = "the rest is not submitted" if submitted else "nothing is submitted"
        print(f"{problem}\n{rest}; nothing is lost: give the same command again", file=sys.stderr)
        return status
    return _stay(jobs, standing) if args.wait else int(bool(standing.refused))


def _stay(jobs: Sequence[Job], standing: Standing) -> int:
    """Wait for the runs, and return the exit status of a sweep."""
    from dassl.engine.interruption import catching_signals, exit_status

    try:
        with catching_signals(at_once=True):
            return report_failures(wait(jobs, standing), len(jobs))
    except KeyboardInterrupt as stop:
        print("the jobs go on without this command", file=sys.stderr)
        return exit_status(stop)


# --- Slurm -----------------------------------------------------------------------------------------------


def _to_slurm(
    standing: Standing, args: argparse.Namespace, tree: Path, send: Send | None = None
) -> Iterator[list[Submission]]:
    """Submit an array for each stage, or several where the cluster has a limit; yield its jobs.

    Parameters
    ----------
    standing, args, tree
        As in `submit`.
    send
        Takes the place of sbatch, to show what would be submitted.
    """
    if not standing.to_make:
        return
    slurm = _slurm(args, tree)
    if send is None:
        send = slurm.submit
        site, most = config_value("ClusterName"), most_elements()
    else:
        site, most = "", len(standing.to_make)
    makers: dict[Path, str] = {}  # folder of a run: job
    for stage in sorted({job.stage for job in standing.to_make}):
        part = [job for job in standing.to_make if job.stage == stage]
        divided = batches(part, args.runs_per_job, args.minutes, pace_of(standing.complete))
        waits = {live.job for job in part for live in standing.waits_for[job.folder]}
        starts = [start.absolute() for job in part for start in starts_of(job)]
        places = {place for start in starts for place in (start, *start.parents)}
        waits |= {makers[place] for place in places & makers.keys()}
        after = sorted({job.partition("_")[0] for job in waits}, key=int)
        for begin in range(0, len(divided), most):
            array = divided[begin : begin + most]
            sent = send([_batch(runs, args, tree) for runs in array], after)
            yield [
                _submission(job, runs, tree, log, cluster=SLURM, name=slurm.name, site=site, after=tuple(after))
                for (job, log), runs in zip(sent, array, strict=True)
            ]
            makers |= {run.folder.absolute(): job for (job, _), runs in zip(sent, array, strict=True) for run in runs}


def _slurm(args: argparse.Namespace, tree: Path) -> Slurm:
    """Return what submits; squeue shows the tree, and a token, so that a number given out again deceives nobody."""
    name = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', tree.name)[:40]}-{secrets.token_hex(3)}"
    return Slurm(tree / LOGS, Resources.of(args), name)


def _batch(runs: Sequence[Job], args: argparse.Namespace, tree: Path, **fields: Any) -> Batch:
    shared: dict[str, Any] = {"nodes": args.nodes or 1, "processes": args.processes or 1}
    return Batch(str(tree), [Errand.of(job, tree) for job in runs], verbose=args.verbose, **shared, **fields)


def _submission(job: str, runs: Sequence[Job], tree: Path, log: Path, **fields: Any) -> Submission:
    planned = tuple(PlannedRun(run.name, os.path.relpath(run.folder, tree)) for run in runs)
    return Submission(job=job, runs=planned, log=os.path.relpath(log, tree), host=platform.node(), **fields)


# --- this machine ----------------------------------------------------------------------------------------


def _to_this_machine(standing: Standing, args: argparse.Namespace, tree: Path) -> Iterator[list[Submission]]:
    """Start one process that makes the runs, with the workers of a sweep; yield its job."""
    if not standing.to_make:
        return
    name = f"local-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    live = [job for job in Journal(tree).submissions() if job.cluster == LOCAL and job.process.alive]
    live += [job for jobs in standing.waits_for.values() for job in jobs]
    log = tree / LOGS / f"{name}.log"
    batch = _batch(
        standing.to_make, args, tree, job=name, at_once=args.jobs, devices=args.devices,
        after=sorted({job.process for job in live}),
    )  # fmt: skip
    process = detached.start("runs.sweeps.task", batch.to_json(), log)
    after = tuple(dict.fromkeys(job.job for job in live))
    about = {"cluster": LOCAL, "after": after, "pid": process.pid, "born": process.born}
    yield [_submission(name, standing.to_make, tree, log, **about)]


# --- what is said ----------------------------------------------------------------------------------------


def _summary(standing: Standing, submitted: Sequence[Submission], output: object) -> None:
    runs = sum(len(job.runs) for job in submitted)
    arrays = ", ".join(dict.fromkeys(job.job.partition("_")[0] for job in submitted))
    jobs = f" in {len(submitted)} job{'s' * (len(submitted) != 1)} ({arrays})" if submitted else ""
    print(f"complete: {len(standing.complete)}, under way: {len(standing.under_way)}, submitted: {runs}{jobs}")
    if submitted or standing.under_way:
        print(printable(f"how far they are: python -m results status {output}"))
        print(printable(f"end them:         python -m results cancel {output}"))
    for job, reason in standing.refused:
        print(printable(f"not submitted: {job.name}: {first_line(reason)}"), file=sys.stderr)


def _show(jobs: Sequence[Job], args: argparse.Namespace, tree: Path) -> int:
    """Print how every run stands, and what would be submitted."""
    standing = survey(jobs, args.cluster)
    for job in standing.complete:
        print(printable(f"complete   {job.name}  {job.folder}"))
    for job, submission in standing.under_way:
        print(printable(f"under way  {job.name}  {job.folder}  (job {submission.job})"))
    for job, reason in standing.refused:
        print(printable(f"fails      {job.name}  {job.folder}  ({first_line(reason)})"))
    if args.cluster == LOCAL:
        for job in standing.to_make:
            print(printable(f"to submit  {job.name}  {job.folder}"))
        return int(bool(standing.refused))
    numbers = iter(range(1, len(standing.to_make) + 1))
    slurm = _slurm(args, tree)

    def send(calls: Sequence[Batch], after: Sequence[str]) -> list[tuple[str, Path]]:
        array = next(numbers)
        print(f"\n--- array {array}, of {len(calls)} job{'s' * (len(calls) != 1)}, by this script:")
        print(slurm.script(len(calls), after))
        for number, call in enumerate(calls):
            print(printable(f"--- job {number}: {'; '.join(errand.name for errand in call.errands)}"))
        return [(f"{array}_{number}", tree) for number in range(len(calls))]

    for _ in _to_slurm(standing, args, tree, send):
        pass
    return int(bool(standing.refused))
