"""What the scheduler says of jobs: a real Slurm, one that does not answer, and local processes."""

from __future__ import annotations

import subprocess

import pytest

from runs.cluster import scheduler
from runs.cluster.journal import LOCAL, SLURM, Submission
from runs.cluster.processes import Process


def jobs(*names: str, **fields: str) -> list[Submission]:
    return [Submission(job, SLURM, (), **fields) for job in names]


def ask(*names: str) -> list[str]:
    answers = scheduler.states(jobs(*names))
    return [answers[name].state for name in names]


def local(process: Process) -> Submission:
    return Submission("local-1", LOCAL, (), **process._asdict(), submitted="2026-01-02")


def test_jobs_of_slurm(slurm, monkeypatch):
    assert ask("900", "901_1") == ["gone", "gone"] and ask("900") == ["gone"]  # squeue fails where it knows none
    running = slurm.submit("sleep 60", "--nodelist=node1", "--job-name=a|b")
    waiting = slurm.submit("sleep 60", "--nodelist=node1", f"--dependency=afterany:{running}")
    array = slurm.submit("test $SLURM_ARRAY_TASK_ID = 1", "--nodelist=node2", "--array=1-2")
    stays = slurm.submit("sleep 60", "--nodelist=node2", "--array=1-2%1")
    names = (running, waiting, f"{array}_1", f"{array}_2", f"{stays}_1", f"{stays}_2", "900")
    expected = ["running", "queued", "ended", "ended", "running", "queued", "gone"]
    slurm.until(lambda: ask(*names) == expected)
    answers = scheduler.states(jobs(*names))
    assert answers[running].host == "node1" and answers[running].since.startswith("20")
    assert answers[waiting] == ("queued", "", "", "Dependency")
    assert answers[f"{stays}_2"].reason == "JobArrayTaskLimit"
    assert answers[f"{array}_1"].reason == "COMPLETED" and answers[f"{array}_2"].reason == "FAILED (NonZeroExitCode)"
    assert scheduler.states(jobs(running, name="a|b", site="test"))[running].live
    assert scheduler.states(jobs(running, name="other"))[running].state == "gone"
    elsewhere = scheduler.states(jobs(running, site="other"))[running]
    assert elsewhere == ("unknown", "", "", "it is a job of cluster other, and this is test")

    scheduler.cancel(jobs(waiting, f"{stays}_2", running))
    slurm.until(lambda: ask(waiting, f"{stays}_2", running, f"{stays}_1") == ["ended"] * 3 + ["running"])
    assert "CANCELLED" in scheduler.states(jobs(waiting))[waiting].reason

    monkeypatch.setattr(scheduler, "PATIENCE", 1)  # by themselves the commands try for 20 s
    slurm.end("slurmctld")
    try:
        assert scheduler.states(jobs(f"{stays}_1"))[f"{stays}_1"].reason == "squeue has not answered within 1 s"
        with pytest.raises(scheduler.SlurmError, match="scancel has not answered"):
            scheduler.cancel(jobs(f"{stays}_1"))
    finally:
        slurm.start_controller()
    monkeypatch.undo()
    slurm.until(lambda: ask(f"{stays}_1") == ["running"])


def pretend(folder, monkeypatch, **programs: str) -> None:
    """Nothing but these shell scripts in PATH."""
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(folder))


def test_where_there_are_accounts_they_know_what_squeue_has_forgotten(tmp_path, monkeypatch):
    squeue = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    lines = ("5_1|CANCELLED by 0|node1|2026-01-02T03:04:05", "5_2|TIMEOUT|node2|Unknown", "", "6|RUNNING|||")
    pretend(tmp_path, monkeypatch, squeue=squeue, sacct="\n".join(f"echo '{line}'" for line in lines))
    answers = scheduler.states(jobs("5_1", "5_2", "7"))
    assert answers == {
        "5_1": ("ended", "node1", "2026-01-02T03:04:05", "CANCELLED"),
        "5_2": ("ended", "node2", "", "TIMEOUT"),
        "7": ("gone", "", "", ""),
    }


def test_a_slurm_that_does_not_answer_is_waited_for_only_so_long(tmp_path, monkeypatch):
    pretend(tmp_path, monkeypatch)
    assert "there is no squeue on" in scheduler.states(jobs("1"))["1"].reason
    pretend(tmp_path, monkeypatch, squeue="exec /bin/sleep 60")
    monkeypatch.setattr(scheduler, "PATIENCE", 0.2)
    assert scheduler.states(jobs("1"))["1"] == ("unknown", "", "", "squeue has not answered within 0 s")
    pretend(tmp_path, monkeypatch, squeue=r"printf 'squeue: \033[2J down' >&2; exit 1")
    assert scheduler.states(jobs("1"))["1"].reason == r"squeue: \x1b[2J down"


def test_local_jobs():
    child = subprocess.Popen(["sleep", "60"])
    job = local(Process.of(child.pid))
    assert scheduler.states([job])["local-1"][:3] == ("running", job.host, "2026-01-02")
    elsewhere = local(Process("elsewhere", child.pid, "1"))
    assert scheduler.states([elsewhere])["local-1"] == (
        "unknown", "elsewhere", "", f"elsewhere alone can tell of process {child.pid}"
    )  # fmt: skip
    another = local(Process(job.host, child.pid, "00000000-1"))  # the number was given out again
    assert scheduler.cancel([elsewhere, another]) == []
    assert child.poll() is None
    assert scheduler.cancel([job]) == [job]
    assert child.wait(10) == -15
    assert scheduler.states([job])["local-1"].state == "gone" and scheduler.cancel([job]) == []
