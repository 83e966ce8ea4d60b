"""What a tree of runs knows of its submissions: OUTPUT/.cluster, a hidden folder that readers of results pass over.

    .cluster/submissions.jsonl   a line for every job, or element of a job array, that was submitted; one for its end
    .cluster/tasks/<job>.json    what the job says of itself while it makes its runs

A file has one kind of writer.  Commands on the submit host append to the first, one at a time (`Journal.hold`); a job
writes its own second file, whole each time (`Journal.write_task`).  Nodes never append to what others write: on a
network file system lines would be lost.

Both are files that anybody may have written or torn, so they are read like records: of limited size, checked for their
shape, and what is not as it should be is named in a warning and passed over.  No name in them leads out of OUTPUT.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from dassl.plain.reading import COUNT, TEXT, Each, Maybe, parse_json, wrong
from dassl.plain.text import printable
from dassl.plain.writing import atomic_write

from ..lock import FolderInUse, hold_folder
from .processes import Process

FOLDER = ".cluster"
SUBMISSIONS, TASKS = "submissions.jsonl", "tasks"
LOCAL, SLURM = "local", "slurm"
MOST_BYTES = {SUBMISSIONS: 200_000_000, TASKS: 20_000_000}  # a line has some hundred bytes for every run
JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # also a file name
COMPLETE = "complete"


class PlannedRun(NamedTuple):
    """One run that a job is to make: what the sweep calls it, and its folder, relative to OUTPUT, with slashes."""

    name: str
    folder: str


@dataclass(frozen=True)
class Submission:
    """One job: something that Slurm has a number for, or a process of this machine."""

    job: str  # "123", or "123_4" for an element of an array
    cluster: str  # SLURM or LOCAL
    runs: tuple[PlannedRun, ...]
    name: str = ""  # what Slurm calls it; by the same number under another name it is somebody else's
    site: str = ""  # the name of the cluster that gave the number: one disk may serve several
    after: tuple[str, ...] = ()  # jobs, or whole arrays, that it waits for
    log: str = ""  # where what it prints goes, relative to OUTPUT
    host: str = ""  # where it was submitted
    pid: int = 0  # of a local job: the process that makes its runs, or that will start it
    born: str = ""  # when that process began (`Process`)
    submitted: str = ""  # ISO time
    cancelled: str = ""  # ISO time; "" unless `Journal.cancel` was called

    @property
    def process(self) -> Process:
        """The process that makes or starts a local job."""
        return Process(self.host, self.pid, self.born)


@dataclass(frozen=True)
class Task:
    """What a job says of itself: since when and where it makes which runs, and what came of them."""

    job: str
    host: str
    pid: int
    born: str
    started: str  # ISO time
    restarts: int = 0  # how often Slurm has requeued it
    now: str | None = None  # folder, relative to OUTPUT, of the run that it makes
    runs: Mapping[str, Any] = field(default_factory=dict)  # folder: COMPLETE, or {"failed": reason}
    ended: str | None = None  # ISO time, once nothing is left to make; a job that was killed never says so

    @classmethod
    def begin(cls, job: str, restarts: int = 0) -> Task:
        """Return the task that this process begins now."""
        return cls(job, *Process.this(), started=now(), restarts=restarts)

    @property
    def process(self) -> Process:
        """The process that makes its runs."""
        return Process(self.host, self.pid, self.born)

    def failure(self, folder: str) -> str:
        """Return why a run failed; "" where it did not."""
        outcome = self.runs.get(folder)
        return outcome["failed"] if isinstance(outcome, Mapping) else ""


def now() -> str:
    """Return the time, with its zone, as the journal has it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


# --- shapes ----------------------------------------------------------------------------------------------


def _job(value: Any) -> bool:
    return TEXT(value) and JOB.fullmatch(value) is not None


