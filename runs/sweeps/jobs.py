"""Runs of train.py one after another or several at a time: only what is not complete, and a list of what failed.

What `sweep.py` and `experiments.py` share: a `Job` is one run, `execute` does the rest.
"""

from __future__ import annotations

import contextlib
import gc
import io
import shlex
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dassl.plain.text import error_text, printable

if TYPE_CHECKING:

    from ..config import Request

from ..plugins import trainer_class
from .planning import Job, own_options
from .workers import check_devices, workers

SKIPPED = "complete, skipped"
START_AND_TEST = 50  # what they cost, in images a class and epoch
ALL_IMAGES = 100  # of a class, where no number of shots is given


class Progress(Protocol):
    """Says a line on the way; `done` when a run is over."""

    def __call__(self, message: str, done: bool = False) -> None: ...


def run_jobs(
    jobs: Sequence[Job], run: Callable[[Request], dict[str, Any]], tell: Progress, at_once: int = 1
) -> list[tuple[Job, str]]:
    """Run every job that is not complete, `at_once` calls of `run` at a time; returns those that failed, and why.

    A complete run of another configuration in the same folder counts as failed: it is neither this run nor to be
    overwritten.
    """

    def attempt(job: Job) -> tuple[Job, str, str]:
        """(job, what to say, why it failed)"""
        try:
            if settled(job):
                return job, SKIPPED, ""
            return job, _describe(run(job.request)), ""
        except Exception as error:  # one bad run must not cost the others
            return job, "", f"{type(error).__name__}: {error_text(error)}"
        finally:
            gc.collect()

    failed = []
    clock = _Clock(jobs)
    threads = ThreadPoolExecutor(at_once)

    def outcomes() -> Iterator[tuple[Job, str, str]]:
        for stage in sorted({job.stage for job in jobs}):
            part = [job for job in jobs if job.stage == stage]
            if at_once == 1:
                yield from map(attempt, part)
            else:
                yield from (future.result() for future in as_completed([threads.submit(attempt, job) for job in part]))

    try:
        for done, (job, said, reason) in enumerate(outcomes(), start=1):
            if reason:
                failed.append((job, reason))
            left = clock.left(job, ran=said != SKIPPED)
            said = said or f"failed: {_first_line(reason)}"
            tell(f"[{done}/{len(jobs)}] {job.name}: {said}{left}", done=True)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # when interrupted, what has not begun shall not begin
    return failed


class _Clock:
    """Says how long the rest will take, judged by the runs so far and by how many images each run trains on."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.start = time.monotonic()
        self.due, self.done = sum(map(work_of, jobs)), 0

    def left(self, job: Job, ran: bool) -> str:
        """To be called when `job` is over: "", or ", about 0:05:10 left"."""
        self.due -= work_of(job)
        self.done += work_of(job) if ran else 0
        if not self.due or not self.done:
            return ""
        seconds = (time.monotonic() - self.start) / self.done * self.due
        return f", about {timedelta(seconds=round(seconds))} left"


def work_of(job: Job) -> int:
    """How long a run takes compared with others on the same data: images a class and epoch, and the start and test."""
    if job.request.args.eval_only:
        return START_AND_TEST
    shots = job.cfg.DATASET.NUM_SHOTS
    passes = job.cfg.OPTIM.MAX_EPOCH + own_options(job.cfg).get("AUGMENT_EPOCH", 0)
    return START_AND_TEST + passes * (shots if shots > 0 else ALL_IMAGES)


def _describe(result: dict[str, Any]) -> str:
    accuracy, seconds = result.get("accuracy"), (result.get("seconds") or {}).get("total")
    shown = f"{accuracy:.2f}%" if isinstance(accuracy, int | float) else "no accuracy"
    return shown + (f" in {seconds:.0f} s" if seconds else "")


def _first_line(reason: str) -> str:
    first, _, rest = reason.partition("\n")
    return f"{first} ..." if rest else first


def settled(job: Job) -> bool:
    """Whether the job's run is complete.  Raises ValueError where its folder holds a complete run that is another."""
    from ..record import is_complete

    if not is_complete(job.folder):
        return False
    check_same_run(job)
    check_same_pictures(job)
    return True


def check_same_run(job: Job) -> None:
    """Raises ValueError where the folder's complete run has other settings than `job`, among those that it heeds."""
    from ..keys import deciding, differences, flatten
    from ..record import read_result

    stored = (read_result(job.folder) or {}).get("config") or {}
    zero_shot = getattr(trainer_class(job.cfg.TRAINER.NAME), "zero_shot", False)
    was, now = (deciding(flatten(config), zero_shot) for config in (stored, job.cfg))
    if changed := differences(was, now):
        raise ValueError(
            f"{job.folder} holds a complete run with another configuration ({changed}); use another output folder"
        )


def check_same_pictures(job: Job) -> None:
    """Raises ValueError where the folder's complete run had other pictures of one's own than there are now."""
    from dassl.data import fingerprint
    from dassl.data.datasets import DATASET_REGISTRY, build_dataset
    from dassl.utils.logger import quiet

    from ..record import read_result

    if not getattr(DATASET_REGISTRY.get(job.cfg.DATASET.NAME), "own_pictures", False):
        return
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself says what there is to say
        now = fingerprint(build_dataset(job.cfg))
    was = ((read_result(job.folder) or {}).get("data") or {}).get("fingerprint")
    if was not in (None, now):
        raise ValueError(
            f"{job.folder} holds a complete run on other pictures than {job.cfg.DATASET.ROOT} holds now; use another "
            "output folder, or delete that run to make it again"
        )


