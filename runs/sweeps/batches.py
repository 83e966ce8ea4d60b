"""Which runs share a job: those on the same data and model, until they take as long as a job should.

A job loads data and model once, and short runs are over before the next job would have started.  Long ones have a job
each, so that as many go at a time as the cluster lets.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from .planning import Job
from .progress import START_AND_TEST, work_of

SHORT = 10 * START_AND_TEST  # work that is little beside the start of a job, by itself
PLENTY = 1800  # seconds that a job should have to do, where no time limit says more
FILL = 0.5  # of a time limit, as estimates are rough


def batches(
    jobs: Sequence[Job], runs_per_job: int | None = None, minutes: int | None = None, pace: float | None = None
) -> list[list[Job]]:
    """Divide the runs of a stage into those of each job.

    Parameters
    ----------
    jobs
        The runs, of one stage.
    runs_per_job
        At most so many in a job; None: by the work that they are.
    minutes
        The time limit of a job.
    pace
        What `work_of` is in seconds, where complete runs tell (`pace_of`).  Without, short runs share a job until it
        is as long as the longest one.

    Returns
    -------
    list of list
        In the order of the sweep; runs on other data or another model are in other jobs.
    """
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(shared_by(job), []).append(job)
    if runs_per_job:
        return [group[i : i + runs_per_job] for group in groups.values() for i in range(0, len(group), runs_per_job)]
    seconds = 60 * minutes * FILL if minutes else PLENTY
    most = int(seconds / pace) if pace else max(SHORT, *map(work_of, jobs))
    return [batch for group in groups.values() for batch in _cut(group, most)]


def shared_by(job: Job) -> tuple[object, ...]:
    """Return what a process loads once for runs like this one: their data and model."""
    cfg = job.cfg
    return cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.MODEL.BACKBONE.NAME, cfg.MODEL.INIT_WEIGHTS


def _cut(group: Sequence[Job], most: int) -> list[list[Job]]:
    """Cut a sequence into parts of at most so much work, but of one run at least."""
    parts: list[list[Job]] = []
    room = 0
    for job in group:
        work = work_of(job)
        if work > room:
            parts.append([])
            room = most
        parts[-1].append(job)
        room -= work
    return parts


def pace_of(jobs: Sequence[Job]) -> float | None:
    """Return the seconds that a unit of work took in these complete runs, the median; None where none tells."""
    from ..record import read_result

    paces = []
    for job in jobs:
        seconds = ((read_result(job.folder) or {}).get("seconds") or {}).get("total")
        if isinstance(seconds, int | float) and seconds > 0:
            paces.append(seconds / work_of(job))
    return median(paces) if paces else None
