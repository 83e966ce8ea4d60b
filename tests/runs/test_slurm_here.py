"""The Slurm of the tests does what they rely on: two nodes, job arrays, and a preempted job that is requeued."""

from __future__ import annotations

import os
import subprocess

COUNT = 'echo "start ${SLURM_RESTART_COUNT:-0}"; srun sleep 60'


def test_jobs_wait_for_the_two_nodes_and_urgent_ones_take_their_place(slurm):
    assert subprocess.run(["sinfo", "--version"], env=os.environ, capture_output=True).returncode == 0  # finds it, too
    first = slurm.submit(COUNT, "--nodelist=node1", "--open-mode=append")
    second = slurm.submit("exit 3", "--array=1-3", "--nodelist=node2")
    slurm.until(lambda: slurm.state(first) == "RUNNING" and slurm.state(f"{second}_3") == "FAILED")
    urgent = slurm.submit("echo here", "--partition=urgent", "--nodelist=node1")
    slurm.until(lambda: slurm.state(urgent) == "COMPLETED")
    assert (slurm.folder / f"{urgent}.out").read_text() == "here\n"
    slurm.release(first)
    slurm.until(lambda: "start 1" in (slurm.folder / f"{first}.out").read_text())
    assert "DUE TO PREEMPTION" in (slurm.folder / f"{first}.out").read_text()
    slurm.ask("scancel", first)
    slurm.until(lambda: slurm.state(first) == "CANCELLED")
