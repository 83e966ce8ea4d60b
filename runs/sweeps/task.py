"""What a job of a cluster executes: its runs, one after another in one process, and a file that says how far it is.

A job on its way can be ended by others, and what happens then depends on the signal:

    SIGUSR2           Slurm warns that the time limit is near: the run keeps its state, and the job is requeued
    SIGTERM           it is cancelled, or preempted: the run keeps its state, and the job ends.  A preempted one Slurm
                      requeues itself; a cancelled one must stay away, so the job never does that here
    nothing at all    kill -9, a node that dies: what is missing is seen from outside, and Slurm requeues after the
                      death of a node

A job that begins again makes what is missing: complete runs are skipped, the one on its way goes on from its last
finished epoch, bit for bit (`dassl.engine.state`), and one that failed is not tried again before somebody asks for it.

The checkpoint mechanism of submitit is left alone.  Its handler acts in the middle of whatever the program is doing,
and ends it there, whereas a run can be stopped between two steps only; it pickles the job anew, which there is no need
for where the state is in the run's folder; and it requeues after a few time limits only, also where all goes well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from dassl.plain.text import error_text

from ..cluster.flags import WARNING
from ..cluster.journal import COMPLETE, Journal, Task, now
from ..cluster.processes import Process
from ..cluster.scheduler import SlurmError, ask
from .jobs import Observer, make_runs
from .planning import Job
from .shared import share_runs
from .states import state_of

LONGEST = 2000  # characters of a reason that are kept
STUCK = "it got no further within the time limit of its job, so it was not requeued; use a longer --time"


class Errand(NamedTuple):
    """One run of a job: its name, folder (relative to the tree), stage, and the words of train.py's command line."""

    name: str
    folder: str
    stage: int
    argv: list[str]

    @classmethod
    def of(cls, job: Job, output: Path) -> Errand:
        """Return that of a planned run in the tree `output`."""
        return cls(job.name, os.path.relpath(job.folder, output), job.stage, job.argv)


@dataclass(frozen=True)
class Batch:
    """The runs of one job of the tree `output`, plain enough to be sent to another machine.

    Attributes
    ----------
    job
        Its name; "" where Slurm gives it a number.
    at_once, devices, verbose
        As in `make_runs`.
    after
        Processes of this machine that must have ended before.
    nodes, processes
        That share each run: machines of the job, and processes on each.
    """

    output: str
    errands: Sequence[Errand]
    job: str = ""
    at_once: int | None = None
    devices: Sequence[str] = ()
    verbose: bool = False
    after: Sequence[Process] = ()
    nodes: int = 1
    processes: int = 1

    def to_json(self) -> str:
        """Return a text that `of_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Batch:
        """Return the batch that `to_json` wrote."""
        fields = json.loads(text)
        fields["errands"] = [Errand(*entry) for entry in fields["errands"]]
        fields["after"] = [Process(*entry) for entry in fields["after"]]
        return cls(**fields)

    def __call__(self) -> None:
        """Make the runs, and end this process: with status 1 where some failed, 128 + signal where one stopped it."""
        with hearing_warnings() as warned:
            while any(process.alive for process in self.after):
                time.sleep(1)
            status = self._make(warned)
        sys.exit(status)

    def _make(self, warned: Warned) -> int:
        from dassl.engine.interruption import Interrupted, catching_signals, exit_status

        if self.job:
            job_id = self.job
        else:
            import submitit

            job_id = submitit.JobEnvironment().job_id
            use_own_cores()
        diary = Diary(Journal(self.output), job_id)
        try:
            with catching_signals(at_once=True):
                if warned.heard:
                    raise Interrupted("warned before the first run", signal.SIGTERM)
                jobs = list(diary.prepare(self.errands))
                if self.nodes * self.processes > 1:
                    share_runs(jobs, self.nodes, self.processes, self.verbose, diary)
                else:
                    make_runs(jobs, self.at_once, self.verbose, self.devices, diary)
        except KeyboardInterrupt as stop:
            diary.stop(requeue=warned.heard)
            return exit_status(stop)
        diary.end()
        return int(any(outcome != COMPLETE for outcome in diary.task.runs.values()))


# --- signals ---------------------------------------------------------------------------------------------


class Warned:
    """Whether the signal before the time limit has come; it then stops the runs as SIGTERM does."""

    def __init__(self) -> None:
        self.heard, self._process = False, os.getpid()

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Note the signal: the handler."""
        if os.getpid() == self._process:  # and not a forked worker process, whose parent sees to it
            self.heard = True
            signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def hearing_warnings() -> Iterator[Warned]:
    """Catch the signal before the time limit within the block; afterwards it is ignored, as all is over then."""
    warned = Warned()
    signal.signal(getattr(signal, f"SIG{WARNING}"), warned.hear)
    try:
        yield warned
    finally:
        signal.signal(getattr(signal, f"SIG{WARNING}"), signal.SIG_IGN)


