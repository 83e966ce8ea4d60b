"""Runs that several processes share, started by torchrun from within a job: on its machine, or on all of its machines.

The job's own process makes none of the work.  It starts torchrun for one run after another, on several machines through
srun, and reads the record that the run has left.  Processes that share a run agree on the step after which they stop
(`dassl.engine`), so a signal that ends the job is passed on to them, and waited for.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..cluster.scheduler import SlurmError, ask
from ..plugins import CHECKOUT
from ..record import read_result
from .jobs import Failures, Observer, run_jobs
from .planning import Job
from .progress import progress

if TYPE_CHECKING:
    from ..config import Request

FIRST_PORT, PORTS = 20_000, 20_000  # where the machines of a job meet
WORDS = "error: "  # that a run's own message begins with


def share_runs(jobs: Sequence[Job], nodes: int, processes: int, verbose: bool, observer: Observer) -> Failures:
    """Make every run that is not complete, each by `processes` on each of `nodes`; otherwise as `make_runs`."""
    number = iter(range(len(jobs)))

    def run(request: Request) -> dict[str, Any]:
        return _run(request, torchrun(nodes, processes, next(number)), nodes, verbose)

    with progress(len(jobs), verbose) as (report, _):
        return run_jobs(jobs, run, report, observer=observer)


def torchrun(nodes: int, processes: int, number: int) -> list[str]:
    """Return the command that starts train.py in all processes; its own words follow.

    Parameters
    ----------
    nodes, processes
        Machines of this job, and processes on each.
    number
        Of the run in its job: processes of two runs never meet.
    """
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    if nodes == 1:
        return [*start, "--standalone", str(CHECKOUT / "train.py")]
    job = int(os.environ["SLURM_JOB_ID"])
    meeting = f"{platform.node()}:{FIRST_PORT + job % PORTS}"
    srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    cores = os.environ.get("SLURM_CPUS_PER_TASK")  # which srun no longer takes from there since Slurm 22.05
    srun += [f"--cpus-per-task={cores}"] if cores else []
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}", f"--rdzv-id={job}-{number}"]
    return [*srun, *start, f"--nnodes={nodes}", *rendezvous, str(CHECKOUT / "train.py")]


def _run(request: Request, command: Sequence[str], nodes: int, verbose: bool) -> dict[str, Any]:
    """Make one run; return its record.

    Raises
    ------
    RuntimeError
        With the run's own message where it fails.
    KeyboardInterrupt
        Where a signal ends the job, when all processes have stopped.
    """
    reason = ""
    process = subprocess.Popen(
        [*command, *request.argv], stdout=None if verbose else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace",
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            if WORDS in line:
                reason = line.partition(WORDS)[2].strip()
        status = process.wait()
    except KeyboardInterrupt:
        _stop(process, nodes)
        raise
    record = read_result(request.cfg.OUTPUT_DIR) or {}
    if status or record.get("complete") is not True:
        raise RuntimeError(reason or f"torchrun has ended with status {status}; see the log of the job")
    return record


def _stop(process: subprocess.Popen[str], nodes: int) -> None:
    """Have all processes of a run stop after a step, and wait for them.

    srun would kill at once what it has started, so there Slurm passes the signal on; a job that Slurm ends itself it
    has told already.
    """
    if nodes == 1:
        process.terminate()
    else:
        with contextlib.suppress(SlurmError):
            ask("scancel", "--signal=TERM", os.environ["SLURM_JOB_ID"])
    process.communicate()
