from __future__ import annotations

import copy
import os
import re
import signal
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import dassl.engine.base
from dassl.engine import TRAINER_REGISTRY, SimpleNet, SimpleTrainer, TrainerBase, TrainerX, TrainerXU, build_trainer
from dassl.engine import trainer as engine_trainer
from dassl.utils import load_checkpoint, set_random_seed
from tests.support import warm
from tests.support.closeness import assert_close
from tests.support.engine import CLASSES, WIDTH, TinyPlugin, tiny_cfg
from tests.support.golden_data import GOLDEN
from tests.support.programs import REPOSITORY

TRAINING_LINE = re.compile(
    r"epoch \[(\d+)/(\d+)\] batch \[(\d+)/(\d+)\] time \d+\.\d{3} \(\d+\.\d{3}\) data \d+\.\d{3} \(\d+\.\d{3}\) "
    r"loss (\d+\.\d{4}) \((\d+\.\d{4})\) acc (\d+\.\d{4}) \((\d+\.\d{4})\) lr (\d\.\d{4}e-\d\d) eta \d+:\d\d:\d\d"
)


def seeded(cfg, kind=TinyPlugin):
    set_random_seed(cfg.SEED if cfg.SEED >= 0 else 5)
    return kind(cfg)


def without_times(text: str) -> list[str]:
    return [re.sub(r"time .*? loss", "time loss", line.split(" eta ")[0]) for line in text.splitlines()
            if not line.startswith("Elapsed")]  # fmt: skip


# --- order and lines -------------------------------------------------------------------------------------


class Ordered(TinyPlugin):
    """Writes down the order of calls."""

    def __init__(self, cfg):
        self.calls = []
        super().__init__(cfg)


def _recorded(name):
    def method(self, *args, **kwargs):
        self.calls.append(name)
        return getattr(super(Ordered, self), name)(*args, **kwargs)

    return method


HOOKS = """
check_cfg build_data_loader build_model train before_train before_epoch run_epoch forward_backward after_epoch
after_train test model_inference save_model update_lr load_model
""".split()  # noqa: SIM905
for _name in HOOKS:
    setattr(Ordered, _name, _recorded(_name))


def test_hook_order(tmp_path):
    trainer = seeded(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 2, "TRAIN.CHECKPOINT_FREQ", 1), Ordered)
    assert trainer.calls == ["check_cfg", "build_data_loader", "build_model"]
    trainer.calls.clear()
    trainer.train()
    batches = ["forward_backward"] * 3
    epoch = ["before_epoch", "run_epoch", *batches, "update_lr", "after_epoch", "save_model"]
    test = ["test", *["model_inference"] * 8]
    assert trainer.calls == ["train", "before_train", *epoch, *epoch, "after_train", *test]

    trainer = seeded(tiny_cfg(tmp_path / "best", "OPTIM.MAX_EPOCH", 1, "TEST.FINAL_MODEL", "best_val"), Ordered)
    trainer.calls.clear()
    trainer.train()
    epoch = ["before_epoch", "run_epoch", *batches, "update_lr", "after_epoch"]
    validation = ["test", *["model_inference"] * 3, "save_model", "save_model"]
    assert trainer.calls == ["train", "before_train", *epoch, *validation, "after_train", "load_model", *test]


def test_before_train_may_move_the_start(tmp_path):
    class Late(Ordered):
        def before_train(self):
            super().before_train()
            self.start_epoch = 4

    trainer = seeded(tiny_cfg(tmp_path), Late)
    trainer.train()
    assert trainer.calls.count("run_epoch") == 2 and [entry["epoch"] for entry in trainer.history] == [5, 6]


def test_printed_lines_are_the_originals(tmp_path, capsys):
    recorded = (GOLDEN / "e2e/logs/plot_train_seed1.log.txt").read_text()
    assert len(TRAINING_LINE.findall(recorded)) == recorded.count("\nepoch [") + recorded.startswith("epoch [") == 100

    trainer = seeded(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 2))
    trainer.train()
    lines = capsys.readouterr().out.splitlines()
    progress = [TRAINING_LINE.fullmatch(line) for line in lines if line.startswith("epoch")]
    assert [found.groups()[:4] for found in progress] == [(str(e), "2", str(b), "3") for e in (1, 2) for b in (1, 2, 3)]
    # the last batch of an epoch already shows the next epoch's rate
    assert [found[9] for found in progress] == ["1.0000e-05"] * 2 + ["1.0000e-01"] * 3 + ["5.0000e-02"]
    assert_close(float(progress[1][6]), (trainer.losses[0] + trainer.losses[1]) / 2, 1e-4, floor=1)  # four decimals
    after = lines[lines.index(f"Checkpoint saved to {tmp_path}/prompt_learner/model.pth.tar-2") :]
    assert after[1:5] == ["Finish training", "Deploy the last-epoch model", "Evaluate on the *test* set", "=> result"]
    assert [line.split(":")[0] for line in after[5:]] == [
        "* total", "* correct", "* accuracy", "* error", "* macro_f1", "Elapsed"
    ]  # fmt: skip
    assert re.fullmatch(r"Elapsed: \d+:\d\d:\d\d", after[-1])


