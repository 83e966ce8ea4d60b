"""One run on two processes, started by torchrun as users start it: the same as of one, and how it ends when one fails.

A start costs seconds, so one serves all tests: its processes make several runs, one after another, in the last of which
one of them is killed.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import train
from dassl.engine import processes
from dassl.engine.shares import in_rounds, loader_share
from dassl.engine.state import STATE_NAME
from dassl.plain import ranks
from dassl.plain.console import piped
from dassl.utils import set_random_seed
from runs import execute
from runs.lock import RunFolderError
from tests.support.closeness import assert_close
from tests.support.engine import TinyPlugin, tiny_cfg
from tests.support.programs import REPOSITORY, arguments, make_world

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not torch.distributed.is_available(), reason="needs gloo, and the signals of Unix"
)

EVERY_STEP = ("TRAIN.PRINT_FREQ", "1")
OPTIONS = (*EVERY_STEP, "FEATURE_CACHE.USE", "False", "DATALOADER.TEST.BATCH_SIZE", "5", "TEST.FINAL_MODEL", "best_val")


def record(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def torchrun(plan: Path, entries: list[dict]) -> subprocess.Popen:
    plan.write_text(json.dumps(entries))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [sys.executable, *command, "-m", "tests.support.ranks_program", str(plan)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of all runs; exit statuses of rank 0 and 1, run by run; what was printed on stdout and on stderr."""
    folder = make_world(tmp_path_factory.mktemp("ranks"))

    def argv(name, *options, trainer="CoOp", seed=1):
        return arguments(folder, folder / name, *EVERY_STEP, *options, trainer=trainer, seed=seed)

    train.run(argv("single", *OPTIONS))  # which also draws the picks
    with pytest.MonkeyPatch.context() as patch:
        stop_in_second_epoch(patch)
        assert train.main(argv("one to two")) == 143
    assert (folder / "one to two" / STATE_NAME).exists()
    many = torchrun(folder / "many.json", [
        {"argv": argv("PLOT two", trainer="PLOT")},
        {"argv": argv("PLOTPP two", trainer="PLOTPP")},
        {"argv": argv("double", *OPTIONS)},
        {"argv": argv("one to two")},
        {"argv": argv("two to one"), "deed": "stop"},
        {"argv": argv("unseeded", "DATALOADER.TRAIN_X.BATCH_SIZE", "5", seed=-1)},
        {"tiny": str(folder / "tiny two")},
        {"argv": argv("bad key", "OPTIM.LR", "fast")},
        {"argv": argv("failed"), "deed": "fail"},
        {"argv": argv("hung", "TRAIN.RANK_MINUTES", "0.1"), "deed": "hang"},
        {"argv": argv("killed"), "deed": "die"},
    ])  # fmt: skip
    train.run(argv("whole"))
    for trainer in ("PLOT", "PLOTPP"):
        train.run(argv(f"{trainer} one", trainer=trainer))
    set_random_seed(5)
    TinyPlugin(tiny_cfg(folder / "tiny one", "TEST.FINAL_MODEL", "best_val")).train()
    said = many.communicate(timeout=200)
    statuses = [json.loads((folder / f"many.json.rank{rank}").read_text())[2:] for rank in (0, 1)]
    train.run(argv("two to one"))
    return folder, statuses, said


def stop_in_second_epoch(patch: pytest.MonkeyPatch) -> None:
    from tests.support import ranks_program

    patch.setattr(ranks_program.CoOp, "forward_backward", ranks_program.step)
    patch.setattr(ranks_program, "deed", "stop")
    patch.setattr(ranks_program, "rank", lambda: 1)


# --- the same as of one process --------------------------------------------------------------------------


def test_two_processes_are_as_one(world):
    folder, statuses, said = world
    assert [status[:6] for status in statuses] == [[0, 0, 143, 0, 0, 2]] * 2, said[1]
    one, two = record(folder / "single"), record(folder / "double")
    assert (one["processes"], two["processes"]) == (1, 2)
    for key in ("accuracy", "total", "correct", "per_class", "confusions", "looks", "data", "config_digest"):
        assert one[key] == two[key], key
    assert len(one["history"]) == len(two["history"]) == 3
    for ours, theirs in zip(two["history"], one["history"], strict=True):
        assert_close(ours["loss"], theirs["loss"])
        assert (ours["acc"], ours["lr"], ours["epoch"]) == (theirs["acc"], theirs["lr"], theirs["epoch"])
    assert_close(two["calibration"]["temperature"], one["calibration"]["temperature"], tolerance=1e-3)
    assert (two["calibration"]["images"], two["calibration"]["reason"]) == (16, "")
    of_one, of_two = (np.load(folder / name / "predictions.npz") for name in ("single", "double"))
    for key in ("images", "labels", "predicted"):
        assert (of_one[key] == of_two[key]).all()


