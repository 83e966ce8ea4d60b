"""How far every run of a tree is: what was submitted and what lies there, compared with what the scheduler says.

Files decide first: a run with a complete record is complete, whoever made it.  Of all others the job that was submitted
last for a run tells, by its own file (`journal.Task`) and by what the scheduler says of it.  Nothing here imports
torch, and the scheduler is asked about jobs with something left to make alone, so that a thousand runs take a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dassl.plain.text import printable
from dassl.plain.writing import host as this_host
from dassl.plain.writing import lives

from ..files import ResultsError, visible_folders
from ..lock import holder_of
from ..record import CONFIG_NAME, LOG_NAME, RESULT_NAME, is_complete
from . import scheduler
from .journal import SLURM, Journal, PlannedRun, Submission, Task
from .scheduler import ENDED, QUEUED, RUNNING, UNKNOWN, JobState

STATES = {  # in the order in which they are shown: what needs somebody first, and what is done last
    "failed": "its last words are in the log of its job; when the reason is gone, the same command makes it again",
    "lost": "its job is over without a word; the same command submits it again",
    "unknown": "nobody could be asked; this is what the files say",
    "cancelled": "the same command submits it again, and it goes on where it stopped",
    "unfinished": "no job is to make it; the command that began it goes on where it stopped",
    "running": "",
    "queued": "",
    "complete": "",
}
OPEN = ("running", "queued", "unknown")  # states that change by themselves
TAIL = 16_384  # bytes at the end of a log that are looked at
ASIDES = ("submitit ", "srun: Force Terminated", "srun: forcing job", "srun: Job step aborted")  # lines of a log
EPOCH = re.compile(r"^epoch \[(\d{1,9})/(\d{1,9})\]", re.MULTILINE)


@dataclass(frozen=True)
class RunStatus:
    """How far one run is; all texts are as they can be shown."""

    run: str  # its folder, relative to the tree
    state: str  # one of STATES
    name: str = ""  # what its sweep calls it
    job: str = ""
    host: str = ""  # where it is, or was, made
    since: str = ""  # when its job began; of a queued one, when it was submitted
    epoch: int | None = None  # of `epochs`, of a run on its way
    epochs: int | None = None
    reason: str = ""


def read_status(output: str | os.PathLike[str], known: Collection[str] = ()) -> list[RunStatus]:
    """Return how far every run is that lies in a tree or was submitted for it, the first of STATES first.

    Parameters
    ----------
    output : path
        The tree.
    known : collection of str
        Runs that were complete when they were last looked at; they are not read again.

    Raises
    ------
    ResultsError
        Where there is no such folder, or neither a run nor a submission in it.
    """
    journal = Journal(output)
    if not journal.output.is_dir():
        raise ResultsError(f"{output} is no folder; give the output folder of runs, or of a sweep that was submitted")
    names = {RESULT_NAME, CONFIG_NAME, LOG_NAME}
    folders = [folder for folder, files in visible_folders(journal.output) if not names.isdisjoint(files)]
    here = {folder.relative_to(journal.output).as_posix() for folder in folders}
    jobs: dict[str, tuple[Submission, PlannedRun]] = {}  # folder: the job that was submitted last, and what it calls it
    for submission in journal.submissions():
        jobs |= {run.folder: (submission, run) for run in submission.runs}
    if not here and not jobs:
        raise ResultsError(f"{output} holds no run, and none was submitted for it")
    runs = sorted(here | jobs.keys())
    root = os.path.realpath(journal.output)
    outside = {run for run in runs if os.path.commonpath((root, os.path.realpath(f"{root}/{run}"))) != root}
    complete = {run for run in runs if run in known or (run not in outside and is_complete(journal.output / run))}
    asked = {job.job: job for run, (job, _) in jobs.items() if run not in complete}
    states, tasks = scheduler.states(asked.values()), {name: journal.task(name) for name in asked}

    def status(run: str) -> RunStatus:
        job, planned = jobs.get(run, (None, PlannedRun("", run)))
        if run in complete:
            return _show(RunStatus(run, "complete", planned.name, job.job if job else ""))
        if run in outside:
            return _show(RunStatus(run, "unknown", planned.name, reason=f"a link leads out of {output}: not read"))
        holder = holder_of(journal.output / run)
        if job is None:
            return _show(_without_job(planned, holder), journal)
        return _show(_of_job(planned, job, states[job.job], tasks[job.job], holder, journal), journal)

    order = list(STATES)
    return sorted(map(status, runs), key=lambda run: (order.index(run.state), run.run))


def _without_job(run: PlannedRun, holder: Mapping[str, Any]) -> RunStatus:
    """Return how far an incomplete run is by its folder alone, `holder` being who says there that it works on it."""
    if not holder or (holder["host"] == this_host() and not lives(holder["pid"])):
        return RunStatus(run.folder, "unfinished", run.name)
    where = {"host": holder["host"], "since": holder["since"]}
    if holder["host"] == this_host():
        return RunStatus(run.folder, "running", run.name, **where)
    reason = f"{holder['host']} alone can tell whether process {holder['pid']} still works on it"
    return RunStatus(run.folder, "unknown", run.name, reason=reason, **where)


def _of_job(
    run: PlannedRun, job: Submission, answer: JobState, task: Task | None, holder: Mapping[str, Any], journal: Journal
) -> RunStatus:
    """Return how far an incomplete run is that `job` was to make."""
    by_hand = _without_job(run, holder)
    if by_hand.state == "running" and not answer.live:
        return by_hand  # somebody makes it without a job
    making = task is not None and task.now == run.folder
    began = making or _since(holder.get("since")) > _since(task.started if task else job.submitted)
    failure = task.failure(run.folder) if task is not None else ""
    where = {"host": answer.host or (task.host if task else ""), "since": task.started if task else answer.since}
    later = {"since": job.submitted}

    def status(state: str, reason: str = "", place: Mapping[str, Any] = where) -> RunStatus:
        return RunStatus(run.folder, state, run.name, job.job, reason=reason, **place)

    if failure:
        return status("failed", failure)
    ending = "is being cancelled" if job.cancelled else ""
    if answer.state == QUEUED:
        return status("queued", ending or answer.reason, later)
    if answer.state == RUNNING:
        if began or (task is None and job.cluster == SLURM and len(job.runs) == 1):
            return status("running", ending or answer.reason)
        return status("queued", ending or ("its job runs" if task else "its job has yet to begin"), later)
    if answer.state == UNKNOWN:
        return status("unknown", answer.reason, where if began else later)
    if job.cancelled or answer.reason.startswith("CANCELLED"):
        return status("cancelled")
    words = ": ".join(filter(None, (answer.reason, _last_line(journal.log(job)))))
    known = answer.state == ENDED and not answer.reason.startswith("COMPLETED")
    return status("failed" if known and (began or task is None) else "lost", words)


def _since(text: str | None) -> datetime:
    """Read a time with its zone; the earliest one where it is none."""
    try:
        return datetime.fromisoformat(text or "").astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=timezone.utc)


def _show(run: RunStatus, journal: Journal | None = None) -> RunStatus:
    """Make all texts fit to be shown, and add how far a run on its way is."""
    values = dict(run.__dict__)
    values |= {name: printable(value) for name, value in values.items() if isinstance(value, str)}
    if journal is not None and run.state in ("running", "unknown"):
        log = journal.output / run.run / LOG_NAME
        epochs = EPOCH.findall(_tail(log)) if journal.within(log) else []
        if epochs:
            values["epoch"], values["epochs"] = map(int, epochs[-1])
    return RunStatus(**values)


def _tail(path: Path) -> str:
    """Return the end of a text; "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - TAIL))
            return file.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return ""


def _last_line(log: Path | None) -> str:
    """Return the last line of a log that tells something of the end; "" where none does."""
    lines = (_tail(log) if log is not None else "").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith(ASIDES)), "")
