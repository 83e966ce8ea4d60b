from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from dassl.config import get_cfg_default, merge_file
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.plain import writing
from dassl.utils import atomic_write, set_random_seed
from dassl.utils.checkpoint import CheckpointError
from runs import lock
from runs.folder import open_run
from runs.lock import RunFolderError, hold_folder
from runs.record import is_complete, read_classnames, read_result
from runs.restore.source import evaluated_checkpoint
from runs.writing import commit_of_program, write_result
from tests.dassl.test_utils import run_python
from tests.support.engine import CLASSES, TinyPlugin, tiny_cfg
from tests.support.programs import REPOSITORY


def finished(cfg, mode="train"):
    open_run(cfg, mode)
    set_random_seed(1)
    trainer = TinyPlugin(cfg)
    trainer.train()
    return trainer, write_result(cfg, trainer, mode, 12.5, argv=["--seed", "1"])


# --- the configuration of a folder -----------------------------------------------------------------------


def test_the_stored_configuration_reads_back(tmp_path):
    cfg = tiny_cfg(tmp_path, "DATASET.ROOT", "'2024'", "DATASET.NAME", "it's: #1", "INPUT.SIZE", (96, 96))
    open_run(cfg, "train")
    assert os.listdir(tmp_path) == ["config.yaml"]
    text = (tmp_path / "config.yaml").read_text()
    assert text.startswith("# mode: train\n") and yaml.safe_load(text)["OPTIM"]["LR"] == 0.1
    again = tiny_cfg("elsewhere").clone()
    again.defrost()
    merge_file(again, tmp_path / "config.yaml")
    again.freeze()
    assert again == cfg and again.DATASET.ROOT == "2024" and again.INPUT.SIZE == (96, 96)
    open_run(cfg, "train")  # the same run again


def test_a_folder_belongs_to_one_configuration(tmp_path):
    open_run(tiny_cfg(tmp_path), "train")
    open_run(tiny_cfg(tmp_path, "DATALOADER.NUM_WORKERS", 0, "DATASET.ROOT", "/data", "USE_CUDA", True,
                      "TRAIN.PRINT_FREQ", 1, "TRAIN.CHECKPOINT_FREQ", 3, "VERBOSE", True), "train")  # fmt: skip
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.pth.tar-1").touch()
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(RunFolderError) as caught:
        open_run(tiny_cfg(tmp_path, "OPTIM.LR", 0.5, "SEED", 2), "train")
    assert str(caught.value) == (
        f"{tmp_path} holds a run with another configuration (OPTIM.LR was 0.1, is 0.5; SEED was -1, is 2); "
        "choose another output folder, or delete this one to start over"
    )
    assert isinstance(caught.value, ValueError) and (tmp_path / "config.yaml").read_text() == before


def test_a_folder_where_nothing_came_of_the_run_is_taken_over(tmp_path):
    open_run(tiny_cfg(tmp_path, "OPTIM.LR", 0.5), "train")
    open_run(tiny_cfg(tmp_path), "train")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["OPTIM"]["LR"] == 0.1
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(RunFolderError, match="OPTIM.LR"):
        open_run(tiny_cfg(tmp_path, "OPTIM.LR", 0.5), "train")


def test_keys_that_only_one_side_has_are_no_difference(tmp_path):
    open_run(tiny_cfg(tmp_path), "train")
    stored = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del stored["TEST"]
    stored["OLD_KEY"] = 1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    open_run(tiny_cfg(tmp_path), "train")


def test_evaluation_leaves_a_training_folder_alone(tmp_path):
    _, path = finished(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 1))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    cfg = tiny_cfg(tmp_path, "SEED", 9)
    open_run(cfg, "eval")
    trainer = TinyPlugin(cfg)
    trainer.test()
    other = write_result(cfg, trainer, "eval", 1.0, checkpoint="somewhere/model.pth.tar-1")
    assert (path.name, other.name) == ("result.json", "result-eval.json")
    assert all(p.read_bytes() == content for p, content in before.items())
    assert read_result(other)["checkpoint"] == "somewhere/model.pth.tar-1"

    alone = tiny_cfg(tmp_path / "eval")
    open_run(alone, "eval")
    assert write_result(alone, trainer, "eval", 1.0).name == "result.json"
    with pytest.raises(RunFolderError, match="SEED"):
        open_run(tiny_cfg(tmp_path / "eval", "SEED", 9), "eval")
    with pytest.raises(ValueError, match="mode"):
        open_run(alone, "test")


