"""The flags that send a sweep's runs to a cluster, and what they ask of Slurm.

    --cluster slurm --partition gpu --gpus 1 --time 4:00:00 --array 20 --sbatch constraint=a100
    --cluster local --jobs 2

`Resources` holds what a job gets; every value is checked before the first config is built.  Options of sbatch without
a flag of their own go through --sbatch; sbatch itself refuses those that it does not know.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
from dataclasses import dataclass, field
from typing import Any

from dassl.plain.console import positive

from .journal import LOCAL, SLURM

INSTALL = "pip install -e '.[cluster]'"
OWN_FLAGS = {  # options of sbatch -> the flag that sets them
    "partition": "--partition", "account": "--account", "qos": "--qos", "mem": "--mem", "time": "--time",
    "cpus-per-task": "--cpus", "gpus": "--gpus", "gpus-per-node": "--gpus", "array": "--array", "nodes": "--nodes",
    "ntasks": "--nodes", "ntasks-per-node": "--processes",
}  # fmt: skip
TAKEN = (  # that the submission needs
    "dependency", "output", "error", "open-mode", "wrap", "wait", "parsable", "chdir", "job-name"
)  # fmt: skip
WARNING = "USR2"  # the signal that Slurm is asked for before the time limit
NOTICE = 90  # seconds before the time limit at which a job is warned
DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
MEMORY = re.compile(r"\d+[KMGT]?")


def minutes(text: str) -> int:
    """Read a time limit as sbatch does, rounded up to whole minutes; a type for argparse.

    MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, DAYS-HOURS:MINUTES or DAYS-HOURS:MINUTES:SECONDS.
    """
    if match := DAYS.fullmatch(text):
        days, hours, rest, seconds = (int(number or 0) for number in match.groups())
    elif re.fullmatch(r"\d+(:\d+){0,2}", text):
        parts = [int(number) for number in text.split(":")]
        days, (hours, rest, seconds) = 0, (parts if len(parts) == 3 else [0, *parts, 0][:3])
    else:
        days = hours = rest = seconds = 0
    total = 60 * (60 * (24 * days + hours) + rest) + seconds
    if not total:
        raise argparse.ArgumentTypeError(f"{text!r}: give a time such as 90 (minutes), 4:00:00 or 1-12:00:00")
    return -(-total // 60)


def memory(text: str) -> str:
    """Read an amount of memory as sbatch does: 32G, 800M; a type for argparse."""
    if not MEMORY.fullmatch(text.upper()):
        raise argparse.ArgumentTypeError(f"{text!r}: give memory such as 32G or 800M")
    return text.upper()


def option(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE, or KEY alone, for sbatch; a type for argparse."""
    key, equals, value = text.removeprefix("--").partition("=")
    key = key.replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or (equals and not value):
        raise argparse.ArgumentTypeError(f"{text!r}: give KEY=VALUE, as in constraint=a100, or KEY, as in exclusive")
    if key in OWN_FLAGS:
        raise argparse.ArgumentTypeError(f"{key} has a flag of its own: use {OWN_FLAGS[key]}")
    if key == "signal" and not re.fullmatch(rf"B:{WARNING}@\d+", value):
        raise argparse.ArgumentTypeError(f"{text!r}: a job knows B:{WARNING}@SECONDS alone, the warning before its end")
    if key in TAKEN:
        raise argparse.ArgumentTypeError(f"{key} is set by the submission itself")
    return key, value if equals else True


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; `check_cluster_flags` refuses those that do not go together."""
    add = parser.add_argument_group("on a cluster").add_argument
    where = "submit the runs, as jobs of Slurm or to a process of this machine, and end"
    add("--cluster", choices=(SLURM, LOCAL), help=where)
    add("--wait", action="store_true", help="with --cluster: stay until all runs are over")
    add("--runs-per-job", type=positive, metavar="N", help="runs that a job makes; default: short ones share a job")
    add("--partition", metavar="NAME", help="of Slurm")
    add("--account", metavar="NAME", help="to charge")
    add("--qos", metavar="NAME", help="quality of service")
    add("--gpus", type=positive, metavar="N", help="of a job, on each node")
    add("--cpus", type=positive, metavar="N", help="cores of a job, for each process")
    add("--nodes", type=positive, metavar="N", help="machines that share each run; default: 1")
    shared = "processes on each machine that share a run, by torchrun; default: 1"
    add("--processes", type=positive, metavar="N", help=shared)
    add("--mem", type=memory, metavar="SIZE", help="memory of a job on each node, like 32G")
    limit = "time limit of a job, like 4:00:00; before it, a run keeps its state, and the job is requeued"
    add("--time", type=minutes, dest="minutes", metavar="TIME", help=limit)
    add("--array", type=positive, metavar="N", help="jobs at a time; default: as many as Slurm starts")
    repeated: dict[str, Any] = {"action": "append", "default": []}
    add("--setup", **repeated, metavar="COMMAND", help="before the runs, like 'module load cuda'; repeatable")
    add("--sbatch", type=option, **repeated, metavar="KEY=VALUE", help="another option of sbatch; repeatable")


SLURM_ONLY = {  # where argparse puts it -> flag
    "minutes": "--time", "runs_per_job": "--runs-per-job",
    **{name: f"--{name}" for name in "partition account qos gpus cpus nodes processes mem array setup sbatch".split()},
}  # fmt: skip
INSTEAD = {"jobs": "--array N, the jobs at a time", "devices": "--gpus N, of each job"}


def check_cluster_flags(args: argparse.Namespace) -> None:
    """Raise ValueError for flags that do not go together, or a package that they need, naming what to do."""
    only = ", ".join(flag for name, flag in SLURM_ONLY.items() if getattr(args, name))
    if only and args.cluster != SLURM:
        raise ValueError(f"{only}: only with --cluster slurm")
    if args.wait and args.cluster is None:
        raise ValueError("--wait: only with --cluster; without, the command makes the runs itself")
    if args.cluster == SLURM and importlib.util.find_spec("submitit") is None:
        raise ValueError(f"--cluster slurm needs the package submitit: {INSTALL}")
    for name, instead in INSTEAD.items():
        if args.cluster == SLURM and getattr(args, name):
            raise ValueError(f"--{name}: not with --cluster slurm; use {instead}")


@dataclass(frozen=True)
class Resources:
    """What each job gets of Slurm.

    Attributes
    ----------
    nodes, processes
        That share a run: machines, and processes on each.
    minutes
        Time limit; None: the partition's.
    array
        Jobs at a time; 0: as many as Slurm starts.
    options
        Further options of sbatch: {KEY: VALUE}, True for one without a value.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    mem: str | None = None
    nodes: int = 1
    processes: int = 1
    minutes: int | None = None
    array: int = 0
    setup: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, args: argparse.Namespace) -> Resources:
        """Return those that a command line asks for."""
        return cls(
            args.partition, args.account, args.qos, args.gpus, args.cpus, args.mem, args.nodes or 1,
            args.processes or 1, args.minutes, args.array or 0, tuple(args.setup), dict(args.sbatch),
        )  # fmt: skip

    @property
    def notice(self) -> int:
        """Seconds before the time limit at which a job is warned: of a short one, a quarter."""
        return NOTICE if self.minutes is None else min(NOTICE, 15 * self.minutes)
