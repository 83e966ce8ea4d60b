"""Runs of train.py one after another or several at a time: only what is not complete, and a list of what failed.

What `sweep.py` and `experiments.py` share: a `Job` is one run, `execute` does the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import multiprocessing
import os
import queue
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = "complete, skipped"
START_AND_TEST = 50  # what they cost, in images a class and epoch
ALL_IMAGES = 100  # of a class, where no number of shots is given
UNTRAINED = ("ZeroshotCLIP", "ZeroshotCLIP2")  # evaluated once, with CoOp's config as in the original
SECOND_STAGE = ("PLOTAdapter",)  # starts from what another trainer learned
OWN_PICTURES = "Folder"  # the data set whose images may be others at the next call
TOP_KEYS = ("USE_CUDA", "VERBOSE", "SEED", "RESUME", "OUTPUT_DIR")  # config keys without a dot


class Job(NamedTuple):
    """One run of the sweep."""

    name: str  # "PLOT demo 4 shots seed 1"
    folder: Path
    argv: list[str]  # for train.run
    cfg: Any  # the config that this gives
    stage: int = 0  # what has a higher one begins when all of the lower ones are over


class Progress(Protocol):
    """Says a line on the way; `done` when a run is over."""

    def __call__(self, message: str, done: bool = False) -> None: ...


# --- command lines ---------------------------------------------------------------------------------------


def split_options(argv: Sequence[str], one_value: Collection[str]) -> tuple[list[str], list[str]]:
    """(flags and arguments, KEY VALUE pairs behind them).

    The pairs start at the first word that looks like a config key, unless it is the value of a flag in `one_value`:
    argparse would take them for more of whatever list comes last.
    """
    start = next((i for i, word in enumerate(argv) if is_key(word) and argv[i - 1] not in one_value), len(argv))
    return list(argv[:start]), list(argv[start:])


def check_options(options: Sequence[str], own_keys: Mapping[str, str], owner: str) -> None:
    """Raises ValueError for half a pair, and for keys in `own_keys` (key: what sets it), which `owner` sets."""
    if len(options) % 2:
        raise ValueError(f"KEY VALUE pairs expected, got {' '.join(options)}")
    for key in options[::2]:
        if key in own_keys:
            raise ValueError(f"{key} is set by the {owner}; use {own_keys[key]}")


def is_key(word: str) -> bool:
    return re.fullmatch(r"[A-Z][A-Z0-9_]*(\.\w+)+", word) is not None or word in TOP_KEYS


def positive(text: str) -> int:
    """A type for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 1 or more")
    return int(text)


