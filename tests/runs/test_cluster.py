"""Runs sent to a cluster: flags, which runs share a job, dependencies, and what a second call submits."""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from pathlib import Path

import pytest

from runs.cluster import scheduler
from runs.cluster.flags import Resources, memory, minutes, option
from runs.cluster.journal import COMPLETE, Journal, Task
from runs.cluster.processes import Process
from runs.cluster.scheduler import ENDED, RUNNING, UNKNOWN, JobState, SlurmError
from runs.cluster.slurm import Slurm, most_elements
from runs.sweeps import submitting
from runs.sweeps.batches import batches, pace_of
from runs.sweeps.experiments import main as experiment
from runs.sweeps.jobs import Observer, run_jobs
from runs.sweeps.planning import Job
from runs.sweeps.progress import work_of
from runs.sweeps.shared import torchrun
from runs.sweeps.sweep import main, parse_args, plan_jobs
from runs.sweeps.task import STUCK, Batch, Diary, Errand
from tests.support.records import write_run

BASE = ["--root", "data", "--dataset", "caltech101", "--config", "rn50"]


def jobs(output: Path, *extra: str) -> list[Job]:
    return plan_jobs(parse_args([*BASE, "--output", str(output), *extra]))


def make(job: Job, seconds: float = 10.0) -> None:
    """A complete record of a run."""
    write_run(job.folder, {"complete": True, "config": json.loads(json.dumps(job.cfg)), "seconds": {"total": seconds}})


# --- flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90:30", 91), ("4:00:00", 240), ("0:0:1", 1), ("1-0", 1440), ("1-12:30", 2190), ("2-0:0:59", 2881)],
)
def test_time_limits_are_those_of_sbatch(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--partition", "gpu"], "--partition: only with --cluster slurm"),
        (["--time", "1:00:00", "--gpus", "1", "--cluster", "local"], "--time, --gpus: only with --cluster slurm"),
        (["--wait"], "--wait: only with --cluster"),
        (["--cluster", "slurm", "--jobs", "2"], "use --array N"),
        (["--cluster", "slurm", "--devices", "0,1"], "use --gpus N"),
        (["--cluster", "slurm", "--time", "soon"], "'soon': give a time such as 90 (minutes), 4:00:00"),
        (["--cluster", "slurm", "--time", "0"], "give a time"),
        (["--cluster", "slurm", "--mem", "much"], "give memory such as 32G"),
        (["--cluster", "slurm", "--sbatch", "partition=gpu"], "use --partition"),
        (["--cluster", "slurm", "--sbatch", "time=1"], "use --time"),
        (["--cluster", "slurm", "--sbatch", "dependency=singleton"], "set by the submission itself"),
        (["--cluster", "slurm", "--sbatch", "a b"], "give KEY=VALUE"),
        (["--cluster", "slurm", "--sbatch", "signal=USR1@60"], "a job knows B:USR2@SECONDS alone"),
        (["--processes", "2"], "--processes: only with --cluster slurm"),
        (["--cluster", "slurm", "--array", "0"], "give a whole number, 1 or more"),
        (["--cluster", "lsf"], "invalid choice: 'lsf'"),
    ],
)
def test_flags_that_cannot_be(flags, complaint, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*BASE, "--output", str(tmp_path / "out"), *flags])
    assert stop.value.code == 2 and complaint in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_values_of_flags():
    assert memory("800m") == "800M" and option("--mail_type=END,FAIL") == ("mail-type", "END,FAIL")
    assert option("exclusive") == ("exclusive", True)
    assert Resources(minutes=1).notice == 15 and Resources(minutes=60).notice == 90 == Resources().notice


def test_without_the_extra_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main([*BASE, "--output", str(tmp_path / "out"), "--cluster", "slurm"])
    assert "pip install -e '.[cluster]'" in capsys.readouterr().err and not (tmp_path / "out").exists()


# --- which runs share a job ------------------------------------------------------------------------------


def test_runs_on_other_data_have_other_jobs_and_short_ones_share_one(tmp_path):
    axes = ["--dataset", "caltech101", "dtd", "--trainers", "PLOT", "--shots", "1", "16", "--seeds", "1-2"]
    planned = jobs(tmp_path, *axes)
    shared = [[(job.cfg.DATASET.NAME, job.cfg.DATASET.NUM_SHOTS) for job in batch] for batch in batches(planned)]
    assert shared == [
        [(data, shots)] * count
        for data in ("Caltech101", "DescribableTextures")
        for shots, count in ((1, 2), (16, 1), (16, 1))
    ]
    most = max(map(work_of, planned))
    assert all(sum(map(work_of, batch)) <= most for batch in batches(planned))
    assert [len(batch) for batch in batches(planned, runs_per_job=3)] == [3, 1, 3, 1]


