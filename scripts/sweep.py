"""Run a grid of trainers, shots and seeds in one process; finished runs are skipped, so it can be started again.

    python scripts/sweep.py --root DATA --output OUT --dataset demo --config demo \\
        --trainers ZeroshotCLIP CoOp PLOT --shots 1 4 16 --seeds 1 2 3 [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple, Protocol

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # started as a script, or imported from anywhere

UNTRAINED = ("ZeroshotCLIP", "ZeroshotCLIP2")  # evaluated once, with CoOp's config as in the original
TOP_KEYS = ("USE_CUDA", "VERBOSE", "SEED", "RESUME", "OUTPUT_DIR")  # config keys without a dot
OWN_KEYS = {
    "SEED": "--seeds",
    "RESUME": "the same command again",
    "OUTPUT_DIR": "--output",
    "DATASET.NUM_SHOTS": "--shots",
    "DATASET.ROOT": "--root",
    "TRAINER.NAME": "--trainers",
}
ONE_VALUE = ("--root", "--output", "--config")
EXAMPLES = """examples:
  everything that the demo shows:
    python scripts/sweep.py --root data --output output/demo --dataset demo --config demo
  PLOT with 2 and then with 4 prompts, on one data set:
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \\
        --trainers PLOT --shots 1 2 4 8 16 TRAINER.PLOT.N 2
    python scripts/sweep.py --root DATA --output output --dataset caltech101 --config rn50 \\
        --trainers PLOT --shots 1 2 4 8 16 TRAINER.PLOT.N 4

Each run has its own folder in OUTPUT, under the original's names; its log.txt holds what it printed.  A run is
skipped when its result.json says that it is complete; an interrupted one goes on from its last checkpoint.
`python -m results table OUTPUT` shows what came out.

exit status: 0 all runs complete, 1 some failed (they are listed), 2 bad command line, 130 interrupted.
"""


class Job(NamedTuple):
    """One run of the sweep."""

    name: str  # "PLOT demo 4 shots seed 1"
    folder: Path
    argv: list[str]  # for train.run
    cfg: Any  # the config that this gives


class Progress(Protocol):
    """Says a line on the way; `done` when a run is over."""

    def __call__(self, message: str, done: bool = False) -> None: ...


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run a grid of trainers, shots and seeds in one process, skipping what is complete.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--root", required=True, metavar="DIR", help="folder that holds the data sets")
    add("--output", required=True, metavar="DIR", help="parent of all run folders")
    add(
        "--dataset",
        required=True,
        nargs="+",
        metavar="NAME",
        help="name(s) in configs/datasets, e.g. caltech101",
    )
    add("--config", required=True, metavar="NAME", help="name in configs/trainers/<trainer>, e.g. rn50")
    add(
        "--trainers",
        nargs="+",
        default=["ZeroshotCLIP", "CoOp", "PLOT"],
        metavar="NAME",
        help="default: ZeroshotCLIP CoOp PLOT",
    )
    add(
        "--shots",
        nargs="+",
        type=_positive,
        default=[1, 4, 16],
        metavar="K",
        help="images a class; default: 1 4 16",
    )
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="S", help="default: 1 2 3")
    add("--jobs", type=_positive, default=1, metavar="N", help="runs at a time, each with its share of the cores")
    add("--verbose", action="store_true", help="also show what the runs print")
    add("--dry-run", action="store_true", help="list the runs and their state, run nothing")
    parser.usage = parser.format_usage().removeprefix("usage: ").rstrip() + " [KEY VALUE ...]"
    return parser


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Flags, and as `opts` the KEY VALUE pairs behind them.

    The pairs start at the first word that looks like a config key: argparse would take them for more seeds.
    """
    start = next((i for i, word in enumerate(argv) if _is_key(word) and argv[i - 1] not in ONE_VALUE), len(argv))
    parser = build_parser()
    args = parser.parse_args(argv[:start])
    args.opts = list(argv[start:])
    if len(args.opts) % 2:
        parser.error(f"KEY VALUE pairs expected, got {' '.join(args.opts)}")
    for key in args.opts[::2]:
        if key in OWN_KEYS:
            parser.error(f"{key} is set by the sweep; use {OWN_KEYS[key]}")
    return args


def _is_key(word: str) -> bool:
    return re.fullmatch(r"[A-Z][A-Z0-9_]*(\.\w+)+", word) is not None or word in TOP_KEYS


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 1 or more")
    return int(text)


# --- the runs --------------------------------------------------------------------------------------------


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """Every run of the grid, zero-shot first.

    Builds all configs, so that a misspelt name or key is found before the first run starts.  Raises what the config
    raises (ValueError, KeyError, OSError).
    """
    jobs = []
    for dataset in dict.fromkeys(args.dataset):
        for trainer in dict.fromkeys(args.trainers):
            if trainer in UNTRAINED:
                jobs.append(_job(args, dataset, trainer, None, None))
                continue
            for shots in dict.fromkeys(args.shots):
                jobs += [_job(args, dataset, trainer, shots, seed) for seed in dict.fromkeys(args.seeds)]
    return sorted(jobs, key=lambda job: job.cfg.TRAINER.NAME not in UNTRAINED)