def test_print_frequency_and_other_meters(tmp_path, capsys):
    class Meters(TinyPlugin):
        def forward_backward(self, batch):
            super().forward_backward(batch)
            return None if self.batch_idx == 0 else {"z": torch.tensor(2.0), "a": 1}

    trainer = seeded(tiny_cfg(tmp_path, "TRAIN.PRINT_FREQ", 2, "OPTIM.MAX_EPOCH", 1), Meters)
    trainer.train()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 1 and " z 2.0000 (2.0000) a 1.0000 (1.0000) lr " in lines[0] and "batch [2/3]" in lines[0]
    assert trainer.history[0]["z"] == 2.0 and "loss" not in trainer.history[0]


def test_no_progress_bar_where_nobody_looks(tmp_path, capfd):
    seeded(tiny_cfg(tmp_path)).test()
    assert "it/s" not in capfd.readouterr().err


# --- what trainers lean on -------------------------------------------------------------------------------


def test_trainers_are_built_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(TRAINER_REGISTRY, "_obj_map", dict(TRAINER_REGISTRY._obj_map))  # for this test only
    TRAINER_REGISTRY.register(TinyPlugin)
    cfg = tiny_cfg(tmp_path).clone()
    cfg.defrost()
    cfg.VERBOSE = True
    trainer = build_trainer(cfg)
    assert type(trainer) is TinyPlugin and "TinyPlugin" in TRAINER_REGISTRY.registered_names()
    out = capsys.readouterr().out
    assert out == "Loading trainer: TinyPlugin\nLoading evaluator: Classification\n"
    cfg.TRAINER.NAME = "TinyPlugins"
    with pytest.raises(ValueError, match=r"\(TRAINER.NAME\) 'TinyPlugins'; did you mean 'TinyPlugin'\?"):
        build_trainer(cfg)


def test_attributes_after_construction(tmp_path):
    trainer = seeded(tiny_cfg(tmp_path))
    assert (trainer.start_epoch, trainer.epoch, trainer.max_epoch) == (0, 0, 6)
    assert trainer.output_dir == str(tmp_path) and trainer.best_result == -float("inf")
    assert trainer.device == torch.device("cpu") and trainer.dm.dataset.classnames == CLASSES
    assert trainer.evaluator is not None and trainer._writer is None and trainer.get_model_names() == ["prompt_learner"]
    assert trainer.get_current_lr() == 1e-5 == trainer.get_current_lr("prompt_learner")
    assert trainer.diagnostics() is None and trainer.last_test is None and trainer.history == []
    assert not any(tmp_path.iterdir())  # nothing is written yet


def test_only_the_registered_part_changes_mode_and_is_saved(tmp_path):
    modes = []

    class Watched(TinyPlugin):
        def forward_backward(self, batch):
            modes.append((self.model.prompt_learner.training, self.model.image_encoder.training))
            return super().forward_backward(batch)

        def model_inference(self, input):
            modes.append((self.model.prompt_learner.training, self.model.image_encoder.training))
            return super().model_inference(input)

    trainer = seeded(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 1), Watched)
    trainer.train()
    assert set(modes[:3]) == {(True, False)} and set(modes[3:]) == {(False, False)}
    saved = load_checkpoint(tmp_path / "prompt_learner/model.pth.tar-1")
    assert list(saved["state_dict"]) == ["ctx", "token_prefix"]
    assert {"epoch", "optimizer", "scheduler", "val_result"} < set(saved) and saved["val_result"] is None


def test_eval_only(tmp_path):
    """`load_model` and `test` on a trainer that never trained: no writer, no folder needed."""
    trained = seeded(tiny_cfg(tmp_path / "run"))
    trained.train()
    fresh = seeded(tiny_cfg(tmp_path / "eval", "SEED", 1))
    fresh.load_model(str(tmp_path / "run"), epoch=6)
    accuracy = fresh.test()
    assert accuracy == trained.last_test["results"]["accuracy"] == fresh.last_test["results"]["accuracy"] > 60
    assert fresh.last_test["split"] == "test" and fresh.last_test["total"] == 30
    assert fresh.last_test["correct"] == sum(row["correct"] for row in fresh.last_test["per_class"])
    assert [row["name"] for row in fresh.last_test["per_class"]] == CLASSES and fresh.last_test["seconds"] > 0
    assert not (tmp_path / "eval").exists()
    assert fresh.test(split="val") != accuracy or fresh.last_test["total"] == 12
    assert fresh.last_test["split"] == "val"


