"""What a sweep shows on the console while its runs are on their way.

A run prints much: its config, every batch.  All of that goes to the run's own log.  The console has a line for each run
that is over, with an estimate of the time left, and every warning once, above a bar where stderr is a terminal.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol

from dassl.plain.text import printable

from .planning import Job, own_options

START_AND_TEST = 50  # what starting and testing cost, in images a class and epoch
ALL_IMAGES = 100  # of a class, where no number of shots is given


class Report(Protocol):
    """Says a line on the console; `done` when a run is over."""

    def __call__(self, message: str, done: bool = False) -> None: ...  # noqa: D102


@contextlib.contextmanager
def progress(total: int, verbose: bool) -> Iterator[tuple[Report, Callable[[], Any]]]:
    """Open the progress bar of a sweep.

    Parameters
    ----------
    total
        How many runs there are.
    verbose
        Show what the runs print, and no bar.

    Yields
    ------
    report
        Prints a line on stderr, above the bar; a repeated line only once, unless it says that a run is over.
    quietly
        A context in which a run prints to its log alone, while its warnings go through `report`.
    """
    from tqdm import tqdm

    from dassl.utils.logger import quiet

    stream, reported = sys.stderr, set[str]()
    with tqdm(total=total, unit="run", file=stream, disable=True if verbose else None, dynamic_ncols=True) as bar:

        def report(message: str, done: bool = False) -> None:
            if done or message not in reported:
                reported.add(message)
                bar.write(printable(message), file=stream)
                stream.flush()
                bar.update(int(done))

        @contextlib.contextmanager
        def quietly() -> Iterator[None]:
            with quiet(), contextlib.redirect_stderr(_Lines(report)):
                yield

        yield report, contextlib.nullcontext if verbose else quietly


class _Lines(io.TextIOBase):
    """Stands in for stderr during a run: whole lines go to `report`, and progress bars see no terminal."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report, self.rest = report, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in filter(str.strip, lines):
            self.report(line)
        return len(text)


class Clock:
    """Estimates how long the rest of a sweep will take, by the runs so far and by the work that each run is.

    Parameters
    ----------
    jobs
        All jobs of the sweep, also those that will turn out to be complete.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.start = time.monotonic()
        self.to_do, self.done = sum(map(work_of, jobs)), 0

    def left(self, job: Job, ran: bool) -> str:
        """Return "", or ", about 0:05:10 left", when `job` is over; `ran` is false for one that was skipped."""
        self.to_do -= work_of(job)
        self.done += work_of(job) if ran else 0
        if not self.to_do or not self.done:
            return ""
        seconds = (time.monotonic() - self.start) / self.done * self.to_do
        return f", about {timedelta(seconds=round(seconds))} left"


def work_of(job: Job) -> int:
    """Return how long a run takes, compared with others on the same data: in images a class and epoch."""
    if job.request.args.eval_only:
        return START_AND_TEST
    shots = job.cfg.DATASET.NUM_SHOTS
    passes = job.cfg.OPTIM.MAX_EPOCH + own_options(job.cfg).get("AUGMENT_EPOCH", 0)
    return START_AND_TEST + passes * (shots if shots > 0 else ALL_IMAGES)