def _inner(value: Any) -> bool:
    """Accept a path that stays within OUTPUT, as far as its words tell, and that a file system can have."""
    try:
        parts = os.fsencode(value).split(b"/")
    except (TypeError, UnicodeError):
        return False
    short = sum(map(len, parts)) < 4000 and max(map(len, parts)) < 256
    return short and bool(parts[0]) and b".." not in parts and b"\0" not in b"".join(parts)


def _cluster(value: Any) -> bool:
    return value in (SLURM, LOCAL)


def _outcome(value: Any) -> bool:
    return value == COMPLETE or (isinstance(value, dict) and TEXT(value.get("failed")))


SUBMITTED = {
    "job": _job,
    "cluster": _cluster,
    "runs": [{"name": TEXT, "folder": _inner}],
    "name": Maybe(TEXT),
    "site": Maybe(TEXT),
    "after": Maybe([_job]),
    "log": Maybe(_inner),
    "host": Maybe(TEXT),
    "pid": Maybe(COUNT),
    "born": Maybe(TEXT),
    "submitted": Maybe(TEXT),
}
CANCELLED = {"job": _job, "cluster": _cluster, "cancelled": TEXT}
TASK = {
    "job": _job,
    "host": TEXT,
    "pid": COUNT,
    "born": Maybe(TEXT),
    "started": TEXT,
    "restarts": Maybe(COUNT),
    "now": Maybe(_inner),
    "runs": Maybe(Each(_outcome)),
    "ended": Maybe(TEXT),
}


# --- the journal -----------------------------------------------------------------------------------------