def use_own_cores() -> None:
    """Compute with as many threads as the job has cores: not every cluster keeps a job to its own."""
    cores = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
    if cores.isdecimal() and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(int(cores))


# --- what is said of the runs ----------------------------------------------------------------------------


class Diary(Observer):
    """Writes down how far a job is, in its file of the journal; where the disk is full, the runs go on without.

    Parameters
    ----------
    journal
        Of the tree.
    job
        Its number or name.
    """

    def __init__(self, journal: Journal, job: str) -> None:
        earlier = journal.task(job)
        self.journal, self.task = journal, Task.begin(job)
        if earlier is not None:
            failed = {folder: outcome for folder, outcome in earlier.runs.items() if outcome != COMPLETE}
            self.task = dataclasses.replace(self.task, restarts=earlier.restarts + 1, runs=failed)
        self._lock = threading.Lock()
        self._names: dict[Path, str] = {}
        self._begun: dict[str, tuple[Job, str]] = {}  # folder: run on its way, and its state when it began
        self._finished = 0
        self._write()

    def prepare(self, errands: Sequence[Errand]) -> Iterator[Job]:
        """Yield the runs that are to be made; one whose command line cannot be read on this machine has failed."""
        from ..config import request_of

        for errand in errands:
            if errand.folder in self.task.runs:
                continue
            try:
                job = Job(errand.name, request_of(errand.argv), errand.stage)
            except (ValueError, LookupError, OSError, AssertionError) as error:
                self._note(errand.folder, f"{type(error).__name__}: {error_text(error)}")
            else:
                self._names[job.folder] = errand.folder
                yield job

    def begins(self, job: Job) -> None:
        """Note that a run begins."""
        folder = self._names[job.folder]
        with self._lock:
            self._begun[folder] = job, _state(job)
            self._write(now=folder)

    def is_over(self, job: Job, reason: str) -> None:
        """Note what came of a run."""
        self._note(self._names[job.folder], reason)

    def _note(self, folder: str, reason: str) -> None:
        with self._lock:
            self._begun.pop(folder, None)
            self._finished += 1
            outcome: Any = {"failed": reason[:LONGEST]} if reason else COMPLETE
            self._write(runs={**self.task.runs, folder: outcome}, now=next(iter(self._begun), None))

    def end(self) -> None:
        """Note that nothing else is made."""
        self._write(now=None, ended=now())

    def stop(self, requeue: bool) -> None:
        """Note that a signal ended the job before its end, and with `requeue` have Slurm start it again later.

        Where neither a run nor an epoch was finished within the time limit, starting again would never end.
        """
        if requeue and not self._finished and all(_state(job) == before for job, before in self._begun.values()):
            for folder in list(self._begun):
                self._note(folder, STUCK)
            requeue = False
        self._write(now=None)
        if requeue:
            try:
                ask("scontrol", "requeue", os.environ["SLURM_JOB_ID"])
            except SlurmError as error:
                print(f"not requeued, so the same command must submit what is missing: {error}", file=sys.stderr)

    def _write(self, **changes: Any) -> None:
        self.task = dataclasses.replace(self.task, **changes)
        try:
            self.journal.write_task(self.task)
        except (OSError, ValueError) as error:
            print(f"how far this job is cannot be written down: {error_text(error)}", file=sys.stderr)


def _state(job: Job) -> str:
    """Return the state of a run, as far as it can be told."""
    try:
        return state_of(job)
    except Exception:  # the run itself will say it
        return ""


if __name__ == "__main__":
    Batch.of_json(sys.stdin.read())()