def test_the_engine_never_steps_the_schedule(tmp_path):
    class Forgetful(TinyPlugin):
        def update_lr(self, names=None):
            pass

    trainer = seeded(tiny_cfg(tmp_path), Forgetful)
    trainer.train()
    assert trainer.sched.last_epoch == 0


def test_weights_swapped_in_the_last_step_are_what_is_saved_and_tested(tmp_path):
    class Averaging(TinyPlugin):
        def forward_backward(self, batch):
            summary = super().forward_backward(batch)
            if self.epoch + 1 == self.max_epoch and self.batch_idx + 1 == self.num_batches:
                with torch.no_grad():
                    self.model.prompt_learner.ctx.fill_(7.0)
            return summary

    seeded(tiny_cfg(tmp_path), Averaging).train()
    saved = load_checkpoint(tmp_path / "prompt_learner/model.pth.tar-6")["state_dict"]["ctx"]
    assert (saved == 7.0).all()


def test_wrapping_after_registration(tmp_path):
    class Wrapped(TinyPlugin):
        def build_model(self):
            super().build_model()
            self.model = nn.DataParallel(self.model)

    class WrappedBefore(TinyPlugin):
        """Registers the wrapped model, as one published trainer does."""

        def build_model(self):
            super().build_model()
            self._models.clear()
            self.register_model("prompt_learner", nn.DataParallel(self.model), self.optim, self.sched)

    for kind, keys in ((Wrapped, 2), (WrappedBefore, 4)):
        folder = tmp_path / kind.__name__
        trainer = seeded(tiny_cfg(folder, "OPTIM.MAX_EPOCH", 1), kind)
        trainer.train()
        saved = load_checkpoint(folder / "prompt_learner/model.pth.tar-1")["state_dict"]
        assert len(saved) == keys and not any(key.startswith("module.") for key in saved)
        again = seeded(tiny_cfg(folder, "SEED", 9, "OPTIM.MAX_EPOCH", 1), kind)
        assert again.resume_model_if_exist(str(folder)) == 1
        for key, value in again._models["prompt_learner"].state_dict().items():
            assert torch.equal(value, saved[key.removeprefix("module.")])


def test_a_trainer_may_move_the_device(tmp_path):
    class OnMeta(TinyPlugin):
        def build_model(self):
            super().build_model()
            self.device = torch.device("meta")

    trainer = seeded(tiny_cfg(tmp_path), OnMeta)
    points, label = trainer.parse_batch_test({"img": torch.zeros(1, WIDTH), "label": torch.zeros(1)})
    assert points.is_meta and label.is_meta


def test_a_loop_of_its_own(tmp_path):
    """Some plugins replace run_epoch, after_epoch and after_train, with names imported from the trainer module."""
    from dassl.engine.trainer import AverageMeter, MetricMeter, datetime, time

    class OwnLoop(TinyPlugin):
        def run_epoch(self):
            self.set_model_mode("train")
            meters, clock, end = MetricMeter(), AverageMeter(), time.time()
            self.num_batches = len(self.train_loader_x)
            for self.batch_idx, batch in enumerate(self.train_loader_x):  # noqa: B020
                meters.update(self.forward_backward(batch))
                clock.update(time.time() - end)
            self.write_scalar("train/lr", self.get_current_lr(), self.epoch)

        def after_train(self):
            print("own end", datetime.timedelta(seconds=round(time.time() - self.time_start)))
            self.test()
            self.close_writer()

    trainer = seeded(tiny_cfg(tmp_path), OwnLoop)
    trainer.train()
    assert trainer.last_test["results"]["accuracy"] > 60


def test_models_by_name():
    class Unready(TrainerBase):
        def __init__(self):
            self.register_model("a")

    with pytest.raises(AttributeError, match="super"):
        Unready()
    base = TrainerBase()
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = torch.optim.SGD(first.parameters(), lr=1.0)
    base.register_model("first", first, optimizer)
    base.register_model("second", second)
    assert base.get_model_names() == ["first", "second"] and base.get_model_names("second") == ["second"]
    assert base.get_model_names(("second", "first")) == ["second", "first"]
    with pytest.raises(AssertionError, match="registered already"):
        base.register_model("first", first)
    with pytest.raises(AssertionError, match="third.*first, second"):
        base.get_model_names(["third"])
    base.set_model_mode("eval", names="second")
    assert first.training and not second.training
    base.set_model_mode("test")
    assert not first.training
    with pytest.raises(KeyError, match="training"):
        base.set_model_mode("training")
    base.update_lr()
    before = first.weight.item()
    base.model_backward_and_update(first(torch.ones(1, 1)).sum())
    assert first.weight.item() == before - 1.0
    for hook in ("run_epoch", "test", "parse_batch_train", "parse_batch_test", "forward_backward", "model_inference"):
        with pytest.raises(NotImplementedError, match="TrainerBase"):
            getattr(base, hook)()
    assert base.before_train() is base.after_train() is base.before_epoch() is base.after_epoch() is None


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, bad):
    class Broken(TinyPlugin):
        def forward_backward(self, batch):
            points, label = self.parse_batch_train(batch)
            self.model_backward_and_update(self.model(points).sum() * float(bad))

    with pytest.raises(FloatingPointError, match=r"infinite or NaN.*epoch 1, batch 1"):
        seeded(tiny_cfg(tmp_path), Broken).train()