@pytest.mark.parametrize("trainer", ["PLOT", "PLOTPP"])
def test_transport_on_two_processes_is_as_on_one(world, trainer):
    one, two = (record(world[0] / f"{trainer} {number}") for number in ("one", "two"))
    assert two["processes"] == 2 and (two["accuracy"], two["confusions"]) == (one["accuracy"], one["confusions"])
    for ours, theirs in zip(two["history"], one["history"], strict=True):
        assert_close(ours["loss"], theirs["loss"])
        assert_close(ours["prompt_cosine"], theirs["prompt_cosine"])
    assert two["transport"].keys() == one["transport"].keys()
    for key in ("iterations_mean", "distance_from_uniform", "converged_share"):
        assert_close(two["transport"][key], one["transport"][key])


LINE = re.compile(r"^(epoch \[.*?\] batch \[.*?\]) .* loss (\S+) \(\S+\) acc (\S+ \(\S+\) lr \S+) ", re.MULTILINE)


def test_the_first_process_alone_writes_and_speaks(world):
    folder, _, said = world
    logs = [(folder / name / "log.txt").read_text() for name in ("single", "double")]
    one, two = (LINE.findall(log) for log in logs)
    assert len(one) == 12 and [(step, rest) for step, _, rest in one] == [(step, rest) for step, _, rest in two]
    assert_close([float(loss) for _, loss, _ in two], [float(loss) for _, loss, _ in one], tolerance=1e-3)
    assert "2 processes, each with" not in logs[0] and "2 processes, each with" in logs[1]

    def files(name):
        paths = (folder / name).rglob("*")
        return sorted(str(path.relative_to(folder / name)) for path in paths if "events" not in path.name)

    assert files("double") == files("single") and len(list((folder / "double").rglob("*events*"))) == 1
    assert said[0].count("Result written to ") == 5  # of the runs that have finished, each once
    assert said[0].count("epoch [2/3] batch [2/4]") == 8  # of those that came so far


def test_a_run_goes_on_with_another_number_of_processes(world):
    folder = world[0]
    whole = record(folder / "whole")
    for name, number in (("one to two", 2), ("two to one", 1)):
        log = (folder / name / "log.txt").read_text()
        assert f"{STATE_NAME} after epoch 1" in log and log.count("epoch [1/3] batch [4/4]") == 1
        resumed = record(folder / name)
        assert resumed["processes"] == number and resumed["accuracy"] == whole["accuracy"]
        for ours, theirs in zip(resumed["history"], whole["history"], strict=True):
            assert_close(ours["loss"], theirs["loss"])
        assert not (folder / name / STATE_NAME).exists()


def test_without_a_seed_and_with_an_odd_batch(world):
    """All processes learned the same (the program looks), although nothing but rank 0's draw makes them."""
    unseeded = record(world[0] / "unseeded")
    assert unseeded["seed"] == -1 and unseeded["accuracy"] is not None
    uneven = "does not divide by the 2 processes: some processes have more to do"
    assert [text for text in unseeded["warnings"] if uneven in text]