def not_negative(text: str) -> int:
    """A type for argparse.  Below 0 train.py draws without a seed, and a folder named seed-1 would be no seed's."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 0 or more")
    return int(text)


def piped(main: Callable[[], int]) -> int:
    """`main()`; 1 where the reader of our output has gone, as in `| head`."""
    try:
        status = main()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def add_worker_flags(parser: argparse.ArgumentParser) -> None:
    """--jobs and --devices."""
    parser.add_argument(
        "--jobs", type=positive, metavar="N",
        help="runs at a time, each in a process with its share of the cores; default: 1, or one a device",
    )
    parser.add_argument(
        "--devices", type=lambda text: [name.strip() for name in text.split(",")], default=[], metavar="D,D",
        help="GPUs for these processes in turns, like 0,1 (or cuda:0,cuda:1); default: the first one for all",
    )


def _trainers() -> list[str]:
    return [*UNTRAINED, *sorted(folder.name for folder in (ROOT / "configs" / "trainers").iterdir())]


def config_file(name: str) -> Path:
    """configs/<name>.yaml, relative to the working folder where that is the checkout.  Raises ValueError."""
    from dassl.utils.tools import did_you_mean

    path = ROOT / "configs" / f"{name}.yaml"
    if not path.parent.is_dir():
        trainer = path.parent.name
        raise ValueError(f"no trainer {trainer!r} in configs/trainers" + did_you_mean(trainer, _trainers()))
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"no config {path}; known: {known}")
    return Path(os.path.relpath(path)) if Path.cwd() == ROOT else path


def check_devices(devices: Sequence[str]) -> None:
    """Raises ValueError for a GPU that there is not: the processes that it is for would work on the CPU instead."""
    import torch

    there = torch.cuda.device_count()
    for name in devices:
        number = name.removeprefix("cuda:")  # or the name of a GPU, or of a part of one, for CUDA_VISIBLE_DEVICES
        renumbered = "CUDA_VISIBLE_DEVICES" in os.environ and there
        if not there or (number.isdecimal() and int(number) >= there and not renumbered):
            known = ", ".join(map(str, range(there))) or "none; leave --devices out to work on the CPU"
            raise ValueError(f"--devices {','.join(devices)}: there is no GPU {name!r}; GPUs here: {known}")


# --- running them ----------------------------------------------------------------------------------------


def run_jobs(
    jobs: Sequence[Job], run: Callable[[list[str]], dict[str, Any]], tell: Progress, at_once: int = 1
) -> list[tuple[Job, str]]:
    """Run every job that is not complete, `at_once` calls of `run` at a time; returns those that failed, and why.

    A complete run of another configuration in the same folder counts as failed: it is neither this run nor to be
    overwritten.
    """
    from dassl.engine.record import is_complete
    from dassl.utils.tools import error_text

    def attempt(job: Job) -> tuple[Job, str, str]:
        """(job, what to say, why it failed)"""
        try:
            if is_complete(job.folder):
                check_same_run(job)
                check_same_pictures(job)
                return job, SKIPPED, ""
            return job, _describe(run(job.argv)), ""
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
            tell(f"[{done}/{len(jobs)}] {job.name}: {said or f'failed: {reason}'}{left}", done=True)
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
    if "--eval-only" in job.argv:
        return START_AND_TEST
    shots = job.cfg.DATASET.NUM_SHOTS
    passes = job.cfg.OPTIM.MAX_EPOCH + own_options(job.cfg).get("AUGMENT_EPOCH", 0)
    return START_AND_TEST + passes * (shots if shots > 0 else ALL_IMAGES)


def own_options(cfg: Any) -> Mapping[str, Any]:
    """The trainer's own node of a config."""
    return cfg.TRAINER.get(cfg.TRAINER.NAME) or cfg.TRAINER.get(cfg.TRAINER.NAME.upper()) or {}


def _describe(result: dict[str, Any]) -> str:
    accuracy, seconds = result.get("accuracy"), (result.get("seconds") or {}).get("total")
    shown = f"{accuracy:.2f}%" if isinstance(accuracy, int | float) else "no accuracy"
    return shown + (f" in {seconds:.0f} s" if seconds else "")


def check_same_run(job: Job) -> None:
    """Raises ValueError where the folder's complete run has other settings than `job`, among those that it heeds."""
    from dassl.engine.record import NO_EFFECT, read_result
    from results.records import flatten

    trainer = job.cfg.TRAINER.NAME
    own = (f"TRAINER.{trainer}.", f"TRAINER.{trainer.upper()}.")
    heeded = ("MODEL.", "INPUT.", "DATASET.", "TEST.") if trainer in UNTRAINED else ()

    def matters(key: str) -> bool:
        if key in NO_EFFECT or (key.startswith("TRAINER.") and not key.startswith(own)):
            return False
        return not heeded or key.startswith(heeded)

    was, now = flatten((read_result(job.folder) or {}).get("config") or {}), flatten(job.cfg)
    changed = [
        f"{key} was {was[key]!r}, is {now[key]!r}"
        for key in was.keys() & now.keys()
        if matters(key) and was[key] != now[key]
    ]
    if changed:
        raise ValueError(
            f"{job.folder} holds a complete run of other settings ({'; '.join(sorted(changed))}); "
            "use another output folder"
        )


def check_same_pictures(job: Job) -> None:
    """Raises ValueError where the folder's complete run had other pictures of one's own than there are now."""
    if job.cfg.DATASET.NAME != OWN_PICTURES:
        return
    import datasets  # noqa: F401  (registers it)
    from dassl.data import fingerprint
    from dassl.data.datasets import build_dataset
    from dassl.engine.record import read_result

    with contextlib.redirect_stdout(io.StringIO()):
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
    `quiet()` a run prints to its log alone, and its warnings go through `tell`."""
    from tqdm import tqdm

    stream = sys.stderr
    with tqdm(total=total, unit="run", file=stream, disable=True if verbose else None, dynamic_ncols=True) as bar:

        def tell(message: str, done: bool = False) -> None:
            bar.write(message, file=stream)
            stream.flush()
            bar.update(int(done))

        @contextlib.contextmanager
        def quiet() -> Iterator[None]:
            if verbose:
                yield
                return
            with (
                open(os.devnull, "w", encoding="utf-8") as nowhere,
                contextlib.redirect_stdout(nowhere),
                contextlib.redirect_stderr(_Lines(tell)),
            ):
                yield

        yield tell, quiet


def _in_worker(argv: list[str]) -> tuple[dict[str, Any], str]:
    """One run in a process of its own: its record, and what it warned of."""
    import train

    warned = io.StringIO()
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(warned),
    ):
        return train.run(argv), warned.getvalue()


def _start_worker(threads: int, device: str | None) -> None:
    """Choose the device, which must happen before anything looks for one, and end when the process that started this
    one does: nobody else would ever tell a worker to."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # in a worker
    parent.join()
    os._exit(1)


