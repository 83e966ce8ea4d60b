"""How the runs of a sweep stand on a cluster: complete, in the hands of a live job, to be submitted, or impossible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dassl.plain.text import error_text

from ..cluster import scheduler
from ..cluster.journal import FOLDER, Journal, Submission
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


def survey(jobs: Sequence[Job]) -> Standing:
    """Find out how runs stand, from their records, the journals of their trees, and the scheduler.

    Raises
    ------
    SlurmError
        Where a run is, or was, in the hands of a job that nobody can ask about.
    """
    standing, hands, planned = Standing(), Hands(), {job.folder.absolute() for job in jobs}
    for job in jobs:
        try:
            if is_complete(job):
                standing.complete.append(job)
                continue
            state_of(job)
        except (ValueError, LookupError, OSError, AssertionError) as error:
            standing.refused.append((job, error_text(error)))
            continue
        if (submission := hands.live(job.folder)) is not None:
            standing.under_way.append((job, submission))
            continue
        waits = []
        for start in starts_of(job):
            if (maker := hands.live(start)) is not None:
                waits.append(maker)
            elif not start.exists() and not planned & {start.absolute(), *start.absolute().parents}:
                standing.refused.append((job, f"it starts from {start}, which is not there and which no job makes"))
                break
        else:
            standing.to_make.append(job)
            standing.waits_for[job.folder] = waits
    return standing


def known_to_a_journal(path: Path) -> bool:
    """Tell whether a run, or a file in its folder, was submitted to a cluster, whatever came of it."""
    return Hands().submission(path) is not None


class Hands:
    """In whose hands runs are; journals are read, and the scheduler is asked, once for each tree."""

    def __init__(self) -> None:
        self._tree = cache(self._read)

    def submission(self, path: Path) -> Submission | None:
        """Return the latest job that was to make a run, or the run that a file is in; None where there was none."""
        return self._find(path)[1]

    def live(self, path: Path) -> Submission | None:
        """Return the job that makes a run, or will make it; None where there is none, or the run has failed in it."""
        output, submission, folder = self._find(path)
        if submission is None:
            return None
        journal = Journal(output)
        task = journal.task(submission.job)
        if task is not None and (task.ended or folder in task.runs):
            return None
        return submission if self._tree(output)[1][submission.job] else None

    def _find(self, path: Path) -> tuple[Path, Submission | None, str]:
        path = path.absolute()
        for output in path.parents:
            if (output / FOLDER).is_dir():
                runs = self._tree(output)[0]
                for inner in (path, *path.parents):
                    if inner == output:
                        break
                    folder = inner.relative_to(output).as_posix()
                    if folder in runs:
                        return output, runs[folder], folder
        return path, None, ""