class _Lines(io.TextIOBase):
    """Stands in for stderr during a run: whole lines go to `tell`, progress bars see no terminal."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.say, self.rest = tell, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in filter(str.strip, lines):
            self.say(line)
        return len(text)


@contextlib.contextmanager
def progress(total: int, verbose: bool) -> Iterator[tuple[Progress, Callable[[], Any]]]:
    """(tell, quiet): `tell` prints a line on stderr, above a bar over the sweep where stderr is a terminal; within
    `quiet()` a run prints to its log alone, and its warnings go through `tell`, which says each of them once."""
    from tqdm import tqdm

    from dassl.utils.logger import quiet

    stream, told = sys.stderr, set[str]()
    with tqdm(total=total, unit="run", file=stream, disable=True if verbose else None, dynamic_ncols=True) as bar:

        def tell(message: str, done: bool = False) -> None:
            if not done and message in told:
                return
            told.add(message)
            bar.write(printable(message), file=stream)
            stream.flush()
            bar.update(int(done))

        @contextlib.contextmanager
        def hushed() -> Iterator[None]:
            if verbose:
                yield
                return
            with quiet(), contextlib.redirect_stderr(_Lines(tell)):
                yield

        yield tell, hushed


def list_jobs(jobs: Sequence[Job], commands: bool = False) -> int:
    """What would become of each, its name and its folder; with `commands` also how train.py would be called.

    Returns how many would fail, as far as can be told without running them.
    """

    failing = 0
    for job in jobs:
        try:
            state, reason = foresee(job), ""
            coming = {other.folder for other in jobs if other.stage < job.stage}
            lacking = [path for path in starts_of(job) - coming if not path.exists()]
            if lacking and state != "complete":
                state, reason = "waits", f"  (it starts from {min(lacking)}, which is not there yet)"
        except (ValueError, LookupError, OSError, AssertionError) as error:
            state, reason = "fails", f"  ({_first_line(error_text(error))})"
            failing += 1
        print(printable(f"{state:8}  {job.name}  {job.folder}{reason}"))
        if commands:
            print(f"    python train.py {shlex.join(job.argv)}")
    return failing


def foresee(job: Job) -> str:
    """ "complete", "to run" or "goes on after epoch 7".  Raises what the run would raise of its folder."""
    from dassl.engine.state import furthest_state
    from dassl.utils.checkpoint import find_checkpoints

    from ..folder import check_folder

    if settled(job):
        return "complete"
    if not check_folder(job.cfg, job.request.mode):
        return "to run"
    epochs = [epoch for part in job.folder.iterdir() for epoch in find_checkpoints(part)]
    if kept := furthest_state([str(job.folder)], ()):
        epochs.append(kept[0]["epoch"])
    return f"goes on after epoch {max(epochs)}" if epochs else "to run"


def starts_of(job: Job) -> set[Path]:
    """Runs, or checkpoints of runs, that must be there when this one begins."""
    start = str(own_options(job.cfg).get("PRETRAIN_DIR", ""))
    name = job.cfg.TRAINER.NAME
    first = getattr(trainer_class(name), "starts_from", "")
    if first not in ("", name) and not start:  # by default beside it, under the name of the first stage
        start = str(Path(*(first if part == name else part for part in job.folder.parts)))
    tested = job.request.args.model_dir
    return {Path(given) for given in (start, tested) if given}


def make_runs(
    jobs: Sequence[Job], at_once: int | None = None, verbose: bool = False, devices: Sequence[str] = ()
) -> list[tuple[Job, str]]:
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

    with catching_signals(at_once=True), progress(len(jobs), verbose) as (tell, hushed):

        def run(request: Request) -> dict[str, Any]:
            from runs import execute

            with hushed():
                return execute.run(request)

        count = at_once or max(1, len(devices))
        if count == 1 and not devices:
            return run_jobs(jobs, run, tell)
        with workers(count, tell, devices) as run_elsewhere:
            return run_jobs(jobs, run_elsewhere, tell, count)


def execute(
    plan: Callable[[], Sequence[Job]],
    at_once: int | None = None,
    verbose: bool = False,
    dry_run: bool = False,
    devices: Sequence[str] = (),
) -> int:
    """Plan and make runs as a program does, saying on stderr what failed.

    Returns
    -------
    int
        The exit status: 0 all complete, 1 some failed, 2 nothing could be planned, 128 + the number of the signal that
        stopped it.
    """
    from dassl.engine.interruption import exit_status
    from dassl.plain.writing import disk_failed

    try:
        jobs = plan()
        check_devices(devices)
    except (ValueError, LookupError, OSError, AssertionError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 1 if disk_failed(error) else 2
    if dry_run:
        return int(list_jobs(jobs, commands=verbose) > 0)
    try:
        failed = make_runs(jobs, at_once, verbose, devices)
    except KeyboardInterrupt as stop:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return exit_status(stop)
    if failed:
        print(f"{len(failed)} of {len(jobs)} runs failed:", file=sys.stderr)
    for job, reason in failed:
        print(textwrap.indent(f"{printable(job.name)}: {reason}", "  "), file=sys.stderr)
        if (job.folder / "log.txt").exists():
            print(f"    log: {printable(job.folder / 'log.txt')}", file=sys.stderr)
    return int(bool(failed))