def test_folders_of_other_programs_and_unreadable_ones(tmp_path, capsys):
    (tmp_path / "prompt_learner").mkdir()
    (tmp_path / "prompt_learner/model.pth.tar-5").touch()
    open_run(tiny_cfg(tmp_path), "train")
    assert capsys.readouterr().out.count("\n") == 1 and (tmp_path / "config.yaml").exists()
    open_run(tiny_cfg(tmp_path), "train")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kept", ["model/model.pth.tar-1", "model/model-best.pth.tar", "training-state.pth.tar",
                                  "result.json"])  # fmt: skip
def test_a_config_that_cannot_be_read_gives_nothing_away(tmp_path, kept):
    """Cut off between two lines it is good YAML that knows fewer keys, and so nothing that speaks against this run."""
    open_run(tiny_cfg(tmp_path, "OPTIM.LR", 0.5), "train")
    path = tmp_path / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    optim = next(number for number, line in enumerate(lines) if line.startswith("OPTIM"))
    (tmp_path / "model").mkdir()
    (tmp_path / kept).touch()
    for broken in ("", "a: [", "just text", "\xff", "".join(lines[:optim]), "".join(lines[:-1])):
        path.write_text(broken, encoding="latin1")
        with pytest.raises(RunFolderError, match="config.yaml cannot be read .* restore it, or delete it if you know"):
            open_run(tiny_cfg(tmp_path), "train")
        with pytest.raises(RunFolderError, match="config.yaml cannot be read|there is no run to continue"):
            open_run(tiny_cfg(tmp_path / "other", "RESUME", str(tmp_path)), "train")
        assert path.read_text(encoding="latin1") == broken
    (tmp_path / kept).unlink()
    open_run(tiny_cfg(tmp_path), "train")  # nothing is lost
    assert yaml.safe_load(path.read_text())["OPTIM"]["LR"] == 0.1


def test_resuming_from_another_configuration_warns(tmp_path):
    open_run(tiny_cfg(tmp_path / "a"), "train")
    with pytest.warns(UserWarning, match="another configuration: OPTIM.LR was 0.1, is 0.2"):
        open_run(tiny_cfg(tmp_path / "b", "RESUME", str(tmp_path / "a"), "OPTIM.LR", 0.2), "train")


def test_resuming_from_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="RESUME is .*tpyo, but there is no run to continue"):
        open_run(tiny_cfg(tmp_path / "b", "RESUME", str(tmp_path / "tpyo")), "train")
    open_run(tiny_cfg(tmp_path / "c", "RESUME", str(tmp_path / "c")), "train")  # the same command, first time or not


def test_a_folder_that_cannot_be_made_or_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot be made.*choose another"):
        open_run(tiny_cfg(tmp_path / "file" / "run"), "train")

    def read_only(path, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), f"{path}.tmp")

    monkeypatch.setattr(writing, "open", read_only, raising=False)
    refusal = f"OUTPUT_DIR {tmp_path} cannot be written to: Read-only file system; choose another$"
    with pytest.raises(RunFolderError, match=refusal):
        open_run(tiny_cfg(tmp_path), "train")


# --- one run at a time -----------------------------------------------------------------------------------

