"""`python -m results status` and `cancel`: what is said of every run, whatever has become of its job."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dassl.plain.writing import host
from results.__main__ import main
from runs.cluster import scheduler, status
from runs.cluster.journal import COMPLETE, LOCAL, SLURM, Journal, PlannedRun, Submission, Task
from runs.cluster.processes import Process
from runs.cluster.scheduler import ENDED, GONE, QUEUED, RUNNING, UNKNOWN, JobState
from runs.cluster.status import STATES, read_status
from tests.support.programs import REPOSITORY
from tests.support.records import make_record, write_run

SINCE = "2026-01-02T03:04:05+00:00"
LATER = "2026-01-02 04:05:06+00:00"


class Tree:
    """A tree of runs called a, b, ... and what it has submitted; the scheduler says what it is to say."""

    def __init__(self, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.output, self.journal, self.answers = output, Journal(output), dict[str, JobState]()
        self.asked: list[str] = []
        monkeypatch.setattr(scheduler, "states", self._states)

    def _states(self, submissions) -> dict[str, JobState]:
        self.asked = [job.job for job in submissions]
        return {job: self.answers[job] for job in self.asked}

    def submit(self, job: str, *runs: str, answer: JobState, cluster: str = SLURM, log: str = "", **task) -> Submission:
        planned = tuple(PlannedRun(f"PLOT {run}", run) for run in runs)
        submission = Submission(job, cluster, planned, submitted=SINCE, log=f".cluster/{job}.out" if log else "")
        self.journal.append([submission])
        if log:
            (self.journal.folder / f"{job}.out").write_text(log)
        if task:
            self.journal.write_task(replace(Task.begin(job), host="node7", started=SINCE, **task))
        self.answers[job] = answer
        return submission

    def complete(self, run: str) -> None:
        write_run(self.output / run, make_record("PLOT", 1, 1))

    def begin(self, run: str, epoch: int, **holder) -> None:
        (self.output / run).mkdir()
        (self.output / run / "log.txt").write_text(f"epoch [1/9] batch [1/2] x\nepoch [{epoch}/9] batch [1/2] x\n")
        if holder:
            (self.output / run / ".holder").write_text(json.dumps({"pid": os.getpid(), "since": LATER, **holder}))

    def read(self) -> dict[str, status.RunStatus]:
        return {run.run: run for run in read_status(self.output)}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    return Tree(tmp_path, monkeypatch)


def test_runs_of_a_job_that_runs(tree):
    outcomes = {"a": COMPLETE, "b": {"failed": "no"}}
    tree.submit("5_1", *"abcd", answer=JobState(RUNNING, "node7", SINCE), now="c", runs=outcomes)
    tree.complete("a")
    tree.begin("c", epoch=3)
    runs = tree.read()
    assert [runs[name].state for name in "abcd"] == ["complete", "failed", "running", "queued"]
    assert (runs["c"].host, runs["c"].since, runs["c"].epoch, runs["c"].epochs) == ("node7", SINCE, 3, 9)
    assert (runs["b"].reason, runs["d"].reason, runs["d"].name) == ("no", "its job runs", "PLOT d")
    tree.begin("d", epoch=1, host="node7")  # a job may make several at a time
    assert tree.read()["d"].state == "running"
    tree.begin("b2", epoch=1)
    tree.submit("5_2", "b2", "b3", answer=JobState(QUEUED, reason="Resources"))
    tree.begin("b3", epoch=1, host="node7", since="2026-01-01 00:00:00+00:00")
    assert tree.read()["b3"].reason == "Resources"
    tree.answers["5_2"] = JobState(RUNNING, "node8", SINCE)
    assert [tree.read()[name].state for name in ("b2", "b3")] == ["queued", "queued"]  # b3's is from an earlier job
    tree.submit("5_3", "b2", answer=JobState(RUNNING, "node8", SINCE))  # the latest job counts
    assert tree.read()["b2"].job == "5_3" and tree.read()["b2"].state == "running"


@pytest.mark.parametrize(
    ("answer", "begun", "state", "reason"),
    [
        (JobState(ENDED, "n1", SINCE, "OUT_OF_MEMORY"), True, "failed", "OUT_OF_MEMORY: Killed"),
        (JobState(ENDED, "n1", SINCE, "FAILED (NonZeroExitCode)"), None, "failed", "FAILED (NonZeroExitCode): Killed"),
        (JobState(ENDED, "n1", SINCE, "NODE_FAIL"), False, "lost", "NODE_FAIL: Killed"),
        (JobState(ENDED, "n1", SINCE, "COMPLETED"), True, "lost", "COMPLETED: Killed"),
        (JobState(ENDED, "n1", SINCE, "CANCELLED"), True, "cancelled", ""),
        (JobState(GONE), True, "lost", "Killed"),
        (JobState(GONE), None, "lost", "Killed"),
        (JobState(UNKNOWN, reason="no answer"), True, "unknown", "no answer"),
        (JobState(QUEUED, reason="BeginTime"), True, "queued", "BeginTime"),  # it was requeued
        (JobState(RUNNING, "n1", SINCE, "COMPLETING"), True, "running", "COMPLETING"),
    ],
)
def test_what_became_of_a_job(tree, answer, begun, state, reason):
    """`begun`: whether the job has begun the run; None where it has not begun at all."""
    task = {} if begun is None else {"now": "a" if begun else "other"}
    tree.submit("8", "a", "other", answer=answer, log="Traceback\n\n  Killed \r\n\nsrun: Force Terminated\n", **task)
    assert (tree.read()["a"].state, tree.read()["a"].reason) == (state, reason)
    assert tree.read()["a"].state in STATES
    if not answer.live:
        tree.journal.write_task(replace(Task.begin("8"), runs={"a": {"failed": "KeyError: no such key"}}))
        assert tree.read()["a"].reason == "KeyError: no such key"


def test_a_job_that_could_write_nothing_down(tree):
    """On a full disk, perhaps."""
    tree.submit("6", "a", "b", "c", answer=JobState(RUNNING, "node7", SINCE))
    tree.complete("a")
    tree.begin("b", epoch=2, host="node7")
    assert [run.state for run in tree.read().values()] == ["running", "queued", "complete"]
    tree.answers["6"] = JobState(ENDED, "node7", SINCE, "NODE_FAIL")
    assert [run.state for run in tree.read().values()] == ["failed", "failed", "complete"]


def test_a_cancelled_job(tree):
    outcomes = {"bad": {"failed": "KeyError: no such key"}}
    job = tree.submit("9", "a", "b", "bad", answer=JobState(GONE), now="a", runs=outcomes)
    assert [run.state for run in tree.read().values()] == ["failed", "lost", "lost"]
    tree.journal.cancel([job])
    assert [run.state for run in tree.read().values()] == ["failed", "cancelled", "cancelled"]
    tree.answers["9"] = JobState(RUNNING, "n1", SINCE)
    assert tree.read()["a"].reason == "is being cancelled"
    tree.submit("10", "a", answer=JobState(QUEUED, reason="Priority"))
    assert tree.read()["a"].state == "queued"


def test_runs_without_a_job(tree):
    tree.begin("mine", epoch=2, host=host())
    tree.begin("left", epoch=2, host=host(), pid=2**22 + 1)
    tree.begin("elsewhere", epoch=2, host="node99")
    tree.begin("bare", epoch=2)
    tree.complete("done")
    runs = tree.read()
    assert {name: run.state for name, run in runs.items()} == {
        "mine": "running", "left": "unfinished", "elsewhere": "unknown", "bare": "unfinished", "done": "complete"
    }  # fmt: skip
    assert (runs["mine"].since, runs["mine"].epoch) == (LATER, 2) and "node99 alone" in runs["elsewhere"].reason
    assert tree.asked == []
    tree.submit("3", "mine", "done", answer=JobState(GONE))
    assert tree.read()["mine"].state == "running"  # somebody makes it again by hand
    tree.submit("4", "done", answer=JobState(GONE))
    tree.read()
    assert tree.asked == ["3"]  # where all is complete, there is nothing to ask


def test_local_jobs(tree, monkeypatch):
    monkeypatch.undo()
    child = subprocess.Popen(["sleep", "60"])
    job = Submission("local-1", LOCAL, (PlannedRun("A", "a"), PlannedRun("B", "b")), **Process.of(child.pid)._asdict())
    tree.journal.append([job])
    assert {run.reason for run in tree.read().values()} == {"its job has yet to begin"}
    tree.journal.write_task(replace(Task.begin("local-1"), now="a"))
    assert [(run.state, run.host) for run in tree.read().values()] == [("running", platform.node()), ("queued", "")]
    assert main(["cancel", str(tree.output), "--dry-run"]) == 0
    assert child.poll() is None
    assert main(["cancel", str(tree.output)]) == 0
    assert child.wait(10) == -signal.SIGTERM
    assert {run.state for run in tree.read().values()} == {"cancelled"}


def test_forged_files_lead_nowhere_and_command_no_terminal(tree, tmp_path_factory, capsys):
    secret = tmp_path_factory.mktemp("secret")
    write_run(secret, make_record("PLOT", 1, 1))
    (secret / "log.txt").write_text("secret")
    bad = "a\x1b[2J"
    tree.submit("1", bad, answer=JobState(GONE), log="\x1b]0;owned\x07 end\n")
    tree.submit("2", "link/b", "x" * 255, answer=JobState(GONE))
    (tree.output / "link").symlink_to(secret.parent)
    tree.submit("3", "c", answer=JobState(GONE))
    (tree.journal.folder / "3.out").symlink_to(secret / "log.txt")
    (tree.output / "c").mkdir()
    os.mkfifo(tree.output / "c" / ".holder")
    (tree.journal.folder / "submitit").mkdir()
    (tree.journal.folder / "submitit" / "4_submitted.pkl").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    (tree.journal.folder / "tasks").mkdir()
    (tree.journal.folder / "tasks" / "3.json").write_text('{"job": "3"}')
    with pytest.warns(UserWarning, match=r"3\.json is passed over"):
        assert main(["status", str(tree.output)]) == 1
    said, warned = capsys.readouterr()
    assert "\x1b" not in said + warned and "\x07" not in said and r"a\x1b[2J" in said and "secret" not in said
    assert "a link leads out of" in said
    (tree.journal.folder / "tasks" / "3.json").unlink()
    for style in ("csv", "json"):
        assert main(["status", str(tree.output), "--format", style]) == 1
        assert "\x1b" not in capsys.readouterr().out


def test_the_command(tree, capsys, monkeypatch):
    tree.complete("a")
    assert main(["status", str(tree.output)]) == 0
    assert capsys.readouterr().out == "1 run: 1 complete\n\nstate     run\n--------  -----\ncomplete  a\n"
    tree.submit("7_1", "b", "c", answer=JobState(UNKNOWN, reason="no answer"), runs={"b": {"failed": "=1+1"}})
    tree.submit("7_2", "d", answer=JobState(GONE))
    assert main(["status", str(tree.output)]) == 1
    said, warned = capsys.readouterr()
    assert said.startswith("4 runs: 1 complete, 1 unknown, 1 lost, 1 failed\nfailed: its last words")
    assert warned == "unknown: no answer (1 run)\n"
    assert [line.split()[0] for line in said.splitlines()[-4:]] == ["failed", "lost", "unknown", "complete"]
    assert main(["status", str(tree.output), "--failed", "--format", "csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["state"], row["run"], row["job"]) for row in rows] == [("failed", "b", "7_1"), ("lost", "d", "7_2")]
    assert rows[0]["reason"] == "'=1+1"
    out = tree.output / "status.json"
    assert main(["status", str(tree.output), "--state", "unknown", "--format", "json", "--out", str(out)]) == 1
    written = json.loads(out.read_text())
    assert written["counts"] == {"complete": 1, "unknown": 1, "lost": 1, "failed": 1} and len(written["status"]) == 1

    capsys.readouterr()
    assert main(["status", str(tree.output / "none")]) == 2 and main(["cancel", str(tree.output / "a")]) == 2
    (tree.output / "empty").mkdir()
    assert main(["status", str(tree.output / "empty")]) == 2 and main(["status", str(tree.output), "--watch", "0"]) == 2
    assert "has submitted nothing" in capsys.readouterr().err


def test_watching_ends_when_nothing_changes_any_more(tree, capsys, monkeypatch):
    tree.submit("1", "a", "b", answer=JobState(QUEUED, reason="Priority"))
    steps = iter([lambda: tree.complete("a"), lambda: None, lambda: tree.answers.update({"1": JobState(GONE)})])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(steps)())
    assert main(["status", str(tree.output), "--watch", "2.5"]) == 1
    lines = [line.partition("  ")[2] for line in capsys.readouterr().out.splitlines()[:3]]
    assert lines == ["2 runs: 2 queued", "2 runs: 1 complete, 1 queued", "2 runs: 1 complete, 1 lost"]


def test_on_a_real_slurm(slurm, tmp_path, capsys, monkeypatch):
    """Jobs that are killed, whose node dies, that wait, are cancelled, or that nobody can be asked about."""
    journal = Journal(tmp_path)

    def submit(run: str, script: str, *flags: str) -> str:
        job = slurm.submit(script, "--job-name=tree", f"--output={journal.folder}/%j.out", *flags)
        log = f".cluster/{job}.out"
        journal.append([Submission(job, SLURM, (PlannedRun(run, run),), name="tree", site="test", log=log)])
        return job

    def states() -> dict[str, str]:
        return {run.run: run.state for run in read_status(tmp_path)}

    journal.folder.mkdir()
    submit("killed", "echo begun; kill -9 $$", "--nodelist=node1")
    submit("good", f"cp {write_run(tmp_path / 'a', make_record('PLOT', 1, 1))}/result.json .", "--nodelist=node2",
           f"--chdir={write_run(tmp_path / 'good', {})}")  # fmt: skip
    slurm.until(lambda: states() == {"a": "complete", "killed": "failed", "good": "complete"})
    assert [run.reason for run in read_status(tmp_path)][0].startswith("FAILED (")
    stays = submit("stays", "sleep 60", "--nodelist=node1")
    other = slurm.submit("sleep 60", "--nodelist=node2")  # of another tree
    waits = submit("waits", "sleep 60", "--nodelist=node2")
    slurm.until(lambda: (states()["stays"], states()["waits"], slurm.state(other)) == ("running", "queued", "RUNNING"))
    reasons = {run.run: run.reason for run in read_status(tmp_path)}
    assert reasons["waits"] in ("Resources", "Priority") and reasons["stays"] == ""

    slurm.ask("scontrol", "update", "NodeName=node1", "State=DOWN", "Reason=test")
    slurm.until(lambda: states()["stays"] == "queued")  # requeued
    slurm.ask("scontrol", "update", "NodeName=node1", "State=RESUME")

    slurm.end("slurmctld")
    monkeypatch.setattr(scheduler, "PATIENCE", 1)
    try:
        expected = dict.fromkeys(("killed", "stays", "waits"), "unknown") | dict.fromkeys(("a", "good"), "complete")
        assert states() == expected
        assert main(["cancel", str(tmp_path)]) == 1
        assert "not ended: 4 jobs: scontrol has not answered" in capsys.readouterr().err
    finally:
        monkeypatch.undo()
        slurm.start_controller()

    assert main(["cancel", str(tmp_path)]) == 0
    assert "told to end: 2 jobs with 2 runs" in capsys.readouterr().out
    slurm.until(lambda: {states()[run] for run in ("stays", "waits")} == {"cancelled"})
    assert slurm.state(other) == "RUNNING" and {slurm.state(job) for job in (stays, waits)} == {"CANCELLED"}


def test_status_imports_no_torch(tmp_path):
    code = "import sys; from results.__main__ import main; main(sys.argv[1:]); sys.exit(3 * ('torch' in sys.modules))"
    write_run(tmp_path / "a", make_record("PLOT", 1, 1))
    done = subprocess.run([sys.executable, "-c", code, "status", str(tmp_path)], cwd=REPOSITORY, capture_output=True)
    assert done.returncode == 0 and b"1 complete" in done.stdout
