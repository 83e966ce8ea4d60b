"""How the runs of a sweep stand on a cluster: complete, in the hands of a live job, to be submitted, or impossible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dassl.plain.text import error_text

from ..cluster.journal import FOLDER, Journal, Submission
from ..cluster.scheduler import UNKNOWN, JobState, SlurmError, states
from .planning import Job
from .states import is_complete, starts_of, state_of


@dataclass
class Standing:
    """The runs of a sweep before anything is submitted."""

    complete: list[Job] = field(default_factory=list)
    under_way: list[tuple[Job, Submission]] = field(default_factory=list)  # with the job that has it
    refused: list[tuple[Job, str]] = field(default_factory=list)  # with the reason
    to_make: list[Job] = field(default_factory=list)
    waits_for: dict[Path, list[Submission]] = field(default_factory=dict)  # folder of a run to make: live jobs


def survey(jobs: Sequence[Job], cluster: str) -> Standing:
    """Find out how runs stand, from their records, the journals of their trees, and the scheduler.

    Parameters
    ----------
    jobs
        The runs.
    cluster
        Where they are to be made, and where what they start from must be made if it is under way.

    Raises
    ------
    SlurmError
        Where a run that is not complete was given to a job that nobody can ask about.
    """
    standing, hands = Standing(), Hands()
    planned = {job.folder.absolute() for job in jobs}
    for job in jobs:
        try:
            if is_complete(job):
                standing.complete.append(job)
                continue
            if (submission := hands.live(job.folder)) is not None:
                standing.under_way.append((job, submission))
                continue
            state_of(job)
            waits = [maker for start in starts_of(job) if (maker := hands.live(start)) is not None]
            _check_starts(job, waits, planned, cluster)
        except SlurmError:
            raise
        except (ValueError, LookupError, OSError, AssertionError) as error:
            standing.refused.append((job, error_text(error)))
        else:
            standing.to_make.append(job)
            standing.waits_for[job.folder] = waits
    return standing


def _check_starts(job: Job, waits: Sequence[Submission], planned: set[Path], cluster: str) -> None:
    """Raise ValueError where what a run starts from is not there and will not be, or is made elsewhere."""
    for start in starts_of(job):
        place = start.absolute()
        if not waits and not place.exists() and not planned & {place, *place.parents}:
            raise ValueError(f"it starts from {start}, which is not there and which no job makes")
    for maker in waits:
        if maker.cluster != cluster:
            raise ValueError(f"it starts from a run of job {maker.job}; use --cluster {maker.cluster}, or wait for it")


def submission_of(path: Path) -> Submission | None:
    """Return the latest job that was to make a run, or the run that a file is in; None where there was none."""
    return Hands().submission(path)


class Hands:
    """In whose hands runs are; journals are read, and the scheduler is asked, once for each tree."""

    def __init__(self) -> None:
        self._trees: dict[Path, dict[str, Submission]] = {}
        self._states: defaultdict[Path, dict[str, JobState]] = defaultdict(dict)

    def submission(self, path: Path) -> Submission | None:
        """Return the latest job that was to make a run, or the run that a file is in; None where there was none."""
        return self._find(path)[1]

    def live(self, path: Path) -> Submission | None:
        """Return the job that makes a run, or will make it; None where there is none, or the run is over in it."""
        tree, submission, folder = self._find(path)
        if submission is None:
            return None
        task = Journal(tree).task(submission.job)
        if task is not None and folder in task.runs:  # a job that has ended may be requeued: the scheduler decides
            return None
        if submission.job not in self._states[tree]:
            self._states[tree] |= states(set(self._trees[tree].values()))
        state = self._states[tree][submission.job]
        if state.state == UNKNOWN:
            raise SlurmError(f"nobody can say what became of job {submission.job}, which had {path}: {state.reason}")
        return submission if state.live else None

    def failure(self, path: Path) -> str:
        """Return why a run failed in its latest job; "" where that says nothing of the kind."""
        tree, submission, folder = self._find(path)
        task = Journal(tree).task(submission.job) if submission is not None else None
        return task.failure(folder) if task is not None else ""

    def _find(self, path: Path) -> tuple[Path, Submission | None, str]:
        """Return the tree of a run, the job and the folder as the tree's journal has them."""
        path = path.absolute()
        for tree in path.parents:
            if not (tree / FOLDER).is_dir():
                continue
            if tree not in self._trees:
                jobs = Journal(tree).submissions()
                self._trees[tree] = {run.folder: job for job in jobs for run in job.runs}
            for place in (path, *path.parents):
                if place == tree:
                    break
                folder = place.relative_to(tree).as_posix()
                if folder in self._trees[tree]:
                    return tree, self._trees[tree][folder], folder
        return path, None, ""