HOLDER = """
import errno, fcntl, os, sys, time
def no_locks(*args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
if "--no-locks" in sys.argv:
    fcntl.flock = no_locks
from runs.lock import hold_folder
with hold_folder(sys.argv[1]):
    reader, writer = os.pipe()
    if os.fork() == 0:  # as the worker processes of loaders
        os.write(writer, b".")  # only once it runs has it given up what it inherited of the lock
        time.sleep(30)
        os._exit(0)
    os.read(reader, 1)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("flags", [[], ["--no-locks"]])
def test_a_second_run_in_a_folder_is_told_who_is_there_and_a_dead_one_blocks_nobody(flags, tmp_path, monkeypatch):
    """Also on a file system without locks, where the existence of a file and the life of its process decide."""
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder, *flags], cwd=REPOSITORY, stdout=subprocess.PIPE,
                              text=True, start_new_session=True)
    if flags:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    try:
        assert holder.stdout.readline() == "held\n"
        kept = (folder / ".holder").read_text()
        who = rf"another run is at work in {folder} \(process {holder.pid} on \w+, since 2\d\d\d-.*choose another"
        started = time.monotonic()
        with pytest.raises(RunFolderError, match=who), hold_folder(folder):
            pytest.fail("two at a time")
        assert time.monotonic() - started < 2 and (folder / ".holder").read_text() == kept
        holder.kill()
        holder.wait()  # its child lives
        with hold_folder(folder):
            assert str(os.getpid()) in (folder / ".holder").read_text()
            with pytest.raises(RunFolderError, match=f"process {os.getpid()}"), hold_folder(folder / ".." / "run"):
                pytest.fail("this process twice")
        assert os.listdir(folder) == []
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def no_locks(*args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.fixture
def shared(monkeypatch):
    """Pretend that the folder lies on a network file system, whose locks each machine has for itself."""
    monkeypatch.setattr(lock, "is_local", lambda folder: False)
    monkeypatch.setattr(lock, "LEASE", 0.6)
    monkeypatch.setattr(fcntl, "flock", lambda *args: None)


def as_of_another_machine(folder, **changes):
    """Let what a live run of this process left in its folder say that it runs elsewhere."""
    for name in (lock.LEASE_NAME, lock.HOLDER_NAME):
        text = (folder / name).read_text()
        for ours in {platform.node(), socket.gethostname(), writing.host()}:
            text = text.replace(ours, "elsewhere")
        with open(folder / name, "r+") as file:  # the same file, whose owner goes on renewing it
            file.write(text)


def test_on_a_network_file_system_a_run_of_another_machine_keeps_its_folder(shared, tmp_path):
    with hold_folder(tmp_path):
        assert set(os.listdir(tmp_path)) == {".lock", ".lock.lease", ".holder"}
        as_of_another_machine(tmp_path)
        with pytest.raises(RunFolderError, match=r"another run is at work .*process \d+ on elsewhere"):
            hold_folder(tmp_path).__enter__()


def test_a_machine_that_is_gone_keeps_no_folder(shared, tmp_path, capsys):
    with hold_folder(tmp_path / "run"):
        kept = shutil.copytree(tmp_path / "run", tmp_path / "copy")
    as_of_another_machine(kept)
    with hold_folder(kept):
        assert "in use by process" in capsys.readouterr().out
        assert json.loads((kept / ".holder").read_text())["host"] == writing.host()
    assert os.listdir(kept) == []


def test_what_killed_processes_left_half_written_is_cleared(tmp_path):
    code = """
import os, signal, sys
from dassl.utils import atomic_write
writers = [atomic_write(os.path.join(sys.argv[1], name)) for name in ("model/model.pth.tar-3", "result.json")]
for writer in writers:
    writer.__enter__().write("half")