def _job(args: argparse.Namespace, dataset: str, trainer: str, shots: int | None, seed: int | None) -> Job:
    import train

    argv = ["--root", args.root, "--trainer", trainer]
    argv += ["--dataset-config-file", str(_config_file(f"datasets/{dataset}"))]
    family = "CoOp" if trainer in UNTRAINED else trainer
    argv += ["--config-file", str(_config_file(f"trainers/{family}/{args.config}"))]
    options = list(args.opts)
    if shots is None:
        argv.append("--eval-only")
    else:
        argv += ["--seed", str(seed)]
        options = ["DATASET.NUM_SHOTS", str(shots), *options]
    cfg, _ = train.setup_cfg(train.build_parser().parse_args([*argv, *options]))
    folder = Path(args.output) / run_folder(cfg, dataset, args.config)
    argv += ["--output-dir", str(folder), *options]
    cfg, _ = train.setup_cfg(train.build_parser().parse_args(argv))
    place = "" if shots is None else f" {shots} shot{'s' * (shots > 1)} seed {seed}"
    return Job(f"{trainer} {dataset}{place}", folder, argv, cfg)


def _config_file(name: str) -> Path:
    """configs/<name>.yaml, relative to the working folder where that is the checkout.  Raises ValueError."""
    path = ROOT / "configs" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"no config {path}; known: {known}")
    return Path(os.path.relpath(path)) if Path.cwd() == ROOT else path


def run_folder(cfg: Any, dataset: str, config: str) -> Path:
    """The original's folder names, from the values that the config really holds."""
    trainer = cfg.TRAINER.NAME
    if trainer in UNTRAINED:
        return Path(trainer, config, dataset)
    options: dict[str, Any] = cfg.TRAINER.get(trainer) or cfg.TRAINER.get(trainer.upper()) or {}
    folder = Path(dataset, trainer, f"{config}_{cfg.DATASET.NUM_SHOTS}shots")
    if "N_CTX" in options:
        position = options.get("CLASS_TOKEN_POSITION", "end")
        folder /= f"nctx{options['N_CTX']}_csc{options.get('CSC', False)}_ctp{position}"
    if "N" in options:
        folder = Path(f"OP_N{options['N']}") / folder
    return folder / f"seed{cfg.SEED}"


# --- the sweep -------------------------------------------------------------------------------------------


def sweep(
    jobs: Sequence[Job], run: Callable[[list[str]], dict[str, Any]], tell: Progress, at_once: int = 1
) -> list[tuple[Job, str]]:
    """Run every job that is not complete, `at_once` calls of `run` at a time; returns those that failed, and why.

    A complete run of another configuration in the same folder counts as failed: it is neither this run nor to be
    overwritten.
    """
    from dassl.engine.record import is_complete

    def attempt(job: Job) -> tuple[Job, str, str]:
        """(job, what to say, why it failed)"""
        try:
            if is_complete(job.folder):
                check_same_run(job)
                return job, "complete, skipped", ""
            return job, _describe(run(job.argv)), ""
        except Exception as error:  # one bad run must not cost the others
            reason = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
            return job, "", f"{type(error).__name__}: {reason}"
        finally:
            gc.collect()

    failed = []
    threads = ThreadPoolExecutor(at_once)
    try:
        outcomes: Iterable[tuple[Job, str, str]] = map(attempt, jobs)
        if at_once > 1:
            outcomes = (future.result() for future in as_completed([threads.submit(attempt, job) for job in jobs]))
        for done, (job, said, reason) in enumerate(outcomes, start=1):
            if reason:
                failed.append((job, reason))
            tell(f"[{done}/{len(jobs)}] {job.name}: {said or f'failed: {reason}'}", done=True)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # when interrupted, what has not begun shall not begin
    return failed


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
            f"{job.folder} holds a complete run of other settings ({'; '.join(sorted(changed))}); use another --output"
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


def _set_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


@contextlib.contextmanager
def workers(count: int, tell: Progress) -> Iterator[Callable[[list[str]], dict[str, Any]]]:
    """A `run` for several threads, which hands each run to one of `count` processes that share the cores."""
    share = max(1, (os.cpu_count() or 1) // count)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=spawn, initializer=_set_threads, initargs=(share,)) as pool:

        def run(argv: list[str]) -> dict[str, Any]:
            result, warned = pool.submit(_in_worker, argv).result()
            for line in filter(str.strip, warned.splitlines()):
                tell(line)
            return result

        yield run


def list_jobs(jobs: Iterable[Job]) -> None:
    from dassl.engine.record import is_complete

    for job in jobs:
        print(f"{'complete' if is_complete(job.folder) else 'to run  '}  {job.name}  {job.folder}")


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status as in the help text."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    import train

    try:
        jobs = plan_jobs(args)
    except (ValueError, LookupError, OSError, AssertionError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {message}", file=sys.stderr)
        return 2
    if args.dry_run:
        list_jobs(jobs)
        return 0
    try:
        with progress(len(jobs), args.verbose) as (tell, quiet):

            def run(job_argv: list[str]) -> dict[str, Any]:
                with quiet():
                    return train.run(job_argv)

            if args.jobs == 1:
                failed = sweep(jobs, run, tell)
            else:
                with workers(args.jobs, tell) as run_elsewhere:
                    failed = sweep(jobs, run_elsewhere, tell, args.jobs)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    if failed:
        print(f"{len(failed)} of {len(jobs)} runs failed:", file=sys.stderr)
        for job, reason in failed:
            log = job.folder / "log.txt"
            print(f"  {job.name}: {reason}" + (f"\n    log: {log}" if log.exists() else ""), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
