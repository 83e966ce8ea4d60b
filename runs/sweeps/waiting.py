"""Stay until the runs that jobs of a cluster have are over, and show each as a sweep on this machine would."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..cluster.scheduler import SlurmError
from ..record import read_result
from .jobs import SKIPPED, Failures, outcome_of
from .planning import Job
from .progress import progress
from .standing import Hands, Standing
from .states import first_line, is_complete

SHORTEST, LONGEST = 0.5, 15.0  # seconds between two looks: the longer it lasts, the less often


def wait(jobs: Sequence[Job], standing: Standing) -> Failures:
    """Return when no live job has any of the runs any more.

    Parameters
    ----------
    jobs
        All runs of the sweep.
    standing
        As they stood before they were submitted: what was complete then is skipped, what was refused has failed.

    Returns
    -------
    list
        The jobs that failed or are missing, each with the reason.
    """
    failed: Failures = list(standing.refused)
    skipped = {job.folder for job in standing.complete}
    refused = {job.folder for job, _ in standing.refused}
    left = [job for job in jobs if job.folder not in skipped | refused]
    began, done = time.monotonic(), 0
    with progress(len(jobs), verbose=False) as (report, _):

        def tell(job: Job, outcome: str) -> None:
            nonlocal done
            done += 1
            report(f"[{done}/{len(jobs)}] {job.name}: {outcome}", done=True)

        for job in standing.complete:
            tell(job, SKIPPED)
        for job, reason in standing.refused:
            tell(job, f"failed: {first_line(reason)}")
        while left:
            hands = Hands()
            for job in list(left):
                try:
                    if hands.live(job.folder) is not None:
                        continue
                except SlurmError as error:
                    report(f"waiting on: {error}")
                    break
                left.remove(job)
                if reason := _reason(job, hands):
                    failed.append((job, reason))
                    tell(job, f"failed: {first_line(reason)}")
                else:
                    tell(job, outcome_of(read_result(job.folder) or {}))
            if left:
                time.sleep(min(LONGEST, max(SHORTEST, (time.monotonic() - began) / 20)))
    return failed


def _reason(job: Job, hands: Hands) -> str:
    """Return why a run that no live job has is not complete; "" where it is."""
    try:
        if is_complete(job):
            return ""
    except ValueError as error:
        return str(error)
    return hands.failure(job.folder) or "its job is gone and has left no result; the same command makes it again"