os.kill(os.getpid(), signal.SIGKILL)
"""
    run_python(code, tmp_path)
    names = [path.name for path in tmp_path.rglob("*.tmp")]
    assert len(names) == 2 and all(name.startswith((".model.pth.tar-3.", ".result.json.")) for name in names)
    with atomic_write(tmp_path / "other.json"), atomic_write(tmp_path / "result.json"):
        assert len(list(tmp_path.glob(".*.tmp"))) == 2  # these two; its own leftover has gone
    theirs = tmp_path / ".notes.tmp"
    theirs.touch()
    elsewhere = tmp_path / ".result.json.otherhost-1-0123abcd.tmp"
    elsewhere.touch()
    with atomic_write(tmp_path / "model/new"), hold_folder(tmp_path):
        left = sorted(path.name for path in tmp_path.rglob("*.tmp"))
        assert left[0].startswith(".new.") and left[1:] == [theirs.name, elsewhere.name]  # who knows of another machine
    os.utime(elsewhere, (0, 0))
    with hold_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.tmp", "model", "other.json", "result.json"]


# --- the result ------------------------------------------------------------------------------------------


def test_the_result(tmp_path):
    assert not is_complete(tmp_path) and read_result(tmp_path) is None
    cfg = tiny_cfg(tmp_path, "SEED", 1, "MODEL.BACKBONE.NAME", "RN50")
    trainer, path = finished(cfg)
    assert path == tmp_path / "result.json" and is_complete(tmp_path)
    record = read_result(tmp_path)
    assert record == read_result(path) == json.loads(path.read_text())
    test = trainer.last_test
    expected = {
        "schema": 1, "complete": True, "mode": "train", "trainer": "TinyPlugin", "dataset": "", "backbone": "RN50",
        "shots": -1, "seed": 1, "subsample_classes": "all", "split": "test", "total": 30,
        "accuracy": test["results"]["accuracy"], "error_rate": test["results"]["error_rate"],
        "macro_f1": test["results"]["macro_f1"], "correct": test["correct"], "per_class": test["per_class"],
        "confusions": test["confusions"],
        "epochs": 6, "checkpoint": "prompt_learner/model.pth.tar-6", "transport": None, "argv": ["--seed", "1"],
        "history": trainer.history,
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected
    assert [set(entry) for entry in record["history"]] == [{"epoch", "loss", "acc", "lr"}] * 6
    assert record["history"][0]["lr"] == 1e-5 and record["history"][1]["lr"] == 0.1  # the rate that was used
    assert record["seconds"]["total"] == 12.5 and 0 < record["seconds"]["train"] < 60 and record["seconds"]["test"] > 0
    assert 50 < record["peak_memory_mb"] < 50_000 and record["peak_cuda_memory_mb"] is None
    assert record["config"]["OPTIM"]["MAX_EPOCH"] == 6 and len(record["config_digest"]) == 64
    assert set(record["versions"]) == {"python", "torch", "torchvision", "numpy", "project", "commit"}
    assert record["finished"][4] == "-" and "T" in record["finished"]


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_commit_is_that_of_the_program(tmp_path, monkeypatch):
    program = types.ModuleType("__main__")
    program.__file__ = str(tmp_path / "train.py")
    monkeypatch.setitem(sys.modules, "__main__", program)
    commit = commit_of_program.__wrapped__
    assert commit() == ""  # no repository

    def git(*words):
        done = subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=tmp_path, check=True,
                              capture_output=True, text=True)  # fmt: skip
        return done.stdout.strip()

    git("init")
    (tmp_path / "train.py").write_text("1")
    git("add", "train.py")
    git("commit", "-m", "first")
    assert commit() == git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "train.py").write_text("2")
    assert commit() == git("rev-parse", "--short=12", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", "")
    assert commit() == ""  # no git


def test_the_digest_ignores_what_has_no_effect(tmp_path):
    digests = []
    trainer = TinyPlugin(tiny_cfg(tmp_path))
    trainer.test()
    for options in ((), ("TRAIN.PRINT_FREQ", 3), ("OPTIM.LR", 0.2)):
        cfg = tiny_cfg(tmp_path / f"run{len(digests)}", *options)
        open_run(cfg, "eval")
        digests.append(read_result(write_result(cfg, trainer, "eval", 1.0))["config_digest"])
    assert digests[0] == digests[1] != digests[2]


def test_what_trainers_say_becomes_plain_json(tmp_path):
    class Talkative(TinyPlugin):
        def diagnostics(self):
            return {"iterations": np.int64(3), "error": torch.tensor([0.5]), "bad": float("nan"), 1: {"x": (1, None)}}

    cfg = tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
    trainer = Talkative(cfg)
    trainer.train()
    record = read_result(write_result(cfg, trainer, "train", 1.0))
    assert record["transport"] == {"iterations": 3, "error": [0.5], "bad": None, "1": {"x": [1, None]}}
    assert record["accuracy"] is None and record["complete"] is True and record["per_class"] == []


def test_the_best_checkpoint_is_named(tmp_path):
    _, path = finished(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 1, "TEST.FINAL_MODEL", "best_val"))
    assert read_result(path)["checkpoint"] == "prompt_learner/model-best.pth.tar"


def test_a_torn_or_foreign_result_is_no_result(tmp_path):
    for content in ("", "{", "[]", '{"complete": false}', '{"complete": "true"}', "\xff"):
        (tmp_path / "result.json").write_text(content, encoding="latin1")
        assert not is_complete(tmp_path)


def test_a_full_disk_at_the_last_moment(tmp_path):
    code = """
