"""What became of jobs, asked of Slurm or of this machine, and how they are ended.

Slurm is asked once for all jobs.  squeue knows those that wait and run, and for some minutes those that are over; what
it has forgotten, sacct may know, where the cluster keeps accounts.  Every question has a time limit: where nobody
answers, the jobs are UNKNOWN, and what the files of the tree say is all that is known.

A local job is a process, which only its own machine can tell of.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dassl.plain.text import printable

from .journal import LOCAL, SLURM, Submission

PATIENCE = 10.0  # seconds for one answer of Slurm's
MOST_WORDS = 500  # jobs that one command line names

QUEUED, RUNNING, ENDED, GONE, UNKNOWN = "queued", "running", "ended", "gone", "unknown"
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
ALIVE = {"RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
NO_SUCH_JOB = "Invalid job id"
FIELDS = "%i|%T|%N|%S|%r|%j"  # job, state, nodes, start, reason, name; the name is the one that may hold a bar


class SlurmError(OSError):
    """Slurm cannot be asked, or refuses; the message says why."""


class JobState(NamedTuple):
    """How far a job is.

    Attributes
    ----------
    state
        QUEUED; RUNNING; ENDED, where the scheduler still knows how; GONE, where nobody knows it any more; UNKNOWN,
        where nobody could be asked.
    host
        Where it runs, or ran.
    since
        When it began.
    reason
        Why it waits, how it ended, or why nobody knows.
    """

    state: str
    host: str = ""
    since: str = ""
    reason: str = ""

    @property
    def live(self) -> bool:
        """Whether the job has yet to end."""
        return self.state in (QUEUED, RUNNING)


def states(submissions: Iterable[Submission]) -> dict[str, JobState]:
    """Return what became of every job; never fails, and no question takes longer than PATIENCE."""
    submissions = list(submissions)
    answers = {job.job: _local_state(job) for job in submissions if job.cluster == LOCAL}
    if ours := [job for job in submissions if job.cluster == SLURM]:
        try:
            answers |= _ask_slurm(ours)
        except SlurmError as error:
            answers |= {job.job: JobState(UNKNOWN, reason=str(error)) for job in ours}
    return answers


def _local_state(submission: Submission) -> JobState:
    process = submission.process
    if not process.here:
        reason = f"{process.host or 'its machine'} alone can tell of process {process.pid}"
        return JobState(UNKNOWN, process.host, reason=reason)
    return JobState(RUNNING, process.host, submission.submitted) if process.alive else JobState(GONE, process.host)


# --- Slurm -----------------------------------------------------------------------------------------------


def _ask_slurm(submissions: Sequence[Submission]) -> dict[str, JobState]:
    """Return the states of all of these jobs; those of another cluster on the same disk are UNKNOWN here.

    A job by the same number that has another name is somebody else's, from a time after the numbers began anew.
    """
    site = config_value("ClusterName") if any(job.site for job in submissions) else ""
    answers = {
        job.job: JobState(UNKNOWN, reason=f"it is a job of cluster {job.site}, and this is {site or 'another one'}")
        for job in submissions
        if job.site not in ("", site)
    }
    names = {job.job: job.name for job in submissions if job.job not in answers}
    for job, state, nodes, start, reason, name in _squeue(sorted({job.partition("_")[0] for job in names})):
        if names.get(job) in ("", name):
            answers[job] = _state(state, nodes, start, reason)
    answers |= _sacct([job for job in names if job not in answers])
    return {job.job: answers.get(job.job, JobState(GONE)) for job in submissions}


def config_value(key: str) -> str:
    """Return what the configuration of Slurm says of a key, like ClusterName or MaxArraySize; "" where it does not.

    Raises
    ------
    SlurmError
        Where Slurm cannot be asked.
    """
    match = re.search(rf"^{key}\s*=\s*(.*)$", ask("scontrol", "show", "config"), re.MULTILINE)
    return match[1].strip() if match else ""


def _state(state: str, nodes: str, start: str, reason: str) -> JobState:
    kind = QUEUED if state in WAITING else RUNNING if state in ALIVE else ENDED
    start = "" if start in ("N/A", "Unknown", "None") or kind == QUEUED else start
    reason = "" if reason == "None" else reason
    if kind == ENDED or (kind == RUNNING and state != "RUNNING"):
        reason = f"{state} ({reason})" if reason and reason != state else state
    return JobState(kind, printable(nodes), printable(start), printable(reason))


def _squeue(jobs: Sequence[str]) -> list[list[str]]:
    """Return the FIELDS of every job, and element of an array, that squeue knows."""
    rows = []
    for start in range(0, len(jobs), MOST_WORDS):
        names = ",".join(jobs[start : start + MOST_WORDS])
        try:
            text = ask("squeue", "--noheader", "--array", "--states=all", f"--jobs={names}", f"--format={FIELDS}")
        except SlurmError as error:
            if NO_SUCH_JOB not in str(error):  # what it says where it knows none of them
                raise
            continue
        count = FIELDS.count("|")
        rows += [row for line in text.splitlines() if len(row := line.strip().split("|", count)) == count + 1]
    return rows


def _sacct(jobs: Sequence[str]) -> dict[str, JobState]:
    """Return the states of jobs of which there are accounts; {} where the cluster keeps none."""
    states: dict[str, JobState] = {}
    for first in range(0, len(jobs), MOST_WORDS):
        names = ",".join(jobs[first : first + MOST_WORDS])
        fields = "--format=JobID,State,NodeList,Start"
        try:
            text = ask("sacct", "--noheader", "--parsable2", "--allocations", fields, f"--jobs={names}")
        except SlurmError:
            return states
        for line in text.splitlines():
            job, state, nodes, start = [*line.split("|"), "", "", ""][:4]
            states[job] = _state(state.partition(" ")[0], nodes, start, "")  # "CANCELLED by 1000"
    return states


def ask(*command: str) -> str:
    """Return what a command of Slurm's prints.

    Raises
    ------
    SlurmError
        Where it is missing, fails, or does not answer in time.
    """
    name = command[0]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE,
                              stdin=subprocess.DEVNULL)  # fmt: skip
    except FileNotFoundError:
        raise SlurmError(f"there is no {name} on {os.uname().nodename}; ask on a submit host of Slurm") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{name} has not answered within {PATIENCE:.0f} s") from None
    except OSError as error:
        raise SlurmError(f"{name} cannot be started: {error.strerror}") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        words = lines[-1].removeprefix(f"{name}: ") if lines else f"exit status {done.returncode}"
        raise SlurmError(f"{name}: {printable(words)}")
    return done.stdout


# --- the end ---------------------------------------------------------------------------------------------


def cancel(submissions: Iterable[Submission]) -> list[Submission]:
    """End jobs: Slurm's with scancel, local ones with SIGTERM, after both of which a run in training keeps its state.

    Returns
    -------
    list
        The jobs that were told to end: all but local ones that have ended, or that are another machine's.

    Raises
    ------
    SlurmError
        Where Slurm cannot be asked; local jobs have been told to end then.
    """
    submissions = list(submissions)
    local = [job for job in submissions if job.cluster == LOCAL and job.process.alive]
    for job in local:
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGTERM)
    ours = [job for job in submissions if job.cluster == SLURM]
    for start in range(0, len(ours), MOST_WORDS):
        ask("scancel", *(job.job for job in ours[start : start + MOST_WORDS]))
    return local + ours