def poisoned(where: str):
    """A trainer whose last step ruins what it learns, though its loss was finite; in the middle of training its
    loss would tell."""

    class Poisoned(TinyPlugin):
        def forward_backward(self, batch):
            summary = super().forward_backward(batch)
            if self.epoch + 1 == self.max_epoch and self.batch_idx + 1 == self.num_batches:
                if where == "gradient":
                    self.model_zero_grad()
                    (self.model.prompt_learner.ctx * float("inf")).sum().backward()
                    self.model_update()
                else:
                    getattr(self.model, where).ctx.data[0, 0] = float("nan")
            return summary

    return Poisoned


@pytest.mark.parametrize("options", [(), ("TEST.FINAL_MODEL", "best_val"), ("TEST.NO_TEST", True)])
@pytest.mark.parametrize("where", ["gradient", "prompt_learner"])
def test_divergence_in_the_last_step_is_no_result(tmp_path, where, options):
    with pytest.raises(FloatingPointError, match="diverged: `ctx` of prompt_learner is infinite or NaN after epoch 6"):
        seeded(tiny_cfg(tmp_path, *options), poisoned(where)).train()
    assert not list(tmp_path.glob("*/model.pth.tar-6"))


def test_frozen_parameters_may_be_anything(tmp_path):
    class Masked(TinyPlugin):
        def build_model(self):
            super().build_model()
            self.model.prompt_learner.mask = nn.Parameter(torch.tensor([float("-inf")]), requires_grad=False)

    seeded(tiny_cfg(tmp_path), Masked).train()


def test_images_that_no_epoch_sees_are_counted(tmp_path, capsys):
    line = "3 of 15 training images are left out of every epoch: they fill no whole batch of 4 (DATALOADER.TRAIN_X"
    seeded(tiny_cfg(tmp_path / "run")).train()
    assert capsys.readouterr().out.count(line) == 1
    seeded(tiny_cfg(tmp_path / "run")).train()  # nothing left to train
    seeded(tiny_cfg(tmp_path / "none", "OPTIM.MAX_EPOCH", 0)).train()

    class Whole(TinyPlugin):
        def build_data_loader(self):
            super().build_data_loader()
            self.train_loader_x = DataLoader(self.train_loader_x.dataset, batch_size=5, drop_last=True)

    seeded(tiny_cfg(tmp_path / "whole"), Whole).train()
    assert "left out" not in capsys.readouterr().out


def test_methods_without_training(tmp_path, capsys):
    class ZeroShot(TinyPlugin):
        forward_backward = TrainerX.forward_backward

        def build_model(self):
            self.model = nn.Linear(WIDTH, len(CLASSES))

    trainer = seeded(tiny_cfg(tmp_path), ZeroShot)
    assert trainer.test() >= 0 and trainer.get_model_names() == []
    with pytest.raises(NotImplementedError, match="ZeroShot does not train"):
        trainer.train()
    assert "train from scratch" in capsys.readouterr().out


