"""Runs that are stopped: what is kept, that it goes on bit for bit, and that nothing tells of it afterwards."""
from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.engine import state as state_module
from dassl.engine.interruption import Interrupted, catching_signals, exit_status
from dassl.engine.state import STATE_NAME, StateKeeper
from dassl.plain import writing
from dassl.utils import load_checkpoint, set_random_seed
from tests.support import warm
from tests.support.engine import TinyPlugin, tiny_cfg
from tests.support.programs import REPOSITORY, arguments, make_world

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the signals of Unix")


@pytest.fixture(autouse=True)
def generous(monkeypatch):
    """Epochs of these tests are shorter than holding a state takes."""
    monkeypatch.setattr(state_module, "SHARE", 1e9)


@pytest.fixture(autouse=True)
def in_the_foreground():
    """Shells start programs in their background with SIGINT ignored, and what is ignored stays so; not here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def seeded(cfg, plugin=TinyPlugin, seed=5):
    set_random_seed(seed)
    return plugin(cfg)


def at(moment: tuple[int, int], action: Callable[[], object], kind: type[TinyPlugin] = TinyPlugin) -> type[TinyPlugin]:
    """A trainer that does something in the given step of the given epoch (both from 0)."""

    class Acting(kind):  # type: ignore[misc, valid-type]
        def forward_backward(self, batch):
            summary = super().forward_backward(batch)
            if (self.epoch, self.batch_idx) == moment:
                action()
            return summary

    return Acting


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "events" not in p.name)


# --- signals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heeded_at_the_next_step(number, capfd):
    before = signal.getsignal(number)
    with catching_signals() as asked:
        asked.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as stop:
            asked.check()
        assert exit_status(stop.value) == 128 + number
        assert ("Ctrl-C again" in capfd.readouterr().err) == (number == signal.SIGINT)
        if number != signal.SIGINT:
            os.kill(os.getpid(), number)  # nobody is more impatient for that
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), catching_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it waited")
    with pytest.raises(Interrupted) as stop, catching_signals(at_once=True):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it waited")
    assert exit_status(stop.value) == 143 and exit_status(KeyboardInterrupt()) == 130
    with pytest.raises(Interrupted), catching_signals(hopeless=lambda: True):  # another process of the run has failed
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it waited")


def test_what_is_ignored_stays_ignored_and_threads_change_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catching_signals() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            asked.check()
    finally:
        signal.signal(signal.SIGHUP, before)
    handlers = []

    def elsewhere():
        with catching_signals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


# --- a run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("TEST.FINAL_MODEL", "best_val"), ("TRAINER.TINY.PREC", "amp")])
@pytest.mark.parametrize("moment", [(0, 1), (1, 0), (3, 2), (5, 1)])
def test_a_run_that_is_stopped_goes_on_as_if_nothing_had_happened(tmp_path, moment, options, capsys):
    whole = seeded(tiny_cfg(tmp_path / "whole", *options))
    whole.train()
    with pytest.raises(Interrupted) as stop:
        seeded(tiny_cfg(tmp_path / "cut", *options), at(moment, send(signal.SIGTERM))).train()
    epoch = moment[0]
    how = f"goes on after epoch {epoch} and repeats epoch {epoch + 1}" if epoch else "starts again from the beginning"
    assert how in str(stop.value) and f"epoch {epoch + 1} of 6" in str(stop.value) and stop.value.number == 15
    assert (tmp_path / "cut" / STATE_NAME).exists() == bool(epoch)
    capsys.readouterr()
    resumed = seeded(tiny_cfg(tmp_path / "cut", *options), seed=99 if epoch else 5)
    resumed.train()
    if epoch:
        assert f"Resuming from {tmp_path / 'cut' / STATE_NAME} after epoch {epoch}" in capsys.readouterr().out
    assert resumed.losses == whole.losses[3 * epoch :]  # to the last bit
    assert resumed.history == whole.history and resumed.last_test["results"] == whole.last_test["results"]
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    ours, theirs = (load_checkpoint(tmp_path / name / "prompt_learner/model.pth.tar-6") for name in ("cut", "whole"))
    assert torch.equal(ours["state_dict"]["ctx"], theirs["state_dict"]["ctx"])
    assert torch.equal(ours["engine"]["rng"]["torch"], theirs["engine"]["rng"]["torch"])


class OwnLoop(TinyPlugin):
    """As plugins bring one."""

    def run_epoch(self):
        self.set_model_mode("train")
        self.num_batches = len(self.train_loader_x)
        for index, batch in enumerate(self.train_loader_x):
            self.batch_idx = index
            self.write_scalar("train/loss", self.forward_backward(batch)["loss"], self.batch_idx)


def test_a_loop_of_a_plugin_stops_in_the_same_step(tmp_path):
    trainer = seeded(tiny_cfg(tmp_path), at((2, 0), send(signal.SIGINT), OwnLoop))
    with pytest.raises(Interrupted, match="goes on after epoch 2"):
        trainer.train()
    assert len(trainer.losses) == 2 * 3 + 1


def test_stopped_in_the_last_test(tmp_path):
    class Testing(TinyPlugin):
        def model_inference(self, points):
            if self.epoch == 5 and self._signals.stop is None:
                os.kill(os.getpid(), signal.SIGINT)
            return super().model_inference(points)

    with pytest.raises(Interrupted, match="interrupted after training; the same command goes on .* with the test"):
        seeded(tiny_cfg(tmp_path), Testing).train()
    resumed = seeded(tiny_cfg(tmp_path), seed=99)
    resumed.train()
    assert resumed.losses == [] and resumed.last_test["results"] and STATE_NAME not in files(tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_sigusr1_keeps_the_state_and_goes_on(tmp_path, capsys):
    kept = []

    class Watching(at((2, 1), send(signal.SIGUSR1))):
        def before_epoch(self):
            kept.append(STATE_NAME in files(tmp_path))

    trainer = seeded(tiny_cfg(tmp_path), Watching)
    trainer.train()
    assert kept == [False] * 3 + [True] * 3 and len(trainer.losses) == 18 and STATE_NAME not in files(tmp_path)
    assert "The state after epoch 2 is kept" in capsys.readouterr().out


def test_a_run_that_fails_keeps_its_state_but_not_one_that_diverges(tmp_path):
    def fail(error):
        raise error

    for kind, kept in ((OSError(errno.EIO, "a lost disk"), True), (FloatingPointError("NaN"), False)):
        folder = tmp_path / type(kind).__name__
        with pytest.raises(type(kind)):
            seeded(tiny_cfg(folder), at((3, 1), lambda error=kind: fail(error))).train()
        assert (STATE_NAME in files(folder)) == kept
    whole = seeded(tiny_cfg(tmp_path / "whole"))
    whole.train()
    resumed = seeded(tiny_cfg(tmp_path / "OSError"), seed=99)
    resumed.train()
    assert resumed.losses == whole.losses[9:] and resumed.history == whole.history


def cut(folder: Path, epoch: int, *options: object) -> None:
    with pytest.raises(Interrupted):
        seeded(tiny_cfg(folder, *options), at((epoch, 1), send(signal.SIGTERM))).train()


def test_nothing_is_kept_where_that_is_asked_for(tmp_path):
    with pytest.raises(Interrupted, match="starts again from the beginning: no finished epoch is kept"):
        seeded(tiny_cfg(tmp_path, "TRAIN.STATE_MINUTES", 0.0), at((3, 1), send(signal.SIGTERM))).train()
    assert files(tmp_path) == []
    with pytest.raises(ValueError, match="TRAIN.STATE_MINUTES is -1.0; it must be 0 or more"):
        TinyPlugin(tiny_cfg(tmp_path, "TRAIN.STATE_MINUTES", -1.0))


def test_of_checkpoint_and_state_the_further_one_is_resumed(tmp_path, capsys):
    common = ("TRAIN.CHECKPOINT_FREQ", 2)
    cut(tmp_path, 5, *common)  # checkpoints of epochs 2 and 4, the state after 5
    assert "after epoch 5" in resume(tmp_path, capsys)
    cut(tmp_path / "b", 4, *common)
    assert STATE_NAME not in files(tmp_path / "b")  # the checkpoint says the same
    assert "after epoch 4" in resume(tmp_path / "b", capsys)


def resume(folder: Path, capsys, *options: object) -> str:
    capsys.readouterr()
    trainer = seeded(tiny_cfg(folder, *options), seed=99)
    trainer.before_train()
    trainer.close_writer()
    return capsys.readouterr().out


def test_a_damaged_state_leads_to_the_checkpoint_before_it(tmp_path, capsys):
    cut(tmp_path, 5, "TRAIN.CHECKPOINT_FREQ", 2)
    path = tmp_path / STATE_NAME
    whole = path.read_bytes()
    for broken in (whole[:900], b"", b"PK", whole[:-30]):
        path.write_bytes(broken)
        with pytest.warns(UserWarning, match=f"passing over the state in {path}"):
            assert "after epoch 4" in resume(tmp_path, capsys)
    torch.save({"epoch": 9, "models": {}}, path)
    with pytest.warns(UserWarning, match="passing over"):
        assert "after epoch 4" in resume(tmp_path, capsys)
    path.write_bytes(whole)
    for checkpoint in (tmp_path / "prompt_learner").glob("model*"):
        checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    assert "after epoch 5" in resume(tmp_path, capsys)  # and the other way round


def test_a_run_that_was_begun_elsewhere_goes_on_where_it_is(tmp_path, capsys):
    """--resume A --output-dir B: the same command goes on from B, where it has been further since."""
    cut(tmp_path / "a", 2)
    options = ("RESUME", str(tmp_path / "a"))
    cut(tmp_path / "b", 4, *options)
    before = (tmp_path / "a" / STATE_NAME).read_bytes()
    assert f"Resuming from {tmp_path / 'b' / STATE_NAME} after epoch 4" in resume(tmp_path / "b", capsys, *options)
    assert (tmp_path / "a" / STATE_NAME).read_bytes() == before


# --- when it is kept -------------------------------------------------------------------------------------


def whole_state(epoch: int, size: int = 10) -> dict:
    weights = torch.full((size,), float(epoch))
    return {"epoch": epoch, "models": {"model": {"state_dict": {"w": weights}, "epoch": epoch}}, "engine": {}}


def test_the_state_is_written_by_the_clock(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(state_module.time, "monotonic", lambda: now[0])
    keeper = StateKeeper(str(tmp_path), minutes=1.0)
    written = []
    for epoch in range(10):
        keeper.after(epoch, lambda epoch=epoch: whole_state(epoch))
        written.append(keeper.saved)
        now[0] += 25
    assert written == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert load_checkpoint(tmp_path / STATE_NAME)["epoch"] == 9
    keeper.finish()
    assert os.listdir(tmp_path) == []


def test_keeping_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "SHARE", 0.02)
    now = [0.0]
    monkeypatch.setattr(state_module.time, "monotonic", lambda: now[0])
    keeper, spent = StateKeeper(str(tmp_path), minutes=0.001), 0.0

    def slow(epoch):
        nonlocal spent
        spent += 3
        now[0] += 3
        return whole_state(epoch)

    for epoch in range(400):
        now[0] += 10
        keeper.after(epoch, lambda epoch=epoch: slow(epoch))
    assert 0.01 * now[0] < spent < 0.03 * now[0]
    assert "repeats epochs" in keeper.outlook(400, 500)


def test_what_is_too_large_to_hold_is_written_when_it_is_due_only(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "LARGEST", 100)
    now = [0.0]
    monkeypatch.setattr(state_module.time, "monotonic", lambda: now[0])
    keeper = StateKeeper(str(tmp_path), minutes=1.0)
    for epoch in range(5):
        keeper.after(epoch, lambda epoch=epoch: whole_state(epoch, size=1000))
        now[0] += 25
    keeper.keep()
    assert load_checkpoint(tmp_path / STATE_NAME)["epoch"] == keeper.saved == 3


def test_a_full_disk_ends_the_keeping_and_not_the_training(tmp_path, monkeypatch):
    def full(path, mode="r", **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    keeper = StateKeeper(str(tmp_path), minutes=1e-9)
    monkeypatch.setattr(writing, "open", full, raising=False)
    with pytest.warns(UserWarning, match=r"the state after epoch 1 is not kept: No space left.*MB needed.*MB free in"):
        keeper.after(1, lambda: whole_state(1))
    keeper.after(2, lambda: whole_state(2))  # said once
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [] and keeper.saved == 0
    keeper.keep()
    assert load_checkpoint(tmp_path / STATE_NAME)["models"]["model"]["state_dict"]["w"][0] == keeper.saved == 2


# --- real processes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def options_of(trainer: str, epochs: int) -> list[str]:
    own = {"PLOTPP": ["DATALOADER.NUM_WORKERS", "2"], "TipAdapterF": ["TRAINER.TIPADAPTERF.AUGMENT_EPOCH", "1"]}
    return ["OPTIM.MAX_EPOCH", str(epochs), *own.get(trainer, [])]


def assert_same(output: Path, whole: Path) -> None:
    """Both runs have left the same files, figures and weights, to the last bit."""
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (output, whole))
    for key in ("complete", "history", "accuracy", "per_class", "checkpoint", "selection", "transport"):
        assert ours[key] == theirs[key], key
    assert files(output) == files(whole)
    for path in whole.rglob("model.pth.tar-*"):
        one, other = (torch.load(p, weights_only=True) for p in (path, output / path.relative_to(whole)))
        assert all(torch.equal(one["state_dict"][key], other["state_dict"][key]) for key in one["state_dict"])
        assert torch.equal(one["engine"]["rng"]["torch"], other["engine"]["rng"]["torch"])


@pytest.mark.parametrize("trainer", ["CoOp", "PLOTPP", "TipAdapterF"])
def test_our_trainers_go_on_from_any_step(world, tmp_path, trainer, monkeypatch):
    options = options_of(trainer, epochs=4)
    train.run(arguments(world, tmp_path / "whole", *options, trainer=trainer))
    kind, chance = TRAINER_REGISTRY.get(trainer), random.Random(trainer)
    step = kind.forward_backward
    for moment in ((1, chance.randrange(4)), (2, chance.randrange(4))):

        def stopped(self, batch, moment=moment):
            if (self.epoch, self.batch_idx) == moment:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "forward_backward", stopped)
            with pytest.raises(Interrupted, match=f"goes on after epoch {moment[0]}"):
                train.run(arguments(world, tmp_path / "cut", *options, trainer=trainer))
            assert multiprocessing.active_children() == []
    train.run(arguments(world, tmp_path / "cut", *options, trainer=trainer))
    assert_same(tmp_path / "cut", tmp_path / "whole")
    assert multiprocessing.active_children() == []


def test_a_process_that_is_stopped_at_any_moment_ends_with_the_same(world, tmp_path):
    options = [*options_of("PLOT", epochs=12), "TRAIN.STATE_MINUTES", "0.001"]
    whole, output = tmp_path / "whole", tmp_path / "cut"
    train.run(arguments(world, whole, *options))
    argv, log = arguments(world, output, *options), output / "log.txt"
    chance = random.Random(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        before = log.read_text().count("epoch [") if log.exists() else 0
        with open(tmp_path / "err.txt", "wb") as err:
            own = {**os.environ, "OMP_NUM_THREADS": "1"}
            process = warm.start([sys.executable, "train.py", *argv], cwd=REPOSITORY, env=own, stderr=err)
        wanted = before + chance.randint(2, 8)  # steps of training
        while process.poll() is None and (not log.exists() or log.read_text().count("epoch [") < wanted):
            time.sleep(0.01)
        process.send_signal(number)
        process.wait()
        said = (tmp_path / "err.txt").read_text()
        if number == signal.SIGKILL:
            assert process.returncode == -number
        else:
            assert process.returncode == 128 + number, said
            assert said.rstrip().splitlines()[-1] == log.read_text().rstrip().splitlines()[-1]
            assert "interrupted in epoch" in said
        assert [path.name for path in output.glob("log*")] == ["log.txt"]
    train.run(argv)
    text = log.read_text()
    assert text.count("** The run goes on: ") == 3 and "after epoch" in text.rpartition("** The run goes on: ")[2]
    assert_same(output, whole)