def test_a_trainer_that_shares_out_nothing_is_the_same_to_the_last_bit(world):
    one, two = (
        torch.load(world[0] / name / "prompt_learner/model.pth.tar-6", weights_only=True)
        for name in ("tiny one", "tiny two")
    )
    assert torch.equal(one["state_dict"]["ctx"], two["state_dict"]["ctx"])
    assert one["engine"]["history"] == two["engine"]["history"] and one["engine"]["best_result"] > 0
    assert torch.equal(one["engine"]["rng"]["torch"], two["engine"]["rng"]["torch"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_share_of_a_loader_reads_no_other_images(workers, monkeypatch):
    loader = DataLoader(Looked(), batch_size=4, shuffle=True, num_workers=workers)
    torch.manual_seed(3)
    whole, after = [batch.tolist() for batch in loader], torch.rand(())
    monkeypatch.setattr(ranks, "_joined", True)
    monkeypatch.setenv("WORLD_SIZE", "4")
    shares = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        torch.manual_seed(3)
        share = loader_share(loader)
        Looked.at.clear()
        shares.append([batch.tolist() for batch in share])
        assert torch.rand(()) == after  # of a whole pass
        assert len(share) == len(shares[-1]) and (workers or Looked.at == sum(shares[-1], []))
    assert [batch for group in zip_longest(*shares) for batch in group if batch] == whole


class Looked(Dataset):
    """21 images: five batches of four, and one."""

    at: ClassVar[list[int]] = []

    def __len__(self):
        return 21

    def __getitem__(self, index):
        self.at.append(index)
        return index


# --- what cannot be, seen by rank 1 of 2 -----------------------------------------------------------------


@pytest.fixture
def second(monkeypatch):
    """Be the second of two processes; returns where the answers of both to `gather` are put, one after another."""
    answers: list[list] = []
    monkeypatch.setattr(ranks, "_joined", True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(processes, "gather", lambda value, place="": answers.pop(0))
    monkeypatch.setattr(processes, "highest", lambda numbers, place: list(numbers))
    return answers


def test_a_machine_that_sees_another_folder(second, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "SHARED_SECONDS", 0)
    second += [[True, None]]  # the first process has written its config.yaml
    request = SimpleNamespace(cfg=SimpleNamespace(OUTPUT_DIR=str(tmp_path)), mode="train")
    with pytest.raises(RunFolderError, match=r"is not here what it is on the machine of rank 0; choose .* share"):
        execute._open_together(request)
    second += [[4, 0]]
    with pytest.raises(ranks.RankError, match="finished epochs is 4 on rank 0, but 0 on rank 1; share the folder"):
        processes.same(0, "the number of finished epochs", "; share the folder")


def test_a_score_that_fails_ends_the_test_of_all_in_that_round(second):
    second += [
        [(("a",), None), (("b",), None)],  # batches 0 and 1
        [(("c",), None), (None, None)],  # there is no fourth batch
        [(("a",), None), (None, ("rank 1 on node2: no score", "its traceback"))],
    ]
    assert list(in_rounds(iter(["one"]), str.upper)) == ["a", "b", "c"]
    with pytest.raises(ranks.RankError, match="^rank 1 on node2: no score$") as failure:
        list(in_rounds(iter(["one"]), lambda batch: 1 / 0))
    assert failure.value.details == "its traceback"


# --- one of them fails -----------------------------------------------------------------------------------


def test_a_process_that_fails_ends_all_with_its_message(world):
    folder, statuses, said = world
    assert [status[6] for status in statuses] == [1, 1]
    message = re.findall("error: (rank 1 on .*: ZeroDivisionError: division by zero)\n", said[1])
    assert len(message) == 1
    log = (folder / "failed" / "log.txt").read_text()
    assert log.endswith(f"error: {message[0]}\n") and "ZeroDivisionError" in log and "ranks_program.py" in log
    assert (folder / "failed" / STATE_NAME).exists() and not (folder / "failed" / ".lock").exists()


def test_bad_input_is_said_once(world):
    assert world[2][1].count("OPTIM.LR") == 1


def test_a_killed_process_ends_all(world):
    folder, statuses, said = world
    ended = re.findall(r"error: rank 1 on \S+: ended without a message .*last at epoch 2, batch 1\n", said[1])
    assert len(ended) == 1 and (statuses[0][8], len(statuses[1])) == (1, 8), said[1]
    assert (folder / "killed/log.txt").read_text().endswith(ended[0]) and (folder / "killed" / STATE_NAME).exists()


def test_a_hanging_process_is_named(world):
    folder, statuses, said = world
    pattern = r"error: rank 1 on \S+: did not come within 0.1 minutes .*last at epoch 2, batch 1\n"
    late = re.findall(pattern, said[1])
    assert len(late) == 1 and [status[7] for status in statuses] == [1, 1], said[1]
    assert (folder / "hung/log.txt").read_text().endswith(late[0])


# --- programs that are one process -----------------------------------------------------------------------


def test_other_programs_refuse(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert piped(lambda: pytest.fail("it works")) == 2
        assert capsys.readouterr().err.count("\n") == lines
    assert ranks.size() == 1 and ranks.is_first()  # as long as nobody has joined them