def test_complete_runs_tell_how_many_fill_a_job(tmp_path):
    planned = jobs(tmp_path, "--trainers", "CoOp", "--shots", "16", "--seeds", "1-9")
    assert pace_of(planned) is None and [len(batch) for batch in batches(planned)] == [1] * 9
    make(planned[0], seconds=300)
    pace = pace_of(planned)
    assert pace == pytest.approx(300 / work_of(planned[0]))
    assert [len(batch) for batch in batches(planned, minutes=60, pace=pace)] == [6, 3]  # six times five minutes
    assert [len(batch) for batch in batches(planned, minutes=5, pace=pace)] == [1] * 9


# --- scripts and dependencies ----------------------------------------------------------------------------


def test_a_dry_run_shows_scripts_jobs_and_dependencies(tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--trainers", "PLOTAdapter", "PLOT", "--shots", "1", "16", "--seeds", "1", "--cluster", "slurm"]
    flags += ["--partition", "gpu", "--gpus", "1", "--cpus", "4", "--mem", "32G", "--time", "4:00:00", "--array", "8"]
    flags += ["--setup", "module load cuda", "--sbatch", "constraint=a100", "--sbatch", "exclusive", "--dry-run"]
    assert main([*BASE, "--output", str(out), *flags]) == 0 and not out.exists()
    first, second = capsys.readouterr().out.split("--- array ")[1:]
    for line in (
        "#SBATCH --partition=gpu", "#SBATCH --gpus-per-node=1", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=32G",
        "#SBATCH --time=240", "#SBATCH --array=0-1%2", "#SBATCH --constraint=a100", "#SBATCH --exclusive",
        "#SBATCH --requeue", "#SBATCH --signal=B:USR2@90", "module load cuda",
        "--- job 0: PLOT caltech101 1 shot seed 1", "--- job 1: PLOT caltech101 16 shots seed 1",
    ):  # fmt: skip
        assert line in first.splitlines(), line
    assert "dependency" not in first and "#SBATCH --dependency=afterany:1" in second.splitlines()
    assert "\nexec env PYTHONPATH=" in first and "--job-name=out-" in first and "srun" not in first


def test_runs_may_be_shared_by_the_processes_of_several_machines(tmp_path, capsys, monkeypatch):
    flags = ["--trainers", "CoOp", "--shots", "1", "--cluster", "slurm", "--dry-run"]
    shared = ["--nodes", "2", "--processes", "4", "--gpus", "4", "--cpus", "3"]
    assert main([*BASE, "--output", str(tmp_path), *flags, *shared]) == 0
    script = capsys.readouterr().out
    assert "--nodes=2\n" in script and "--ntasks-per-node=1\n" in script and "--cpus-per-task=12\n" in script
    monkeypatch.setenv("SLURM_JOB_ID", "100001")
    command = shlex.join(torchrun(nodes=2, processes=4, number=1))
    assert command.startswith("srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1")
    assert "--nproc-per-node=4 --nnodes=2 --rdzv-backend=c10d" in command and "--rdzv-id=100001-1 " in command
    assert "--standalone" in torchrun(1, 2, 0) and "srun" not in torchrun(1, 2, 0)


def test_jobs_may_be_not_requeued(tmp_path):
    script = Slurm(tmp_path, Resources(options={"no-requeue": True}), "name").script(1)
    assert "--no-requeue" in script and "--requeue\n" not in script


class Cluster:
    """A scheduler that knows what it is told, and takes whatever is submitted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int = 1000) -> None:
        self.arrays: list[tuple[list[Batch], list[str]]] = []
        self.states: dict[str, str] = {}
        self.refuses = ""
        monkeypatch.setattr(submitting, "most_elements", lambda: most)
        monkeypatch.setattr(submitting, "config_value", lambda key: "here")
        monkeypatch.setattr("runs.sweeps.standing.states", self.answer)
        monkeypatch.setattr(Slurm, "submit", lambda slurm, calls, after: self.take(calls, after, slurm.folder))

    def take(self, calls, after, folder):
        if self.refuses:
            raise SlurmError(self.refuses)
        self.arrays.append((list(calls), list(after)))
        number = 10 * len(self.arrays)
        names = [f"{number}_{index}" for index in range(len(calls))] if len(calls) > 1 else [str(number)]
        self.states |= dict.fromkeys(names, RUNNING)
        return [(name, folder / f"{name}.out") for name in names]

    def answer(self, submissions):
        return {job.job: JobState(self.states[job.job]) for job in submissions}

    def runs(self) -> list[list[str]]:
        """The names of the runs of every job, of the latest array."""
        short = " caltech101 1 shot seed "
        return [[errand.name.replace(short, "") for errand in call.errands] for call in self.arrays[-1][0]]


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    return Cluster(monkeypatch)


def submit(output: Path, *flags: str) -> int:
    words = [*BASE, "--output", str(output), "--trainers", "CoOp", "--shots", "1", "--seeds", "1-4"]
    return main([*words, "--cluster", "slurm", *flags])


def test_a_second_call_submits_what_was_lost_or_has_failed_and_nothing_twice(cluster, tmp_path, capsys):
    planned = jobs(tmp_path, "--trainers", "CoOp", "--shots", "1", "--seeds", "1-4")
    make(planned[0])
    assert submit(tmp_path, "--runs-per-job", "2") == 0
    assert cluster.runs() == [["CoOp2", "CoOp3"], ["CoOp4"]]
    assert submit(tmp_path) == 0 and len(cluster.arrays) == 1
    assert "complete: 1, under way: 3, submitted: 0" in capsys.readouterr().out

    journal = Journal(tmp_path)
    two, three = (os.path.relpath(job.folder, tmp_path) for job in planned[1:3])
    journal.write_task(Task("10_0", *Process.this(), started="", now=three, runs={two: {"failed": "why"}}))
    assert submit(tmp_path) == 0 and cluster.runs() == [["CoOp2"]]  # seed 3 is still under way in the first job
    cluster.states |= {"10_0": ENDED, "10_1": "gone"}
    make(planned[3])
    assert submit(tmp_path) == 0 and cluster.runs() == [["CoOp3"]]
    assert [run.folder for job in journal.submissions()[-1:] for run in job.runs] == [three]


def test_a_second_command_at_the_same_moment_waits_and_submits_nothing_twice(cluster, tmp_path):
    with Journal(tmp_path).hold():
        command = threading.Thread(target=submit, args=(tmp_path,))
        command.start()
        command.join(0.3)
        assert command.is_alive() and not cluster.arrays
    command.join()
    assert len(cluster.arrays) == 1 and submit(tmp_path) == 0 and len(cluster.arrays) == 1


def test_nothing_is_submitted_where_nobody_knows(cluster, tmp_path, capsys):
    assert submit(tmp_path, "--runs-per-job", "4") == 0
    cluster.states["10"] = UNKNOWN
    assert submit(tmp_path) == 1 and len(cluster.arrays) == 1
    said = capsys.readouterr().err
    assert "nobody can say what became of job 10" in said and "nothing is submitted" in said
    for job in jobs(tmp_path, "--trainers", "CoOp", "--shots", "1", "--seeds", "1-4"):
        make(job)
    assert submit(tmp_path) == 0  # there is nothing to ask


def test_arrays_are_cut_at_the_limit_and_a_refusal_keeps_what_was_submitted(monkeypatch, tmp_path, capsys):
    cluster = Cluster(monkeypatch, most=3)
    take = cluster.take

    def refuse(calls, after, folder):
        cluster.refuses = "sbatch: Job violates accounting/QOS policy" if cluster.arrays else ""
        return take(calls, after, folder)

    monkeypatch.setattr(cluster, "take", refuse)
    assert submit(tmp_path, "--runs-per-job", "1") == 1
    captured = capsys.readouterr()
    assert "submitted: 3 in 3 jobs (10)" in captured.out
    assert "QOS policy\nthe rest is not submitted; nothing is lost" in captured.err
    monkeypatch.setattr(cluster, "take", take)
    cluster.refuses = ""
    assert submit(tmp_path, "--runs-per-job", "1") == 0 and cluster.runs() == [["CoOp4"]]


def test_limits_of_arrays(monkeypatch):
    answers = {"scontrol": "MaxArraySize            = 1001\n", "sacctmgr": "\n400\n"}
    monkeypatch.setattr(scheduler, "ask", lambda *command: answers[command[0]])
    monkeypatch.setattr("runs.cluster.slurm.ask", lambda *command: answers[command[0]])
    assert most_elements() == 400
    answers["sacctmgr"] = "\n"
    assert most_elements() == 1001


def test_a_stage_waits_for_the_jobs_that_make_its_starts_whoever_submitted_them(cluster, tmp_path, capsys):
    words = [*BASE, "--output", str(tmp_path), "--shots", "1", "--seeds", "1", "--cluster", "slurm"]
    assert main([*words, "--trainers", "PLOTAdapter"]) == 1 and not cluster.arrays
    assert "which is not there and which no job makes" in capsys.readouterr().err
    assert main([*words, "--trainers", "PLOT", "CoOp"]) == 0
    assert main([*words, "--trainers", "PLOTAdapter", "TipAdapter", "PLOT"]) == 0
    (calls, after), (_, later) = cluster.arrays[-2:]
    assert [errand.name.split()[0] for call in calls for errand in call.errands] == ["TipAdapter"] and after == []
    assert later == ["10"]
    assert Journal(tmp_path).submissions()[-1].after == ("10",)


def test_scripts_go_to_the_cluster_with_their_own_trees(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA", "data")
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("SHOTS", "1")
    flags = ["caltech101", "4", "--cluster", "slurm", "--gpus", "1"]
    assert experiment(["plotpp/main_joint", *flags]) == 2
    assert "scripts/plotpp/main_visiononly.sh makes it" in capsys.readouterr().err
    assert experiment(["plotpp/main_visiononly", *flags]) == 0 and experiment(["plotpp/main_joint", *flags]) == 0
    assert [after for _, after in cluster.arrays] == [[], ["10"]]
    assert all((tmp_path / f"out_{part}/.cluster/submissions.jsonl").exists() for part in ("visiononly", "joint"))


# --- what a job makes ------------------------------------------------------------------------------------


def test_a_batch_travels_as_text():
    errand, process = Errand("a", "b", 1, ["--root", "c"]), Process("host", 1, "born")
    batch = Batch("out", [errand], job="local-1", at_once=2, devices=["0"], after=[process])
    assert Batch.of_json(batch.to_json()) == batch


def test_a_job_that_begins_again_leaves_failed_runs_alone_and_a_full_disk_costs_no_run(tmp_path, monkeypatch, capsys):
    planned = jobs(tmp_path, "--trainers", "CoOp", "--shots", "1", "--seeds", "1-3")
    errands = [Errand.of(job, tmp_path) for job in planned]
    diary = Diary(Journal(tmp_path), "7")
    first, second, third = diary.prepare(errands)
    diary.begins(first)
    assert Journal(tmp_path).task("7").now == errands[0].folder
    diary.is_over(first, "ValueError: no")
    diary.begins(second)
    again = Diary(Journal(tmp_path), "7")
    assert again.task.restarts == 1 and [job.name for job in again.prepare(errands)] == [second.name, third.name]
    bad = errands[2]._replace(argv=[*errands[2].argv, "OPTIM.LRR", "1"])
    assert list(again.prepare([bad])) == [] and "OPTIM.LRR" in Journal(tmp_path).task("7").failure(bad.folder)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "write_task", full)
    again.begins(second)
    again.is_over(second, "")
    assert again.task.runs[errands[1].folder] == COMPLETE and "No space left" in capsys.readouterr().err


def test_a_run_that_is_ended_with_its_sweep_has_not_failed(tmp_path):
    planned = jobs(tmp_path, "--trainers", "CoOp", "--shots", "1", "--seeds", "1-3")
    begun, stopped, over = threading.Barrier(2), threading.Event(), list[str]()

    class Watch(Observer):
        def is_over(self, job: Job, reason: str) -> None:
            over.append(job.name)

    def run(request):
        if request.cfg.SEED == 1:
            return {}
        begun.wait(timeout=30)
        if request.cfg.SEED == 2:
            raise KeyboardInterrupt
        stopped.wait(timeout=30)
        raise RuntimeError("its process was killed")

    with pytest.raises(KeyboardInterrupt):
        run_jobs(planned, run, lambda text, done=False: None, at_once=2, observer=Watch())
    stopped.set()
    time.sleep(0.1)
    assert over == [planned[0].name]


def test_a_job_that_gets_no_further_is_not_requeued_for_ever(tmp_path, monkeypatch):
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr("runs.sweeps.task.ask", lambda *command: asked.append(command))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (job,) = jobs(tmp_path, "--trainers", "CoOp", "--shots", "1", "--seeds", "1")
    errand = Errand.of(job, tmp_path)
    for moves, expected in ((True, [("scontrol", "requeue", "7")]), (False, [])):
        asked.clear()
        diary = Diary(Journal(tmp_path), f"7_{int(moves)}")
        list(diary.prepare([errand]))
        diary.begins(job)
        with monkeypatch.context() as patch:
            if moves:
                patch.setattr("runs.sweeps.task.state_of", lambda job: "goes on after epoch 2")
            diary.stop(requeue=True)
        assert asked == expected
    assert diary.task.failure(errand.folder) == STUCK