# --- configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["TEST.FINAL_MODEL", "best"], r"TEST.FINAL_MODEL.*did you mean 'best_val'"),
        (["TEST.SPLIT", "vall"], r"TEST.SPLIT.*did you mean 'val'"),
        (["TRAIN.PRINT_FREQ", 0], "TRAIN.PRINT_FREQ is 0; it must be 1 or more"),
        (["OPTIM.MAX_EPOCH", -1], "OPTIM.MAX_EPOCH is -1"),
        (["TEST.EVALUATOR", "Clasification"], "Classification"),
    ],
)
def test_bad_settings(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        seeded(tiny_cfg(tmp_path, *options))


def test_the_best_epoch_needs_validation_data(tmp_path):
    class NoVal(TinyPlugin):
        with_val = False

    trainer = seeded(tiny_cfg(tmp_path, "TEST.FINAL_MODEL", "best_val"), NoVal)
    with pytest.raises(ValueError, match="no validation data"):
        trainer.train()
    with pytest.warns(UserWarning, match="no validation data, so the test set takes its place"):
        trainer.test(split="val")
    assert trainer.last_test["split"] == "test"
    trainer = seeded(tiny_cfg(tmp_path, "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", True), NoVal)
    trainer.train()


def test_choosing_on_the_test_images_is_said_aloud(tmp_path):
    trainer = seeded(tiny_cfg(tmp_path, "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 1))
    item = type("Item", (), {"impath": "a.jpg"})()
    trainer.dm.dataset.val = trainer.dm.dataset.test = [item]
    with pytest.warns(UserWarning, match="also in the test set"):
        trainer.train()
    assert trainer.looks == {"test": 2}  # once to choose, once to report


def test_training_on_the_test_images_is_said_aloud(tmp_path):
    trainer = seeded(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 1))
    trainer.dm.dataset.train_x, trainer.dm.dataset.test = (
        [type("Item", (), {"impath": path})() for path in paths] for paths in ("abc", "bcd")
    )
    with pytest.warns(UserWarning, match=r"2 of 3 test images are also training images \(b, ...\)"):
        trainer.train()


def test_a_loader_of_other_images_is_no_choice_on_the_test_images(tmp_path):
    trainer = seeded(tiny_cfg(tmp_path, "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 1))
    one, other = (type("Item", (), {"impath": path})() for path in ("a.jpg", "b.jpg"))
    trainer.dm.dataset.val = trainer.dm.dataset.test = [one]  # as ImageNet
    trainer.val_loader.dataset.data_source = [other]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trainer.train()


def test_no_test_and_saving(tmp_path, capsys):
    trainer = seeded(tiny_cfg(tmp_path, "TEST.NO_TEST", True, "TRAIN.CHECKPOINT_FREQ", 4))
    trainer.train()
    out = capsys.readouterr().out
    assert "Finish training\nElapsed" in out and "=> result" not in out
    assert sorted(os.listdir(tmp_path / "prompt_learner")) == ["checkpoint", "model.pth.tar-4", "model.pth.tar-6"]


# --- the best epoch --------------------------------------------------------------------------------------


def test_the_best_epoch_is_kept_and_deployed(tmp_path, capsys):
    results = iter([50.0, 75.0, 75.0, 25.0])

    class Scripted(TinyPlugin):
        def test(self, split=None):
            value = super().test(split)
            return next(results) if split == "val" else value

        def load_model(self, directory, epoch=None):
            self.loaded = (directory, epoch)
            TrainerBase.load_model(self, directory, epoch)

    trainer = seeded(tiny_cfg(tmp_path, "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 4), Scripted)
    trainer.train()
    best = load_checkpoint(tmp_path / "prompt_learner/model-best.pth.tar")
    assert best["epoch"] == 2 and best["val_result"] == 75.0 and trainer.best_result == 75.0
    assert trainer.loaded == (str(tmp_path), None)
    assert torch.equal(trainer.model.prompt_learner.ctx, best["state_dict"]["ctx"])
    out = capsys.readouterr().out
    assert out.count("Evaluate on the *val* set") == 4 and "best val performance" in out
    assert "(epoch = 2, val_result = 75.00)" in out


def test_loading(tmp_path, capsys):
    trainer = seeded(tiny_cfg(tmp_path))
    trainer.train()
    other = seeded(tiny_cfg(tmp_path, "SEED", 8))
    TrainerBase.load_model(other, "")
    assert "skipped" in capsys.readouterr().out
    TrainerBase.load_model(other, str(tmp_path), epoch=6)  # its val_result is None
    assert torch.equal(other.model.prompt_learner.ctx, trainer.model.prompt_learner.ctx)
    assert "(epoch = 6)" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"model.pth.tar-60.*did you mean .*model.pth.tar-6\?"):
        TrainerBase.load_model(other, str(tmp_path), epoch=60)
    with pytest.raises(FileNotFoundError, match="model-best.pth.tar"):
        TrainerBase.load_model(other, str(tmp_path))


# --- an exact continuation -------------------------------------------------------------------------------


class Killed(BaseException):
    """Like a signal: nothing in the engine may catch it."""


def mortal(epoch, batch=0):
    """TinyPlugin that dies before the given batch (from 0) of the given epoch (from 0)."""

    class Mortal(TinyPlugin):
        def forward_backward(self, data):
            if (self.epoch, self.batch_idx) == (epoch, batch):
                raise Killed
            return super().forward_backward(data)

    return Mortal


@pytest.mark.parametrize("options", [(), ("TEST.FINAL_MODEL", "best_val"), ("TRAINER.TINY.PREC", "amp"),
                                     ("OPTIM.NAME", "adam", "OPTIM.WARMUP_EPOCH", 3, "OPTIM.WARMUP_TYPE", "linear"),
                                     ("OPTIM.WARMUP_EPOCH", -1, "OPTIM.LR_SCHEDULER", "multi_step",
                                      "OPTIM.STEPSIZE", (2, 4))])  # fmt: skip
def test_a_run_killed_in_any_epoch_continues_as_if_nothing_had_happened(tmp_path, options, capsys):
    common = ("TRAIN.CHECKPOINT_FREQ", 1, *options)
    whole = seeded(tiny_cfg(tmp_path / "whole", *common))
    whole.train()
    assert whole.looks == ({"val": 6, "test": 1} if "best_val" in options else {"test": 1})
    expected_log = without_times(capsys.readouterr().out.replace(str(tmp_path / "whole"), "RUN"))
    for epoch in range(1, 6):
        folder = tmp_path / f"killed{epoch}"
        with pytest.raises(Killed):
            seeded(tiny_cfg(folder, *common), mortal(epoch, batch=epoch % 3)).train()
        capsys.readouterr()
        resumed = seeded(tiny_cfg(folder, *common, "SEED", 100 + epoch))  # other random numbers before it resumes
        resumed.train()
        assert resumed.losses == whole.losses[3 * epoch :]  # to the last bit
        assert torch.equal(resumed.model.prompt_learner.ctx, whole.model.prompt_learner.ctx)
        assert resumed.history == whole.history and resumed.best_result == whole.best_result
        assert resumed.last_test["results"] == whole.last_test["results"] and resumed.looks == whole.looks
        log = without_times(capsys.readouterr().out.replace(str(folder), "RUN"))
        assert log[0] == f"Resuming from RUN after epoch {epoch}"
        assert log[3:] == expected_log[-len(log) + 3 :]  # after what is said before the first epoch


def test_a_killed_process_continues(tmp_path):
    code = """
import os, signal, sys
from tests.support.engine import TinyPlugin, tiny_cfg
from dassl.utils import set_random_seed
die = int(sys.argv[2])
class Run(TinyPlugin):
    def before_epoch(self):
        if self.epoch == die: os.kill(os.getpid(), signal.SIGKILL)
set_random_seed(5)
Run(tiny_cfg(sys.argv[1], "TRAIN.CHECKPOINT_FREQ", 2)).train()
"""
    command = [sys.executable, "-c", code, tmp_path / "a"]
    assert warm.run([*command, 5], cwd=REPOSITORY).returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path / "a/prompt_learner")) == ["checkpoint", "model.pth.tar-2", "model.pth.tar-4"]
    result = warm.run([*command, -1], cwd=REPOSITORY)
    assert result.returncode == 0 and "after epoch 4" in result.stdout, result.stderr
    assert "it/s" not in result.stderr
    whole = seeded(tiny_cfg(tmp_path / "b"))
    whole.train()
    resumed = load_checkpoint(tmp_path / "a/prompt_learner/model.pth.tar-6")
    assert_close(resumed["state_dict"]["ctx"], whole.model.prompt_learner.ctx.detach())
    assert [entry["epoch"] for entry in resumed["engine"]["history"]] == [1, 2, 3, 4, 5, 6]


def test_a_test_shows_how_far_it_is(tmp_path, monkeypatch, capsys):
    """A bar where stderr is a terminal; lines in the log where it takes minutes."""
    trainer = seeded(tiny_cfg(tmp_path))
    count = len(trainer.test_loader)
    assert count > 1
    trainer.test()
    out, err = capsys.readouterr()
    assert "eta" not in out and err == ""
    monkeypatch.setattr(engine_trainer, "TEST_NEWS", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    trainer.test()
    out, err = capsys.readouterr()
    assert re.findall(r"test batch \[(\d+)/\d+\] eta 0:00:\d\d", out) == [str(n) for n in range(1, count)]
    assert "test set: 100%" in err and f"{count}/{count}" in err


def test_resume_folder_and_finished_runs(tmp_path, capsys):
    first = seeded(tiny_cfg(tmp_path / "a"))
    first.train()
    capsys.readouterr()
    again = seeded(tiny_cfg(tmp_path / "b", "RESUME", str(tmp_path / "a"), "SEED", 3))
    again.train()
    out = capsys.readouterr().out
    assert "Nothing left to train: 6 of 6 epochs are done" in out and "Finish training" in out
    assert again.looks == {"test": 1}  # of the run's own: the test of the finished one decided nothing
    assert again.losses == [] and again.epoch == 5 and again.history == first.history
    assert again.last_test["results"] == first.last_test["results"]
    assert os.listdir(tmp_path / "b") == ["tensorboard"]


@pytest.mark.parametrize("more", [0, 2])
def test_the_best_model_comes_along_into_another_folder(tmp_path, more):
    options = ("TEST.FINAL_MODEL", "best_val")

    class Scripted(TinyPlugin):
        def test(self, split=None):
            value = super().test(split)
            return 75.0 - self.epoch if split == "val" else value  # the first epoch is the best

    seeded(tiny_cfg(tmp_path / "a", *options), Scripted).train()
    again = tiny_cfg(tmp_path / "b", *options, "RESUME", str(tmp_path / "a"), "OPTIM.MAX_EPOCH", 6 + more)
    trainer = seeded(again, Scripted)
    trainer.train()
    best = load_checkpoint(tmp_path / "b/prompt_learner/model-best.pth.tar")
    assert best["epoch"] == 1 and torch.equal(trainer.model.prompt_learner.ctx, best["state_dict"]["ctx"])


def test_a_torn_newest_checkpoint(tmp_path):
    whole = seeded(tiny_cfg(tmp_path / "a", "TRAIN.CHECKPOINT_FREQ", 1))
    whole.train()
    newest = tmp_path / "a/prompt_learner/model.pth.tar-6"
    newest.write_bytes(newest.read_bytes()[:700])
    resumed = seeded(tiny_cfg(tmp_path / "a", "TRAIN.CHECKPOINT_FREQ", 1, "SEED", 3))
    with pytest.warns(UserWarning, match="model.pth.tar-6.*damaged"):
        resumed.train()
    assert resumed.losses == whole.losses[-3:] and load_checkpoint(newest)["epoch"] == 6


def test_resuming_from_what_the_original_engine_saved(tmp_path):
    """Its files lack our extras, and hold the inner schedule as an object that must not be used."""
    trainer = seeded(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 6))
    for epoch in range(3):
        trainer.epoch = epoch
        trainer.run_epoch()
    scheduler = trainer.sched.state_dict() | {"successor": copy.deepcopy(trainer.sched.successor)}
    folder = tmp_path / "prompt_learner"
    folder.mkdir()
    state = {"state_dict": trainer.model.prompt_learner.state_dict(), "epoch": 3, "val_result": None}
    torch.save(state | {"optimizer": trainer.optim.state_dict(), "scheduler": scheduler}, folder / "model.pth.tar-3")
    (folder / "checkpoint").write_text("model.pth.tar-3\n")
    rates = []

    class Watched(TinyPlugin):
        def before_epoch(self):
            rates.append(self.get_current_lr())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = seeded(tiny_cfg(tmp_path), Watched)
        resumed.train()
    assert resumed.looks is None  # how often it was tested before, nothing says
    assert rates == pytest.approx([0.075, 0.05, 0.025])


def test_several_models_one_without_optimiser(tmp_path):
    class Two(TinyPlugin):
        def build_model(self):
            super().build_model()
            self.register_model("frozen", self.model.image_encoder)

    with pytest.raises(Killed):
        seeded(tiny_cfg(tmp_path, "TRAIN.CHECKPOINT_FREQ", 1), type("Dying", (Two, mortal(3)), {})).train()
    assert sorted(os.listdir(tmp_path)) == ["frozen", "prompt_learner", "tensorboard"]
    (tmp_path / "frozen/model.pth.tar-3").unlink()  # killed between the two files
    resumed = seeded(tiny_cfg(tmp_path, "SEED", 3), Two)
    resumed.train()
    assert len(resumed.losses) == 4 * 3 and [entry["epoch"] for entry in resumed.history] == [1, 2, 3, 4, 5, 6]


# --- tensorboard -----------------------------------------------------------------------------------------


def test_curves(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer = seeded(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 2, "TEST.FINAL_MODEL", "best_val"))
    trainer.train()
    assert trainer._writer is None
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    metrics = {f"{split}/{name}" for split in ("val", "test") for name in ("accuracy", "error_rate", "macro_f1")}
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/acc", "train/lr"} | metrics
    assert [event.step for event in events.Scalars("train/loss")] == list(range(6))
    assert [event.step for event in events.Scalars("val/accuracy")] == [0, 1]
    assert [event.step for event in events.Scalars("test/accuracy")] == [1]


def test_without_tensorboard_one_line_and_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    seeded(tiny_cfg(tmp_path, "OPTIM.MAX_EPOCH", 1)).train()
    out = capsys.readouterr().out
    said = [line for line in out.splitlines() if "tensorboard" in line and "Checkpoint" not in line]
    assert said == ["tensorboard is not installed, so no curves are written (pip install tensorboard)"]
    assert "=> result" in out


def test_the_writer_is_closed_when_the_run_dies(tmp_path, monkeypatch):
    closed = []

    class Writer:
        def __init__(self, log_dir):
            self.log_dir = log_dir

        def add_scalar(self, *args):
            pass

        def close(self):
            closed.append(self.log_dir)

    monkeypatch.setattr(dassl.engine.base, "SummaryWriter", Writer)
    with pytest.raises(Killed):
        seeded(tiny_cfg(tmp_path), mortal(1)).train()
    assert closed == [str(tmp_path / "tensorboard")]


# --- labelled and unlabelled -----------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batches"), [("train_x", 3), ("train_u", 5), ("smaller_one", 3)])
def test_pairs_of_batches(tmp_path, count, batches):
    class Semi(TinyPlugin, TrainerXU):
        run_epoch = TrainerXU.run_epoch

        def build_data_loader(self):
            super().build_data_loader()
            self.train_loader_u = [{"img": torch.full((2, WIDTH), float(i))} for i in range(5)]

        def forward_backward(self, batch_x, batch_u):
            image, label, unlabelled = TrainerXU.parse_batch_train(self, batch_x, batch_u)
            self.seen.append((len(image), float(unlabelled[0, 0])))
            return {"loss": 0.0}

    trainer = seeded(tiny_cfg(tmp_path, "TRAIN.COUNT_ITER", count, "OPTIM.MAX_EPOCH", 1), Semi)
    trainer.seen = []
    trainer.train()
    assert trainer.seen == [(4, float(i)) for i in range(batches)]
    trainer.train_loader_u = None
    with pytest.raises(ValueError, match="unlabelled"):
        trainer.run_epoch()


@pytest.mark.parametrize("workers", [0, 1])
def test_both_loaders_begin_before_either_is_read(tmp_path, workers):
    """So that a seed gives the pairs that it gives in the original."""
    class Semi(TinyPlugin, TrainerXU):
        run_epoch = TrainerXU.run_epoch

        def forward_backward(self, batch_x, batch_u):
            self.seen.append((batch_x.tolist(), batch_u.tolist()))

    trainer = seeded(tiny_cfg(tmp_path, "TRAIN.COUNT_ITER", "train_u"), Semi)
    trainer.seen = []
    trainer.train_loader_x, trainer.train_loader_u = (
        DataLoader(torch.arange(size), batch_size=4, shuffle=True, num_workers=workers) for size in (8, 20)
    )
    torch.manual_seed(5)
    trainer.run_epoch()
    torch.manual_seed(5)
    first, unlabelled, expected = iter(trainer.train_loader_x), iter(trainer.train_loader_u), []
    for number in range(5):
        first = iter(trainer.train_loader_x) if number in (2, 4) else first
        expected.append((next(first).tolist(), next(unlabelled).tolist()))
    assert trainer.seen == expected


def test_unknown_count_iter(tmp_path):
    trainer = seeded(tiny_cfg(tmp_path, "TRAIN.COUNT_ITER", "train_y"))
    trainer.train_loader_u = trainer.train_loader_x
    with pytest.raises(ValueError, match="train_y"):
        TrainerXU.run_epoch(trainer)


# --- the plain network -----------------------------------------------------------------------------------


def test_simple_net(tmp_path):
    cfg = tiny_cfg(tmp_path).clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAINED = False
    for name, width in (("squeezenet1_1", None), ("resnet18", 512), ("mobilenet_v3_small", 1024)):
        cfg.MODEL.BACKBONE.NAME = name
        if width is None:
            with pytest.raises(ValueError, match="linear"):
                SimpleNet(cfg, cfg.MODEL, 3)
            continue
        net = SimpleNet(cfg, cfg.MODEL, 3).eval()
        logits, feature = net(torch.zeros(1, 3, 32, 32), return_feature=True)
        assert logits.shape == (1, 3) and feature.shape == (1, width) == (1, net.fdim)
        features = SimpleNet(cfg, cfg.MODEL, 0).eval()
        assert features.classifier is None and features(torch.zeros(1, 3, 32, 32)).shape == (1, width)
    cfg.MODEL.BACKBONE.NAME = "resnet_18"
    with pytest.raises(ValueError, match=r"did you mean 'resnet18'"):
        SimpleNet(cfg, cfg.MODEL, 3)
    cfg.MODEL.HEAD.NAME = "mlp"
    with pytest.raises(ValueError, match="HEAD"):
        SimpleNet(cfg, cfg.MODEL, 3)


def test_a_trainer_without_a_model_of_its_own(tmp_path, capsys):
    class Plain(TrainerX):
        build_data_loader = TinyPlugin.build_data_loader
        with_val = True

    cfg = tiny_cfg(tmp_path, "MODEL.BACKBONE.NAME", "mobilenet_v3_small", "MODEL.BACKBONE.PRETRAINED", False)
    trainer = seeded(cfg, Plain)
    assert isinstance(trainer, SimpleTrainer) and trainer.get_model_names() == ["model"]
    batch = {"img": torch.zeros(2, 3, 32, 32), "label": torch.zeros(2), "domain": torch.zeros(2)}
    trainer.set_model_mode("eval")
    image, label, domain = trainer.parse_batch_train(batch)
    assert trainer.model_inference(image).shape == (2, 3) and "# params: " in capsys.readouterr().out
