"""Make the runs of a sweep, one after another or several at a time: those that are not complete.

`sweep.py` and `experiments.py` plan jobs and hand them to `execute`, Python code (`plot.sweep`) to `make_runs`.  A run
that fails costs no other run: it is listed, with the reason, at the end.
"""

from __future__ import annotations

import argparse
import gc
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from dassl.plain.devices import choose_device
from dassl.plain.text import error_text, printable_lines

from ..cluster.journal import SLURM
from .planning import Job
from .progress import Clock, Report, progress
from .states import first_line, is_complete, list_jobs
from .workers import check_devices, workers

if TYPE_CHECKING:
    from ..config import Request

SKIPPED = "complete, skipped"
Failures = list[tuple[Job, str]]  # jobs, each with the reason why it failed


class Observer:
    """Learns of every run when it begins and when it is over, in whatever thread that is; this one does nothing."""

    def begins(self, job: Job) -> None:
        """Note that a run begins, or is found to be complete."""

    def is_over(self, job: Job, reason: str) -> None:
        """Note that a run is over; `reason` says why it failed and is empty where it did not."""


def run_jobs(
    jobs: Sequence[Job], run: Callable[[Request], dict[str, Any]], report: Report, at_once: int = 1,
    observer: Observer | None = None,
) -> Failures:  # fmt: skip
    """Run every job that is not complete; the jobs of a stage begin when all of the earlier stages are over.

    A complete run of another configuration in the same folder counts as failed: it is neither this run nor to be
    overwritten.

    Parameters
    ----------
    jobs
        What is to be run.
    run
        Makes one run and returns its record.
    report
        Prints a line when a job is over.
    at_once
        How many calls of `run` are under way at a time; 1: they all happen in this thread, which gets the signals.
    observer
        Learns of each run.
    """
    watch, stopped = observer or Observer(), threading.Event()

    def attempt(job: Job) -> tuple[Job, str, str]:
        """Return (job, what came of it, why it failed)."""
        reason = ""
        watch.begins(job)
        try:
            outcome = SKIPPED if is_complete(job) else outcome_of(run(job.request))
        except Exception as error:  # one bad run must not cost the others
            reason = f"{type(error).__name__}: {error_text(error)}"
            outcome = f"failed: {first_line(reason)}"
        finally:
            gc.collect()
        if not stopped.is_set():  # a process that was ended with the sweep has not failed
            watch.is_over(job, reason)
        return job, outcome, reason

    def attempts() -> Iterator[tuple[Job, str, str]]:
        for stage in sorted({job.stage for job in jobs}):
            part = [job for job in jobs if job.stage == stage]
            if at_once == 1:
                yield from map(attempt, part)
            else:
                yield from (future.result() for future in as_completed([threads.submit(attempt, job) for job in part]))

    failed, clock, threads = [], Clock(jobs), ThreadPoolExecutor(at_once)
    try:
        for done, (job, outcome, reason) in enumerate(attempts(), start=1):
            if reason:
                failed.append((job, reason))
            left = clock.left(job, ran=outcome != SKIPPED)
            report(f"[{done}/{len(jobs)}] {job.name}: {outcome}{left}", done=True)
    finally:
        stopped.set()
        threads.shutdown(wait=False, cancel_futures=True)  # when interrupted, nothing else begins
    return failed


def outcome_of(record: dict[str, Any]) -> str:
    """Return "81.30% in 52 s"."""
    accuracy, seconds = record.get("accuracy"), (record.get("seconds") or {}).get("total")
    shown = f"{accuracy:.2f}%" if isinstance(accuracy, int | float) else "no accuracy"
    return shown + (f" in {seconds:.0f} s" if seconds else "")


def make_runs(
    jobs: Sequence[Job], at_once: int | None = None, verbose: bool = False, devices: Sequence[str] = (),
    observer: Observer | None = None,
) -> Failures:  # fmt: skip
    """Make every run that is not complete, in this process unless several `at_once` or `devices` are asked for.

    Returns
    -------
    list
        The jobs that failed, each with the reason.

    Raises
    ------
    KeyboardInterrupt
        When a signal stops it; the runs on their way keep their state first.
    """
    from dassl.engine.interruption import catching_signals

    with catching_signals(at_once=True), progress(len(jobs), verbose) as (report, quietly):

        def run(request: Request) -> dict[str, Any]:
            from runs import execute

            with quietly():
                return execute.run(request)

        count = at_once or max(1, len(devices))
        if count == 1 and not devices:
            return run_jobs(jobs, run, report, observer=observer)
        with workers(count, report, devices) as run_elsewhere:
            return run_jobs(jobs, run_elsewhere, report, count, observer)


def execute(plan: Callable[[argparse.Namespace], Sequence[Job]], args: argparse.Namespace, output: str = "") -> int:
    """Plan runs as a program does, and make them or send them to a cluster, saying on stderr what failed.

    Parameters
    ----------
    plan
        Makes jobs of `args`; it may raise what building a config raises.
    args
        A command line with the flags of `add_sweep_flags`.
    output
        The tree that the runs are in, if it is not `args.output`.

    Returns
    -------
    int
        The exit status: 0 all complete (or submitted), 1 some failed, 2 nothing could be planned, 128 + the number of
        the signal that stopped it.
    """
    from dassl.engine.interruption import exit_status
    from dassl.plain.writing import disk_failed

    try:
        jobs = plan(args)
        if args.cluster != SLURM:
            check_devices(args.devices)
            for name in {job.cfg.USE_DEVICE for job in jobs}:
                choose_device(name)
        if args.cluster:
            from .submitting import submit

            return submit(jobs, args, output or args.output)
    except (ValueError, LookupError, OSError, AssertionError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 1 if disk_failed(error) else 2
    if args.dry_run:
        return int(list_jobs(jobs, commands=args.verbose) > 0)
    try:
        failed = make_runs(jobs, args.jobs, args.verbose, args.devices)
    except KeyboardInterrupt as stop:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return exit_status(stop)
    return report_failures(failed, len(jobs))


def report_failures(failed: Failures, total: int) -> int:
    """Say on stderr which of `total` runs failed, with reason and log; return the exit status, 0 where none did."""

    def complain(message: str) -> None:
        print(printable_lines(message), file=sys.stderr)

    if failed:
        complain(f"{len(failed)} of {total} runs failed:")
    for job, reason in failed:
        complain(textwrap.indent(f"{job.name}: {reason}", "  "))
        if (job.folder / "log.txt").exists():
            complain(f"    log: {job.folder / 'log.txt'}")
    return int(bool(failed))
