from __future__ import annotations

import collections
import io
import json
import os
import pickle
import shutil
import struct
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import CheckpointError, UnsafeCheckpointError, load_checkpoint, resume_from_checkpoint
from dassl.utils.checkpoint import find_checkpoints, load_resume_point, restore_training, save_checkpoint
from dassl.utils.safe_load import Inert
from tests.golden_data import GOLDEN
from tests.test_optim import optim_cfg, rates
from tests.test_utils import run_python

LEGACY = GOLDEN / "e2e/checkpoints/plot_N4_ctx16_seed1/prompt_learner"


class Shell:
    """Runs a command when unpickled; the command leaves a file behind."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


class Prompts(nn.Module):
    """Holds what the recorded checkpoint holds."""

    def __init__(self):
        super().__init__()
        self.ctx = nn.Parameter(torch.zeros(4, 16, 64))
        self.register_buffer("token_prefix", torch.zeros(32, 1, 64))
        self.register_buffer("token_suffix", torch.zeros(32, 60, 64))


def parts(model, **changes):
    cfg = optim_cfg(LR_SCHEDULER="cosine", WARMUP_EPOCH=1, WARMUP_TYPE="constant", MAX_EPOCH=50, **changes)
    optimizer = build_optimizer(model, cfg)
    return cfg, optimizer, build_lr_scheduler(optimizer, cfg)


def save(folder, epoch, value=0.0, **kwargs):
    """A small checkpoint whose weight is `value`."""
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, value)
    state = {"state_dict": model.state_dict(), "epoch": epoch, "optimizer": None, "scheduler": None}
    save_checkpoint(state | {"val_result": None}, folder, **kwargs)


# --- writing ---------------------------------------------------------------------------------------------


def test_files_names_and_content(tmp_path, capsys):
    model = nn.Linear(2, 2)
    _, optimizer, schedule = parts(model)
    state_dict = nn.DataParallel(model).state_dict()
    state = {
        "state_dict": state_dict, "epoch": 3, "optimizer": optimizer.state_dict(), "val_result": np.float64(91.5),
        "scheduler": schedule.state_dict(), "extra": {"counts": collections.Counter(a=2), "when": (1, None, "x")},
    }  # fmt: skip
    save_checkpoint(state, tmp_path / "p")
    assert sorted(os.listdir(tmp_path / "p")) == ["checkpoint", "model.pth.tar-3"]
    assert (tmp_path / "p/checkpoint").read_text() == "model.pth.tar-3\n"
    assert capsys.readouterr().out == f"Checkpoint saved to {tmp_path}/p/model.pth.tar-3\n"
    assert list(state_dict) == ["module.weight", "module.bias"]  # the caller's dict is left alone

    saved = torch.load(tmp_path / "p/model.pth.tar-3", weights_only=True)  # torch's own safe loader reads it
    assert list(saved) == ["state_dict", "epoch", "optimizer", "val_result", "scheduler", "extra"]
    assert list(saved["state_dict"]) == ["weight", "bias"] and saved["epoch"] == 3 and saved["val_result"] == 91.5
    assert saved["extra"] == {"counts": {"a": 2}, "when": (1, None, "x")}

    save_checkpoint(state, tmp_path / "p", is_best=True, remove_module_from_keys=False)
    assert "model-best.pth.tar" in os.listdir(tmp_path / "p")
    assert list(load_checkpoint(tmp_path / "p/model-best.pth.tar")["state_dict"]) == ["module.weight", "module.bias"]
    save_checkpoint(state, tmp_path / "p", model_name="mine.pth")
    assert (tmp_path / "p/checkpoint").read_text() == "mine.pth\n"


def test_objects_are_left_out_by_name(tmp_path):
    state = {"state_dict": {"w": torch.zeros(1)}, "epoch": 1, "scheduler": {"fn": print, "keep": 1}, "x": object()}
    with pytest.warns(UserWarning, match=r"not plain data: scheduler.fn, x$"):
        save_checkpoint(state, tmp_path)
    saved = torch.load(tmp_path / "model.pth.tar-1", weights_only=True)
    assert saved["scheduler"] == {"keep": 1}


def test_a_full_disk_leaves_the_previous_checkpoint_and_a_clear_error(tmp_path):
    save(tmp_path, 1, 1.0)
    code = """
