"""Slurm, through submitit: arrays of jobs, the script that sbatch gets, and the cluster's own limit.

submitit writes the script, pickles what each job calls, and gives the number that Slurm knows a job by.  It is an
extra, imported only here and where a job asks for its own number.

The program takes the place of the script's shell (`exec`), without srun between them.  So it gets the signals that
Slurm sends to the batch script: the one before the time limit (`B:`), and SIGTERM, at which srun would kill at once
what it has started.  A run on several nodes starts srun itself (`runs.sweeps.shared`).
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..plugins import CHECKOUT
from .flags import WARNING, Resources
from .scheduler import SlurmError, ask, config_value


class Slurm:
    """What submits jobs of one tree.

    Parameters
    ----------
    folder
        Where scripts, pickles and logs go; nodes must see it under the same name.
    resources
        What each job gets.
    name
        Of the jobs, in squeue.
    """

    def __init__(self, folder: Path, resources: Resources, name: str) -> None:
        self.folder, self.resources, self.name = folder, resources, name

    def _executor(self, count: int, after: Sequence[str]) -> Any:
        import submitit

        class OnPaper(submitit.SlurmExecutor):  # a script can be shown where there is no Slurm
            @classmethod
            def affinity(cls) -> int:
                return 1

        asked = self.resources
        path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
        python = f"exec env PYTHONPATH={shlex.quote(path)} {shlex.quote(sys.executable)}"
        executor = OnPaper(self.folder, python=python)
        further = {"signal": f"B:{WARNING}@{asked.notice}", **asked.options}
        if "no-requeue" not in asked.options:
            further["requeue"] = True
        executor.update_parameters(
            job_name=self.name, partition=asked.partition, account=asked.account, qos=asked.qos, mem=asked.mem,
            nodes=asked.nodes, ntasks_per_node=1, gpus_per_node=asked.gpus, time=asked.minutes,
            cpus_per_task=asked.cpus * asked.processes if asked.cpus else None,
            setup=list(asked.setup) or None, use_srun=False, stderr_to_stdout=True, wckey=None,
            array_parallelism=asked.array or count, dependency=f"afterany:{':'.join(after)}" if after else None,
            additional_parameters=further,
        )  # fmt: skip
        return executor

    def script(self, count: int, after: Sequence[str] = ()) -> str:
        """Return what sbatch would get for `count` jobs."""
        executor = self._executor(count, after)
        if count > 1:
            executor.parameters["map_count"] = count
        return executor._make_submission_file_text(executor._submitit_command_str, "")

    def submit(self, calls: Sequence[Callable[[], Any]], after: Sequence[str] = ()) -> list[tuple[str, Path]]:
        """Submit an array of jobs, or one job, of which each makes one of the calls.

        Parameters
        ----------
        calls
            Of which each job makes one.
        after
            Jobs, or whole arrays, that must be over before, well or not.

        Returns
        -------
        list of tuple
            The number of each job, and the file of its log.

        Raises
        ------
        SlurmError
            With what sbatch says; nothing of the array is submitted then.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            jobs = self._executor(len(calls), after).submit_array(list(calls))
        except (FailedJobError, FailedSubmissionError, FileNotFoundError) as error:
            raise SlurmError(f"sbatch: {_text(str(error))}") from error
        return [(job.job_id, job.paths.stdout) for job in jobs]


def most_elements() -> int:
    """Return how many jobs an array can have: by the cluster's limit, and by the user's own where there are accounts.

    Raises
    ------
    SlurmError
        Where Slurm cannot be asked.
    """
    limits = [config_value("MaxArraySize")]
    with contextlib.suppress(SlurmError):
        who = f"user={getpass.getuser()}"
        limits += ask("sacctmgr", "--noheader", "--parsable2", "show", "assoc", who, "format=MaxSubmitJobs").split()
    return min((int(limit) for limit in limits if limit.isdecimal() and int(limit)), default=1000)


def _text(text: str) -> str:
    """Return the words of an error of Slurm's on one line, without the program's name before each."""
    lines = [re.sub(r"^\w+: (error: )?", "", line.strip()) for line in text.splitlines()]
    return "; ".join(filter(None, lines)) or "failed without a word"
