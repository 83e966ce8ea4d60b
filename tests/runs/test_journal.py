"""The journal of a tree's submissions: what was written is read, what was torn or forged is named and passed over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from results.__main__ import main
from runs.cluster.journal import COMPLETE, FOLDER, LOCAL, SLURM, Journal, PlannedRun, Submission, Task
from runs.cluster.processes import Process
from runs.lock import RunFolderError
from runs.record import find_runs
from tests.support.programs import REPOSITORY
from tests.support.records import make_record, write_run, write_sweep

RUNS = (PlannedRun("PLOT demo 1 shot seed 1", "OP_N4/demo/PLOT/demo_1shots/seed1"), PlannedRun("CoOp", "demo/CoOp/x"))


def submission(job: str = "12_3", **changes) -> Submission:
    values = {"after": ("11",), "log": ".cluster/submitit/12_3.out", "host": "login1", "submitted": "2026-01-02"}
    return Submission(job, SLURM, RUNS, **{**values, **changes})


def lines(journal: Journal) -> str:
    return (journal.folder / "submissions.jsonl").read_text()


def test_what_was_submitted_is_read_again(tmp_path):
    journal = Journal(tmp_path)
    assert not journal.exists and journal.submissions() == [] and list(tmp_path.iterdir()) == []
    local = Submission("77", LOCAL, RUNS[:1], pid=77, born="1", host="here", submitted="2026-01-02")
    journal.append([submission(), local])
    journal.append([])
    journal.append([replace(local, pid=78)])  # the same job again: what was said last
    assert journal.exists
    assert Journal(tmp_path).submissions() == [submission(), replace(local, pid=78)]
    journal.cancel([submission()])
    cancelled, other = journal.submissions()
    assert cancelled.cancelled and not other.cancelled
    assert replace(cancelled, cancelled="") == submission()
    assert sorted(path.name for path in journal.folder.iterdir()) == ["submissions.jsonl"]  # no lock is left


@pytest.mark.parametrize("bad", [{"job": "../x"}, {"job": ""}, {"log": "/etc/passwd"}, {"cluster": "pbs"}])
def test_what_could_not_be_read_again_is_not_written(tmp_path, bad):
    with pytest.raises(ValueError, match=f"no valid '{next(iter(bad))}'"):
        Journal(tmp_path).append([replace(submission(), **bad)])
    with pytest.raises(ValueError, match="folder"):
        Journal(tmp_path).append([replace(submission(), runs=(PlannedRun("x", "a/../../b"),))])
    assert not Journal(tmp_path).exists


def test_a_task_is_read_as_it_was_written(tmp_path):
    journal = Journal(tmp_path)
    assert journal.task("12_3") is None
    task = Task.begin("12_3", restarts=2)
    task = replace(task, now=RUNS[1].folder, runs={RUNS[0].folder: COMPLETE, "other": {"failed": "no images"}})
    journal.write_task(task)
    assert journal.task("12_3") == task
    assert task.process == Process.this() and task.process.alive
    assert [task.failure(folder) for folder in ("other", RUNS[0].folder, "none")] == ["no images", "", ""]
    with pytest.raises(ValueError, match="no name of a job"):
        journal.task("../submissions")


def test_torn_and_foreign_lines_are_named_and_passed_over(tmp_path):
    journal = Journal(tmp_path)
    journal.append([submission()])
    good = lines(journal)
    foreign = {**json.loads(good), "job": "9", "runs": [{"name": "x", "folder": "/etc"}]}
    (journal.folder / "submissions.jsonl").write_text(
        f"[]\n{json.dumps(foreign)}\n\x80not json\n{'[' * 100_000}\n{good}" + good[: len(good) // 2]
    )
    with pytest.warns(UserWarning, match="1, 2, 3, 4, 6"):
        assert journal.submissions() == [submission()]
    journal.append([submission("13")])  # begins a line of its own behind the torn one
    with pytest.warns(UserWarning, match="passed over: 1, 2"):
        assert [each.job for each in journal.submissions()] == ["12_3", "13"]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"job": "12_4", "host": "", "pid": 1, "started": ""}', '{"job": "12_3", "pid": -1}'],
)
def test_a_torn_or_foreign_task_is_named_and_passed_over(tmp_path, text):
    journal = Journal(tmp_path)
    (journal.folder / "tasks").mkdir(parents=True)
    (journal.folder / "tasks" / "12_3.json").write_text(text)
    with pytest.warns(UserWarning, match=r"12_3\.json is passed over"):
        assert journal.task("12_3") is None


def test_nothing_outside_the_tree_is_read(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    journal = Journal(tmp_path / "tree")
    (journal.folder / "tasks").mkdir(parents=True)
    (journal.folder / "submissions.jsonl").symlink_to(secret)
    os.mkfifo(journal.folder / "tasks" / "1.json")  # reading it would wait for ever
    (journal.folder / "tasks" / "2.json").symlink_to(journal.folder / "tasks" / "2.json")
    with pytest.warns(UserWarning, match="no file within"):
        assert journal.submissions() == [] and journal.task("1") is None and journal.task("2") is None
    (journal.folder / "log").symlink_to(secret)
    assert journal.log(submission(log=".cluster/log")) is None
    assert journal.log(submission(log=".cluster/tasks")) is None and journal.log(submission(log="")) is None
    (journal.folder / "tasks" / "3.json").write_text(" " * 2000)
    monkeypatch.setattr("runs.cluster.journal.MOST_BYTES", {"tasks": 1000})
    with pytest.warns(UserWarning, match="larger than 1,000"):
        assert journal.task("3") is None


def test_commands_append_one_at_a_time(tmp_path):
    def append(number: int) -> None:
        Journal(tmp_path).append([submission(f"{number}_{element}") for element in range(20)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(append, range(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Journal(tmp_path).submissions()) == 160
    journal = Journal(tmp_path)
    with journal.hold():
        journal.append([submission("again")])  # who holds it may write
        message = rf"submitting or cancelling .* \(process {os.getpid()} on"
        with pytest.raises(RunFolderError, match=message), Journal(tmp_path).hold(patience=0):
            pytest.fail("held twice")


def test_a_number_that_was_given_out_again_is_another_process():
    this = Process.this()
    assert this.here and this.alive and this.born
    assert not this._replace(born="00000000-1").alive and not this._replace(host="elsewhere").alive
    child = subprocess.Popen(["sleep", "60"])
    process = Process.of(child.pid)
    assert process.alive
    child.kill()
    deadline = time.monotonic() + 10
    while process.alive and time.monotonic() < deadline:  # it is dead before anybody waits for it
        time.sleep(0.01)
    assert not process.alive
    child.wait()
    assert not process.alive


def test_readers_of_results_pass_hidden_folders_over(tmp_path, capsys):
    write_sweep(tmp_path, shots=(1,), seeds=(1,))
    before = {run.folder for run in find_runs(tmp_path)}
    hidden = tmp_path / FOLDER / "submitit" / "demo/CoOp/demo_1shots/nctx16_cscFalse_ctpend/seed2"
    write_run(hidden, make_record("CoOp", 1, 2))
    for name, text in (("ablation.json", "{"), ("transport/index.json", "{"), ("transport/claims.json", "{")):
        (hidden / name).parent.mkdir(exist_ok=True)
        (hidden / name).write_text(text)
    assert {run.folder for run in find_runs(tmp_path)} == before
    for command in ("table", "fewshot", "report"):
        assert main([command, str(tmp_path), "--allow-missing"]) == 0
        said = "".join(capsys.readouterr())
        assert FOLDER not in said and "seed2" not in said
    assert FOLDER not in (tmp_path / "report.html").read_text()


def test_the_journal_is_read_without_torch():
    code = "import sys, runs.cluster.journal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
