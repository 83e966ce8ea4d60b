"""How far a job is: complete, to run, to be continued, waiting for another run, or bound to fail.

A sweep asks this of every job before it runs it, and `--dry-run` prints it.  Nothing here changes a file.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dassl.plain.text import error_text, printable

from ..plugins import trainer_class
from .planning import Job, is_zero_shot, own_options


def is_complete(job: Job) -> bool:
    """Tell whether the job's run is complete.

    Raises
    ------
    ValueError
        Where its folder holds a complete run that is another: of other settings, or on other pictures.
    """
    from ..record import read_result

    record = read_result(job.folder) or {}
    if record.get("complete") is not True:
        return False
    check_same_run(job, record)
    check_same_pictures(job, record)
    return True


def check_same_run(job: Job, record: Mapping[str, Any]) -> None:
    """Raise ValueError where a record has other settings than `job`, among those that its trainer reads."""
    from ..keys import deciding, differences, flatten

    zero_shot = is_zero_shot(job.cfg.TRAINER.NAME)
    old, new = (deciding(flatten(config), zero_shot) for config in (record.get("config") or {}, job.cfg))
    if changed := differences(old, new):
        raise ValueError(
            f"{job.folder} holds a complete run with another configuration ({changed}); use another output folder"
        )


def check_same_pictures(job: Job, record: Mapping[str, Any]) -> None:
    """Raise ValueError where a record is of other pictures of the user's own than there are now."""
    from dassl.data import fingerprint
    from dassl.data.datasets import DATASET_REGISTRY, build_dataset
    from dassl.utils.logger import quiet

    if not getattr(DATASET_REGISTRY.get(job.cfg.DATASET.NAME), "own_pictures", False):
        return
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself says what there is to say
        new = fingerprint(build_dataset(job.cfg))
    if (record.get("data") or {}).get("fingerprint") not in (None, new):
        raise ValueError(
            f"{job.folder} holds a complete run on other pictures than {job.cfg.DATASET.ROOT} holds now; use another "
            "output folder, or delete that run to make it again"
        )


def state_of(job: Job) -> str:
    """Return "complete", "to run" or "goes on after epoch 7"; raises what the run would raise about its folder."""
    from dassl.engine.state import furthest_state
    from dassl.utils.checkpoint import find_checkpoints

    from ..folder import check_folder

    if is_complete(job):
        return "complete"
    if not check_folder(job.cfg, job.request.mode):
        return "to run"
    epochs = [epoch for part in job.folder.iterdir() for epoch in find_checkpoints(part)]
    if kept := furthest_state([str(job.folder)], ()):
        epochs.append(kept[0]["epoch"])
    return f"goes on after epoch {max(epochs)}" if epochs else "to run"


def starts_of(job: Job) -> set[Path]:
    """List the runs, or checkpoints of runs, that must exist when this one begins."""
    start, name = str(own_options(job.cfg).get("PRETRAIN_DIR", "")), job.cfg.TRAINER.NAME
    first = getattr(trainer_class(name), "starts_from", "")
    if first not in ("", name) and not start:  # by default beside it, under the name of the first stage
        start = str(Path(*(first if part == name else part for part in job.folder.parts)))
    return {Path(path) for path in (start, job.request.args.model_dir) if path}


def list_jobs(jobs: Sequence[Job], commands: bool = False) -> int:
    """Print the state, name and folder of every job.

    Parameters
    ----------
    jobs
        All jobs of the sweep: one may start from what another makes.
    commands
        Also print how train.py would be called.

    Returns
    -------
    int
        How many would fail, as far as can be told without running them.
    """
    failing = 0
    for job in jobs:
        try:
            state, reason = state_of(job), ""
            planned = {other.folder for other in jobs if other.stage < job.stage}
            missing = [path for path in starts_of(job) - planned if not path.exists()]
            if missing and state != "complete":
                state, reason = "waits", f"  (it starts from {min(missing)}, which is not there yet)"
        except (ValueError, LookupError, OSError, AssertionError) as error:
            state, reason = "fails", f"  ({first_line(error_text(error))})"
            failing += 1
        print(printable(f"{state:8}  {job.name}  {job.folder}{reason}"))
        if commands:
            print(f"    python train.py {shlex.join(job.argv)}")
    return failing


def first_line(text: str) -> str:
    """Return the first line of a text, with dots where there are more."""
    first, _, rest = text.partition("\n")
    return f"{first} ..." if rest else first