import resource, sys
from runs.writing import write_result
from tests.support.engine import TinyPlugin, tiny_cfg
cfg = tiny_cfg(sys.argv[1]); trainer = TinyPlugin(cfg); trainer.test()
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try: write_result(cfg, trainer, "train", 1.0)
except OSError as error: print("caught", error)
"""
    result = run_python(code, tmp_path)
    assert "caught" in result.stdout and "result.json" in result.stdout, result.stderr
    assert os.listdir(tmp_path) == []


# --- with the engine's own data ----------------------------------------------------------------------------


class TinyPictures(DatasetBase):
    """Three colours, six noisy 12 x 12 pictures each."""

    def __init__(self, cfg):
        self.dataset_dir = Path(cfg.DATASET.ROOT)
        items = []
        for label, name in enumerate(CLASSES):
            for index in range(6):
                path = self.dataset_dir / name / f"{index}.png"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    pixels = np.random.default_rng([label, index]).integers(0, 60, (12, 12, 3))
                    pixels[..., label] += 150
                    Image.fromarray(pixels.astype(np.uint8)).save(path)
                items.append(Datum(impath=str(path), label=label, classname=name))
        super().__init__(train_x=[i for i in items if not i.impath.endswith("5.png")], val=items[::6], test=items)


class PictureTrainer(TrainerX):
    """A linear softmax on the pixels."""

    dies = -1

    def build_model(self):
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, self.num_classes)).to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)
        self.losses = []

    def before_epoch(self):
        if self.epoch == self.dies:
            raise KeyboardInterrupt

    def forward_backward(self, batch):
        image, label, domain = self.parse_batch_train(batch)
        output = self.model(image)
        loss = nn.functional.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        self.losses.append(loss.item())
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}


@pytest.mark.parametrize("workers", [0, 2])
def test_real_pictures_random_crops_and_an_exact_continuation(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(DATASET_REGISTRY, "_obj_map", dict(DATASET_REGISTRY._obj_map))  # for this test only
    DATASET_REGISTRY.register(TinyPictures)

    def run(folder, dies=-1, seed=1):
        cfg = get_cfg_default()
        cfg.merge_from_list([
            "DATASET.NAME", "TinyPictures", "DATASET.ROOT", str(tmp_path / "data"),
            "OUTPUT_DIR", str(tmp_path / folder), "OPTIM.NAME", "sgd", "OPTIM.LR", 0.05,
            "INPUT.SIZE", (8, 8), "INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "normalize"),
            "DATALOADER.NUM_WORKERS", workers, "DATALOADER.TRAIN_X.BATCH_SIZE", 8, "OPTIM.MAX_EPOCH", 4,
            "OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", 1, "TRAIN.CHECKPOINT_FREQ", 1, "USE_CUDA", False,
        ])  # fmt: skip
        cfg.freeze()
        open_run(cfg, "train")
        set_random_seed(seed)
        trainer = PictureTrainer(cfg)
        trainer.dies = dies
        try:
            trainer.train()
        except KeyboardInterrupt:
            return trainer
        write_result(cfg, trainer, "train", 1.0)
        return trainer

    whole = run("whole")
    run("killed", dies=2)
    assert not is_complete(tmp_path / "killed")
    random.seed(99)
    resumed = run("killed", seed=77)
    assert len(whole.losses) == 4 and resumed.losses == whole.losses[2:]  # to the last bit
    first, second = read_result(tmp_path / "whole"), read_result(tmp_path / "killed")
    for key in ("history", "accuracy", "per_class", "data", "config_digest"):
        assert first[key] == second[key]
    assert first["data"] | {"fingerprint": "", "classnames": []} == {
        "fingerprint": "", "classes": 3, "train": 15, "val": 3, "test": 18, "classnames": []
    }  # fmt: skip
    assert read_classnames(tmp_path / "whole") == list(whole.lab2cname.values())
    assert len(first["data"]["fingerprint"]) == 64 and first["accuracy"] > 50


class TwoPlugin(TinyPlugin):
    """Registers a second model, which learns nothing."""

    def build_model(self):
        super().build_model()
        self.scale = nn.Linear(1, 1)
        self.register_model("scale", self.scale)


def test_of_several_models_every_checkpoint_is_known(tmp_path):
    cfg = tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 1)
    open_run(cfg, "train")
    trainer = TwoPlugin(cfg)
    trainer.train()
    known = read_result(write_result(cfg, trainer, "train", 1.0))["checkpoints_sha256"]
    assert list(known) == ["prompt_learner", "scale"] and {len(digest) for digest in known.values()} == {64}
    assert evaluated_checkpoint(tmp_path) == (str(tmp_path), 1)
    for name in known:
        file = tmp_path / name / "model.pth.tar-1"
        content = file.read_bytes()
        file.write_bytes(content + b"\0")
        with pytest.raises(CheckpointError, match=f"{name}/model.pth.tar-1 is damaged or was replaced"):
            evaluated_checkpoint(tmp_path)
        file.write_bytes(content)
