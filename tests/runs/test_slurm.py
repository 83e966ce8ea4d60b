"""A sweep of eight runs through a real Slurm: preempted, killed, failed, and in the end the same as on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runs.cluster.journal import Journal, Submission
from runs.cluster.scheduler import states
from runs.sweeps.sweep import main
from tests.support.programs import make_world

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.xdist_group("slurm")]

EPOCHS, KEPT = 30, 5  # so many are over in a second; every fifth is kept
SEEDS = 4


@pytest.fixture(scope="module")
def sweep(slurm, tmp_path_factory) -> Callable[..., int]:
    """sweep(OUTPUT, *FLAGS): the exit status of a sweep of eight tiny runs."""
    world = make_world(tmp_path_factory.mktemp("world"))

    def run(output: Path, *flags: str, options: tuple[str, ...] = ()) -> int:
        return main([
            "--root", str(world / "data"), "--output", str(output), "--dataset", "caltech101", "--config", "rn50",
            "--trainers", "CoOp", "PLOT", "--shots", "1", "--seeds", f"1-{SEEDS}", *flags,
            "MODEL.BACKBONE.NAME", str(world / "tiny_rn.pt"), "INPUT.SIZE", "(96, 96)", "DATALOADER.NUM_WORKERS", "0",
            "OPTIM.MAX_EPOCH", str(EPOCHS), "TRAIN.CHECKPOINT_FREQ", str(KEPT), "DATALOADER.TRAIN_X.BATCH_SIZE", "4",
            "TRAINER.PLOT.N", "2", "USE_CUDA", "False", *options,
        ])  # fmt: skip

    return run


def run_folder(output: Path, trainer: str, seed: int) -> Path:
    first = "OP_N2/" if trainer == "PLOT" else ""
    return output / f"{first}caltech101/{trainer}/rn50_1shots/nctx16_cscFalse_ctpend/seed{seed}"


def until(holds: Callable[[], object], patience: float = 300) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "this has not come to hold"
        time.sleep(0.005)


def trains(folder: Path) -> bool:
    """Whether a run is in the middle of its training, and has kept an epoch."""
    if not any(folder.glob(f"prompt_learner/model.pth.tar-{KEPT}")):
        return False
    assert not (folder / "result.json").exists(), "too fast for this test"
    return True


def pause(journal: Journal, job: Submission, folder: Path) -> None:
    """Stop a job in the middle of a run, until somebody tells it to go on, as Slurm does before it ends it."""
    until(lambda: trains(folder))
    os.kill(journal.task(job.job).pid, signal.SIGSTOP)


def live(job: Submission) -> bool:
    return states([job])[job.job].live


def assert_same_runs(output: Path, other: Path) -> None:
    """The eight runs of both trees have the same results and weights, bit for bit."""
    for folder in (run_folder(Path(), trainer, seed) for trainer in ("CoOp", "PLOT") for seed in range(1, SEEDS + 1)):
        ours, theirs = (json.loads((tree / folder / "result.json").read_text()) for tree in (output, other))
        for key in ("complete", "correct", "accuracy", "per_class", "history", "config_digest", "data"):
            assert ours[key] == theirs[key], (folder, key)
        name = f"prompt_learner/model.pth.tar-{EPOCHS}"
        ours, theirs = (torch.load(tree / folder / name, weights_only=True) for tree in (output, other))
        assert ours["state_dict"].keys() == theirs["state_dict"].keys()
        assert all(torch.equal(ours["state_dict"][key], theirs["state_dict"][key]) for key in ours["state_dict"])


def test_a_sweep_through_slurm_survives_what_happens_to_its_jobs(slurm, sweep, tmp_path, capsys, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    journal = Journal(there)
    assert sweep(there, "--cluster", "slurm", options=("TRAINER.PLOT.M", "4")) == 2  # no such key
    assert not there.exists()
    assert sweep(there, "--cluster", "slurm", "--sbatch", "partitoin=main") == 1  # no option of sbatch
    said = capsys.readouterr().err
    assert "unrecognized option '--partitoin" in said and "nothing is submitted" in said and not journal.submissions()

    assert sweep(here, "--cluster", "local") == 0  # what all will be compared with, in the meantime
    assert "submitted: 8 in 1 job (local-" in capsys.readouterr().out
    flags = ["--cluster", "slurm", "--runs-per-job", str(SEEDS), "--time", "5", "--setup", f"touch {tmp_path}/set-up"]
    assert sweep(there, *flags) == 0
    assert "complete: 0, under way: 0, submitted: 8 in 2 jobs" in capsys.readouterr().out
    preempted, killed = journal.submissions()  # CoOp's runs and PLOT's
    obstacle = run_folder(there, "CoOp", SEEDS)
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.touch()  # so this run cannot be made

    stopped, warned = run_folder(there, "CoOp", 1), run_folder(there, "PLOT", 2)
    pause(journal, preempted, stopped)
    pause(journal, killed, warned)
    task = journal.task(preempted.job)
    assert sweep(there, *flags) == 0
    assert "complete: 1, under way: 7, submitted: 0" in capsys.readouterr().out
    with monkeypatch.context() as patch:  # nobody answers
        nowhere = tmp_path / "nowhere.conf"
        nowhere.write_text(re.sub(r"(?m)^SlurmctldPort=.*", "SlurmctldPort=9", slurm.conf.read_text()))
        patch.setenv("SLURM_CONF", str(nowhere))
        patch.setattr("runs.cluster.scheduler.PATIENCE", 1)
        assert sweep(there, *flags) == 1
    said = capsys.readouterr().err
    assert "nobody can say what became of job" in said and "nothing is submitted" in said
    assert len(journal.submissions()) == 2

    slurm.submit("true", "--partition=urgent", f"--nodelist={states([preempted])[preempted.job].host}")
    slurm.ask("scancel", "--batch", "--signal=USR2", killed.job)  # what Slurm does before the time limit
    os.kill(journal.task(killed.job).pid, signal.SIGCONT)
    for job in (preempted, killed):
        until(lambda job=job: slurm.state(job.job) == "PENDING")
        slurm.release(job.job)
    until(lambda: trains(run_folder(there, "PLOT", 3)))
    os.kill(journal.task(killed.job).pid, signal.SIGKILL)
    until(lambda: not live(killed))
    assert sweep(there, *flags, "--wait") == 1
    said = capsys.readouterr().err
    assert "1 of 8 runs failed:" in said and f"{obstacle} cannot be made: File exists" in said
    again = {there / run.folder for job in journal.submissions()[2:] for run in job.runs}
    assert again - {obstacle} == {run_folder(there, "PLOT", 3), run_folder(there, "PLOT", 4)}  # what was lost, alone
    obstacle.unlink()
    assert sweep(there, *flags) == 0
    assert "complete: 7, under way: 0, submitted: 1 in 1 job" in capsys.readouterr().out
    cancelled = journal.submissions()[-1]
    pause(journal, cancelled, obstacle)
    slurm.ask("scancel", cancelled.job)
    until(lambda: slurm.state(cancelled.job) == "CANCELLED")  # and is not requeued
    assert sweep(there) == 0  # what is left can also be made here
    assert sweep(here, "--cluster", "local", "--wait") == 0 and len(Journal(here).submissions()) == 1
    assert_same_runs(here, there)

    restarts = [journal.task(job.job).restarts for job in (preempted, killed, cancelled)]
    assert task.restarts == 0 and restarts == [1, 1, 0] and journal.task(preempted.job).ended
    for folder in (stopped, warned, run_folder(there, "PLOT", 3), obstacle):
        assert "Resuming from" in (folder / "log.txt").read_text()
    for folder in (stopped, warned, obstacle):
        assert "interrupted in epoch" in (folder / "log.txt").read_text()
    assert (tmp_path / "set-up").exists()