class Journal:
    """The submissions of one tree.

    Parameters
    ----------
    output : path
        The tree.  Nothing is made before something is written.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self.output = Path(output)
        self.folder = self.output / FOLDER
        self._holding = False

    @property
    def exists(self) -> bool:
        """Whether anything was ever submitted."""
        return (self.folder / SUBMISSIONS).exists()

    @contextlib.contextmanager
    def hold(self, patience: float = 60.0) -> Iterator[None]:
        """Keep other commands from submitting or cancelling runs of this tree meanwhile; also several times over.

        Parameters
        ----------
        patience : float
            Seconds to wait for another command.

        Raises
        ------
        RunFolderError
            Where another command is still at it then, or the folder cannot be made or written to.
        """
        if self._holding:
            yield
            return
        with contextlib.ExitStack() as stack:
            deadline = time.monotonic() + patience
            while not self._holding:
                try:
                    stack.enter_context(hold_folder(self.folder))
                    self._holding = True
                except FolderInUse as error:
                    if time.monotonic() > deadline:
                        text = f"another command is submitting or cancelling runs of {self.output} ({error.holder})"
                        raise FolderInUse(f"{text}; wait for it, then give this one again", error.holder) from None
                    time.sleep(0.1)
            try:
                yield
            finally:
                self._holding = False

    def append(self, submissions: Iterable[Submission]) -> None:
        """Add what was submitted; it is on the disk when this returns.

        Raises
        ------
        ValueError
            For a job, folder or log that could not be read again.
        OSError
            On a full disk.
        """
        entries = []
        for submission in submissions:
            entry = {name: getattr(submission, name) for name in SUBMITTED}
            entry |= {"runs": [run._asdict() for run in submission.runs], "after": list(submission.after)}
            entry["log"] = submission.log or None
            entry["submitted"] = entry["submitted"] or now()
            if bad := wrong(entry, SUBMITTED):
                raise ValueError(f"a submission has no valid {bad}")
            entries.append(entry)
        self._write(entries)

    def cancel(self, submissions: Iterable[Submission]) -> None:
        """Note that these jobs were ended by the user; errors as in `append`."""
        at = now()
        self._write([{"job": job.job, "cluster": job.cluster, "cancelled": at} for job in submissions])

    def _write(self, entries: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
        if not text:
            return
        with self.hold(), open(self.folder / SUBMISSIONS, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # an earlier command was ended in the middle of a line
                    text = b"\n" + text
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def submissions(self) -> list[Submission]:
        """Return every job that was submitted, the earliest first; of a job that is there twice, what was said last.

        Lines that are torn or not as they should be are named in one warning.
        """
        jobs: dict[tuple[str, str], Submission] = {}
        bad: list[int] = []
        for number, line in enumerate(self._read(self.folder / SUBMISSIONS, MOST_BYTES[SUBMISSIONS]).split("\n"), 1):
            if not line:
                continue
            try:
                entry = parse_json(line)
            except ValueError:
                entry = None
            if entry is not None and not wrong(entry, CANCELLED):
                key = entry["cluster"], entry["job"]
                if key in jobs:
                    jobs[key] = Submission(**{**jobs[key].__dict__, "cancelled": entry["cancelled"]})
            elif entry is not None and not wrong(entry, SUBMITTED):
                jobs.pop((entry["cluster"], entry["job"]), None)
                jobs[entry["cluster"], entry["job"]] = _submission(entry)
            else:
                bad.append(number)
        if bad:
            shown = ", ".join(map(str, bad[:5])) + ", ..." * (len(bad) > 5)
            text = f"{self.folder / SUBMISSIONS}: lines that are torn or not of this program are passed over: {shown}"
            warnings.warn(printable(text), stacklevel=2)
        return list(jobs.values())

    def task(self, job: str) -> Task | None:
        """Return what a job says of itself; None where it has not begun, or where its file is not as it should be."""
        path = self._task_path(job)
        text = self._read(path, MOST_BYTES[TASKS])
        if not text:
            return None
        try:
            entry = parse_json(text)
        except ValueError as error:
            _warn(path, str(error))
            return None
        if (bad := wrong(entry, TASK)) or entry["job"] != job:
            _warn(path, f"it has no valid {bad}" if bad else "it is of another job")
            return None
        values = {name: entry[name] for name in TASK if entry.get(name) is not None}
        return Task(**{"born": "", **values})

    def write_task(self, task: Task) -> None:
        """Write what a job says of itself, whole or not at all.

        Raises
        ------
        OSError
            On a full disk, or where the folder cannot be written to; runs need not fail for that.
        """
        with atomic_write(self._task_path(task.job)) as file:
            json.dump({**task.__dict__, "runs": dict(task.runs)}, file)

    def _task_path(self, job: str) -> Path:
        if not _job(job):
            raise ValueError(f"no name of a job: {job!r}")
        return self.folder / TASKS / f"{job}.json"

    def log(self, submission: Submission) -> Path | None:
        """Return the file with what a job has printed; None where there is none within OUTPUT."""
        path = self.output / submission.log
        return path if submission.log and self.within(path) else None

    def within(self, path: Path) -> bool:
        """Tell whether a path is that of a file (no pipe, which would block) that no link leads to out of OUTPUT."""
        try:
            return path.is_file() and path.resolve().is_relative_to(self.output.resolve())
        except (OSError, RuntimeError, ValueError):  # links in a circle; a name that is too long
            return False

    def _read(self, path: Path, most: int) -> str:
        """Return the text of a file of the journal; "", with a warning unless it is missing, where it is refused."""
        if not os.path.lexists(path):
            return ""
        if not self.within(path):
            _warn(path, f"it is no file within {self.output}")
            return ""
        try:
            with open(path, "rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            _warn(path, error.strerror or str(error))
            return ""
        if len(data) > most:
            _warn(path, f"it is larger than {most:,} bytes")
            return ""
        return data.decode("utf-8", "replace")


def _submission(entry: dict[str, Any]) -> Submission:
    values = {name: entry[name] for name in SUBMITTED if entry.get(name) is not None}
    runs = tuple(PlannedRun(run["name"], run["folder"]) for run in entry["runs"])
    return Submission(**{**values, "runs": runs, "after": tuple(entry.get("after") or ())})


def _warn(path: Path, problem: str) -> None:
    warnings.warn(f"{printable(path)} is passed over: {printable(problem)}", stacklevel=3)