class Workers:
    """`count` processes with equal shares of the cores, and `devices` dealt out in turns.

    Each is a pool of its own: a process that dies, for want of memory perhaps, costs its call and no other.
    """

    def __init__(self, count: int, devices: Sequence[str] = ()) -> None:
        self.share = max(1, (os.cpu_count() or 1) // count)
        self.devices = [devices[number % len(devices)].removeprefix("cuda:") if devices else None
                        for number in range(count)]
        self.pools = [self._start(device) for device in self.devices]
        self.idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            self.idle.put(number)

    def _start(self, device: str | None) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=spawn, initializer=_start_worker, initargs=(self.share, device))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns in the next process that is free; for several threads."""
        number = self.idle.get()
        try:
            return self.pools[number].submit(function, *arguments).result()
        except BrokenProcessPool as error:
            self.pools[number] = self._start(self.devices[number])
            raise RuntimeError("its process was killed, or died; did memory run out?") from error
        finally:
            self.idle.put(number)

    def close(self) -> None:
        for pool in self.pools:
            pool.shutdown()


@contextlib.contextmanager
def workers(
    count: int, tell: Progress, devices: Sequence[str] = ()
) -> Iterator[Callable[[list[str]], dict[str, Any]]]:
    """A `run` for several threads, which hands each run to one of `count` processes that share the cores.

    Each process loads models and data once, and keeps to one of `devices`, where there are any.
    """
    with contextlib.closing(Workers(count, devices)) as processes:

        def run(argv: list[str]) -> dict[str, Any]:
            result, warned = processes.call(_in_worker, argv)
            for line in filter(str.strip, warned.splitlines()):
                tell(line)
            return result

        yield run


def list_jobs(jobs: Iterable[Job], commands: bool = False) -> None:
    """State, name and folder of each; with `commands` also how train.py would be called."""
    from dassl.engine.record import is_complete

    for job in jobs:
        print(f"{'complete' if is_complete(job.folder) else 'to run  '}  {job.name}  {job.folder}")
        if commands:
            print(f"    python train.py {shlex.join(job.argv)}")


def execute(
    plan: Callable[[], Sequence[Job]],
    at_once: int | None = None,
    verbose: bool = False,
    dry_run: bool = False,
    devices: Sequence[str] = (),
) -> int:
    """Plan and run, in this process unless several `at_once` or `devices` are asked for.

    Returns the exit status: 0 all complete, 1 some failed, 2 nothing could be planned, 130 interrupted.
    """
    import train
    from dassl.utils.tools import error_text

    try:
        jobs = plan()
    except (ValueError, LookupError, OSError, AssertionError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 2
    if dry_run:
        list_jobs(jobs, commands=verbose)
        return 0
    try:
        check_devices(devices)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        with progress(len(jobs), verbose) as (tell, quiet):

            def run(job_argv: list[str]) -> dict[str, Any]:
                with quiet():
                    return train.run(job_argv)

            count = at_once or max(1, len(devices))
            if count == 1 and not devices:
                failed = run_jobs(jobs, run, tell)
            else:
                with workers(count, tell, devices) as run_elsewhere:
                    failed = run_jobs(jobs, run_elsewhere, tell, count)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    if failed:
        print(f"{len(failed)} of {len(jobs)} runs failed:", file=sys.stderr)
        for job, reason in failed:
            log = job.folder / "log.txt"
            print(f"  {job.name}: {reason}" + (f"\n    log: {log}" if log.exists() else ""), file=sys.stderr)
    return int(bool(failed))