import resource, sys, torch
from dassl.utils import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
state = {"state_dict": {"weight": torch.zeros(100_000)}, "epoch": 2}
try: save_checkpoint(state, sys.argv[1])
except OSError as error: print("caught", error)
"""
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("caught") and "too large" in result.stdout
    assert f"{tmp_path}/model.pth.tar-2" in result.stdout and "no file was left behind" in result.stdout
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "model.pth.tar-1"]
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-1\n"


# --- reading ---------------------------------------------------------------------------------------------


def test_missing_files(tmp_path):
    with pytest.raises(ValueError, match="None"):
        load_checkpoint(None)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_checkpoint(tmp_path / "no/model.pth.tar-5")
    save(tmp_path, 50)
    with pytest.raises(FileNotFoundError, match=r"model.pth.tar-5\".*did you mean model.pth.tar-50\?"):
        load_checkpoint(tmp_path / "model.pth.tar-5")
    with pytest.raises(FileNotFoundError, match="folder"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_of_the_original_engine():
    checkpoint = load_checkpoint(LEGACY / "model.pth.tar-50")
    shapes = {key: tuple(value.shape) for key, value in checkpoint["state_dict"].items()}
    assert shapes == {"ctx": (4, 16, 64), "token_prefix": (32, 1, 64), "token_suffix": (32, 60, 64)}
    assert checkpoint["epoch"] == 50 and checkpoint["val_result"] is None
    assert checkpoint["optimizer"]["param_groups"][0]["momentum"] == 0.9
    assert checkpoint["optimizer"]["state"][0]["momentum_buffer"].shape == (4, 16, 64)
    inner = checkpoint["scheduler"]["successor"]
    assert type(inner) is Inert and inner.last_epoch == 49 and inner.T_max == 50.0
    arrays = np.load(GOLDEN / "e2e/plot_eval_seed1.npz")
    np.testing.assert_array_equal(checkpoint["state_dict"]["ctx"].numpy(), arrays["ctx"])


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("form", ["pickle", "torch", "old torch"])
def test_a_file_that_runs_code_is_refused_before_it_does(tmp_path, form, protocol):
    trace, path = tmp_path / "trace", tmp_path / "model.pth.tar-1"
    content = {"x": Shell(trace), "state_dict": {"w": torch.zeros(2)}, "epoch": 1}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    else:
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(UnsafeCheckpointError, match=r"system.*nothing was executed"):
        load_checkpoint(path)
    with pytest.raises(UnsafeCheckpointError):
        resume_from_checkpoint(tmp_path, nn.Linear(1, 1))  # never passed over in silence
    assert not trace.exists()
    pickle.loads(pickle.dumps(Shell(trace)))
    assert trace.exists()  # the weapon does work


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr", "builtins.__import__",
        "subprocess.Popen", "torch.load", "torch.hub.load", "torch._utils._import_dotted_name", "numpy.load",
        "torch.serialization.load", "torch.nn.Linear", "functools.partial", "operator.attrgetter", "codecs.decode",
        "torch.storage._load_from_bytes", "torch.os.system", "collections.namedtuple", "torch.utils.Storage",
    ],
)  # fmt: skip
def test_names_beyond_the_list_are_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    # protocol 4: STACK_GLOBAL with (module, attribute), then an empty tuple and REDUCE: a call
    stream = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(attribute)])
    stream += attribute.encode() + b"\x93)R."
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", stream)
        archive.writestr("x/version", "3\n")
        archive.writestr("x/byteorder", "little")
    with pytest.raises((UnsafeCheckpointError, CheckpointError)) as caught:
        load_checkpoint(path)
    assert isinstance(caught.value, UnsafeCheckpointError), caught.value


def test_everything_from_the_optimiser_modules_is_inert(tmp_path):
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(2))])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    torch.save({"state_dict": {}, "epoch": 1, "s": schedule, "n": np.float64(2.5)}, tmp_path / "x")
    content = load_checkpoint(tmp_path / "x")
    assert type(content["s"]) is Inert and content["s"].milestones == {3: 1, 5: 1} and content["n"] == 2.5
    assert type(content["s"].optimizer) is Inert and not hasattr(content["s"], "step")


def test_objects_among_numpy_numbers_are_refused(tmp_path):
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=2)
    pickler.dump({"state_dict": {}, "n": np.array([1, "a"], dtype=object)})
    (tmp_path / "x").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "x")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_damaged_files(tmp_path):
    whole = (LEGACY / "model.pth.tar-50").read_bytes()
    overwritten = bytearray(whole)
    overwritten[200:5000] = bytes(4800)
    cases = {"none": b"", "text": b"not a checkpoint", "number": struct.pack("<d", 1.0), "zeros": bytes(1000)}
    cases |= {f"cut {n}": whole[:n] for n in (1, 3, 50, 1000, len(whole) // 2, len(whole) - 1)}
    cases["overwritten"] = bytes(overwritten)
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name}.* is damaged, incomplete or no checkpoint"):
            load_checkpoint(path)
    torch.save([1, 2], tmp_path / "list")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(tmp_path / "list")
    scripted = torch.jit.trace(nn.Linear(1, 1), torch.zeros(1))
    torch.jit.save(scripted, str(tmp_path / "archive"))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "archive")


# --- resuming --------------------------------------------------------------------------------------------


def test_the_highest_epoch_is_resumed_whatever_the_pointer_says(tmp_path):
    for epoch in (5, 10, 9):
        save(tmp_path, epoch, float(epoch))
    save(tmp_path, 7, 7.0, model_name="model-best.pth.tar")
    assert (tmp_path / "checkpoint").read_text() == "model-best.pth.tar\n"
    assert list(find_checkpoints(tmp_path)) == [10, 9, 5]
    model = nn.Linear(1, 1)
    assert resume_from_checkpoint(tmp_path, model) == 10 and model.weight.item() == 10.0
    save(tmp_path, 12, 12.0, model_name="model-best.pth.tar")  # later than any numbered one
    assert resume_from_checkpoint(tmp_path, model) == 12 and model.weight.item() == 12.0


def test_only_the_best_or_a_file_of_another_name(tmp_path):
    model = nn.Linear(1, 1)
    save(tmp_path / "a", 3, 3.0, model_name="model-best.pth.tar")
    assert resume_from_checkpoint(tmp_path / "a", model) == 3
    save(tmp_path / "b", 4, 4.0, model_name="mine.pth")
    assert resume_from_checkpoint(tmp_path / "b", model) == 4 and model.weight.item() == 4.0
    (tmp_path / "c").mkdir()
    (tmp_path / "c/checkpoint").write_text("../a/model-best.pth.tar\n")  # only names within the folder
    for empty in ("c", "d"):
        with pytest.raises(FileNotFoundError, match="no checkpoint"):
            resume_from_checkpoint(tmp_path / empty, model)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path):
    for epoch in (1, 2, 3):
        save(tmp_path, epoch, float(epoch))
    newest = tmp_path / "model.pth.tar-3"
    newest.write_bytes(newest.read_bytes()[:500])
    model = nn.Linear(1, 1)
    with pytest.warns(UserWarning, match=r"model.pth.tar-3 .*damaged.*earlier"):
        assert resume_from_checkpoint(tmp_path, model) == 2
    assert model.weight.item() == 2.0
    for epoch in (1, 2):
        (tmp_path / f"model.pth.tar-{epoch}").write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        resume_from_checkpoint(tmp_path, model)


def test_several_models_resume_at_the_same_epoch(tmp_path):
    for epoch in (1, 2, 3):
        save(tmp_path / "a", epoch, float(epoch))
    for epoch in (1, 2):  # the run was killed between the two files of epoch 3
        save(tmp_path / "b", epoch, -float(epoch))
    epoch, (a, b) = load_resume_point([tmp_path / "a", tmp_path / "b"])
    assert epoch == 2 and a["state_dict"]["weight"].item() == 2.0 and b["state_dict"]["weight"].item() == -2.0
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(CheckpointError, match="no epoch was saved for every model"):
        load_resume_point([tmp_path / "a", tmp_path / "b"])
    assert load_resume_point([tmp_path / "x"]) is None


def test_resuming_a_run_of_the_original_engine(tmp_path):
    model = Prompts()
    cfg, optimizer, schedule = parts(model)
    assert resume_from_checkpoint(LEGACY, model, optimizer, schedule) == 50
    assert model.ctx.abs().sum() > 0 and len(optimizer.state) == 1
    expected = json.loads((GOLDEN / "training/lr_schedules.json").read_text())[2]["lr_after_last_epoch"]
    assert optimizer.param_groups[0]["lr"] == expected

    # stopped half-way, the rates go on along the cosine instead of standing still
    checkpoint = load_checkpoint(LEGACY / "model.pth.tar-50")
    for stop in (0, 1, 2, 20):
        model = Prompts()
        _, optimizer, schedule = parts(model)
        restore_training(checkpoint | {"epoch": stop}, model, optimizer, schedule)
        seen = []
        for _ in range(stop, 50):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert seen == rates(cfg, 50)[stop:]
    assert type(schedule.successor) is torch.optim.lr_scheduler.CosineAnnealingLR
    assert schedule.successor.optimizer is optimizer


def test_torchs_own_schedules_resume(tmp_path):
    model = nn.Linear(1, 1)
    cfg = optim_cfg(LR_SCHEDULER="multi_step", STEPSIZE=(2, 4), GAMMA=0.5)
    optimizer = build_optimizer(model, cfg)
    schedule = build_lr_scheduler(optimizer, cfg)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    state = {"state_dict": model.state_dict(), "epoch": 3, "optimizer": optimizer.state_dict()}
    save_checkpoint(state | {"scheduler": schedule.state_dict()}, tmp_path)
    optimizer = build_optimizer(model, cfg)
    schedule = build_lr_scheduler(optimizer, cfg)
    resume_from_checkpoint(tmp_path, model, optimizer, schedule)
    assert optimizer.param_groups[0]["lr"] == 0.001 and isinstance(schedule.milestones, collections.Counter)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.0005


def test_weights_of_another_model_are_refused(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(RuntimeError, match="another model.*size mismatch|another model"):
        resume_from_checkpoint(tmp_path, nn.Linear(2, 2))
    model = nn.Linear(1, 1)
    assert resume_from_checkpoint(tmp_path, nn.DataParallel(model)) == 1
    other = build_optimizer(nn.Linear(1, 1), optim_cfg()).state_dict()
    other["param_groups"][0]["params"] = [0]
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 2, "optimizer": other}, tmp_path)
    with pytest.raises(ValueError, match="another optimiser"):
        resume_from_checkpoint(tmp_path, model, build_optimizer(model, optim_cfg()))
