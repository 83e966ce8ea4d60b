from __future__ import annotations

import collections
import io
import json
import math
import os
import pickle
import re
import shutil
import struct
import types
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dassl.engine import TrainerBase
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    CheckpointError,
    UnsafeCheckpointError,
    load_checkpoint,
    load_pretrained_weights,
    pickle_machine,
    resume_from_checkpoint,
    safe_load,
)
from dassl.utils.checkpoint import find_checkpoints, load_resume_point, restore_training, save_checkpoint
from dassl.utils.pickle_machine import Machine
from dassl.utils.safe_load import Inert
from tests.dassl.test_optim import optim_cfg, rates
from tests.dassl.test_utils import run_python
from tests.support.golden_data import GOLDEN

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
    with pytest.raises(FileNotFoundError, match=rf"No file exists at .*no/model.pth.tar-5\"; {tmp_path} is empty"):
        load_checkpoint(tmp_path / "no/model.pth.tar-5")
    save(tmp_path, 50)
    with pytest.raises(FileNotFoundError, match=r"model.pth.tar-5\".*did you mean .*/model.pth.tar-50\?"):
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


def test_what_people_keep_is_kept_and_read(tmp_path):
    kept = {
        "array": np.arange(6, dtype=">i2").reshape(2, 3).T, "empty": np.zeros((0, 3)), "flags": np.array([True, False]),
        "texts": np.array(["a", "bcd"]), "number": np.array(2.5), "complex": np.array([1 + 2j], np.complex64),
        "set": {1, "a", (2, 3)}, "frozen": frozenset({4}), "counts": collections.Counter(a=2), "bytes": b"\xff\0",
        "ordered": collections.OrderedDict(b=1, a=2), "nested": [{"x": (np.ones(2), {5})}],
    }  # fmt: skip
    save_checkpoint({"state_dict": {"w": torch.zeros(1)}, "epoch": 1} | kept, tmp_path)
    path = tmp_path / "model.pth.tar-1"
    for content in (load_checkpoint(path), torch.load(path, weights_only=False)):  # the latter as the original engine
        for name, value in kept.items():
            assert type(content[name]) is type(value), name
            if isinstance(value, np.ndarray):
                assert content[name].dtype == value.dtype.newbyteorder("=")  # NumPy's own pickles turn it, too
                np.testing.assert_array_equal(content[name], value)
            elif name != "nested":
                assert content[name] == value and list(content[name]) == list(value)
        ((array, numbers),) = [entry["x"] for entry in content["nested"]]
        assert array.tolist() == [1.0, 1.0] and numbers == {5}
    with pytest.warns(UserWarning, match=r"not plain data: objects, dates$"):
        dates = np.array(["2020-01-01"], "datetime64[D]")
        state = {"state_dict": {}, "epoch": 2, "objects": np.array([1, "a"], dtype=object), "dates": dates}
        save_checkpoint(state, tmp_path)


@pytest.mark.parametrize("old", [False, True])
def test_files_that_are_no_dict_and_tensors_of_all_kinds(tmp_path, old):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = [base, base[1], base.t()[1:, ::2], base[0].expand(5, 4), torch.tensor(3), torch.zeros(0, 7), base.half(),
               base.bfloat16(), base.bool(), base.to(torch.complex64), torch.arange(3, dtype=torch.int16),
               nn.Parameter(base[2]), torch.zeros(2, dtype=torch.uint8)]  # fmt: skip
    torch.save(tensors, tmp_path / "list.pt", _use_new_zipfile_serialization=not old)
    found = load_checkpoint(tmp_path / "list.pt")
    assert type(found) is list
    for tensor, again in zip(tensors, found, strict=True):
        assert torch.equal(tensor, again) and tensor.dtype == again.dtype and tensor.stride() == again.stride()
        assert type(tensor) is type(again) and tensor.requires_grad == again.requires_grad
    assert found[0].data_ptr() + 16 == found[1].data_ptr()  # one storage
    torch.save(base, tmp_path / "tensor.pt", _use_new_zipfile_serialization=not old)
    assert torch.equal(load_checkpoint(tmp_path / "tensor.pt"), base)


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
    scripted = torch.jit.trace(nn.Linear(1, 1), torch.zeros(1))
    torch.jit.save(scripted, str(tmp_path / "archive"))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "archive")


def test_a_file_that_is_no_checkpoint_is_named_where_one_is_needed(tmp_path):
    (tmp_path / "net").mkdir()
    torch.save([torch.zeros(1)], tmp_path / "net/model-best.pth.tar")
    trainer = TrainerBase()
    trainer.register_model("net", nn.Linear(1, 1))
    with pytest.raises(CheckpointError, match="model-best.pth.tar holds a list, not a checkpoint"):
        trainer.load_model(str(tmp_path))
    with pytest.raises(CheckpointError, match="model-best.pth.tar holds a list, not a state dict"):
        load_pretrained_weights(nn.Linear(1, 1), tmp_path / "net/model-best.pth.tar")


# --- damage ----------------------------------------------------------------------------------------------


def small_file(path):
    state = {"state_dict": {"ctx": torch.randn(4, 16)}, "epoch": 3, "array": np.arange(5), "history": [{"loss": 0.5}]}
    torch.save(state, path)
    return path.read_bytes()


def test_turned_bits_among_the_numbers_are_found(tmp_path):
    path = tmp_path / "model.pth.tar-3"
    whole = small_file(path)
    numbers = load_checkpoint(path)["state_dict"]["ctx"].numpy().tobytes()
    place = whole.index(numbers)
    for bit in (0, 1000, 8 * len(numbers) - 1):
        damaged = bytearray(whole)
        damaged[place + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model.pth.tar-3 .*damaged.*Bad CRC-32 .*data/0"):
            load_checkpoint(path)


@given(st.lists(st.integers(min_value=0), min_size=1, max_size=3), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_turned_anywhere_is_found_or_changes_nothing(tmp_path, bits, cut):
    path = tmp_path / "model.pth.tar-3"
    whole = small_file(path)
    before = load_checkpoint(path)
    damaged = bytearray(whole)
    for bit in bits:
        damaged[bit // 8 % len(damaged)] ^= 1 << bit % 8
    path.write_bytes(damaged[: bits[0] % len(damaged)] if cut else damaged)
    try:
        after = load_checkpoint(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return
    assert torch.equal(before["state_dict"]["ctx"], after["state_dict"]["ctx"])
    assert after["array"].tolist() == before["array"].tolist()
    assert (after["epoch"], after["history"]) == (before["epoch"], before["history"])


def test_files_without_checksums_are_read(tmp_path):
    """torch.serialization.set_crc32_options(False) leaves zeros, and so must be read."""
    path = tmp_path / "x"
    small_file(path)
    with zipfile.ZipFile(path) as archive:
        checksums = [(info.filename.encode(), info.CRC) for info in archive.infolist()]
    content = path.read_bytes()
    for _, checksum in checksums:
        content = content.replace(struct.pack("<I", checksum), bytes(4))
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert not any(info.CRC for info in archive.infolist())
    assert load_checkpoint(path)["epoch"] == 3


# --- files that ask for too much -------------------------------------------------------------------------


def test_no_file_takes_more_memory_than_a_small_multiple_of_its_size(tmp_path):
    path = tmp_path / "x"
    torch.save({"wide": torch.zeros(1).expand(10**6, 10**6)}, path)  # 4 TB as soon as it is computed with
    with pytest.raises(CheckpointError, match="repeat a few numbers"):
        load_checkpoint(path)
    for name, change in {
        "longer than its storage": lambda pickled: pickled.replace(b"K\x04K\x04\x86", b"K\x04K\xff\x86"),
        "where lengths belong": lambda pickled: pickled.replace(b"K\x04K\x04\x86", b"K\x04J\xff\xff\xff\xff\x86"),
    }.items():
        torch.save({"state_dict": torch.zeros(4, 4)}, path)
        rewritten(path, lambda member, content, change=change: change(content) if member == "data.pkl" else content)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(path)
    torch.save({"state_dict": torch.zeros(10**6)}, path)
    rewritten(path, lambda member, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed"):
        load_checkpoint(path)


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """The archive with other members."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in members.items():
            new.writestr(name, change(name.partition("/")[2], content))


def test_a_member_that_claims_more_than_the_file_has_is_refused(tmp_path):
    path = tmp_path / "x"
    torch.save({"state_dict": torch.zeros(100)}, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"x/data/0") - 46  # of the central directory
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="members are longer than the file"):
        load_checkpoint(path)
    torch.save({"x": torch.zeros(100)}, path, _use_new_zipfile_serialization=False)
    many = b"\\1\x8a\x06" + (2**45).to_bytes(6, "little")  # LONG1 instead of BININT1: how many numbers
    path.write_bytes(re.sub(rb"(cpuq.)Kd", many, path.read_bytes()))
    with pytest.raises(CheckpointError, match="a storage of"):
        load_checkpoint(path)


# --- the machine that reads pickles ----------------------------------------------------------------------

NAMES = ("collections OrderedDict", "collections Counter", "collections defaultdict", "numpy dtype", "numpy ndarray",
         "numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar", "torch._utils _rebuild_tensor_v2",
         "torch Size", "torch device", "torch float32", "torch FloatStorage", "torch.optim.sgd SGD", "builtins set",
         "builtins dict", "_codecs encode", "torch._utils _rebuild_parameter")  # fmt: skip
ATTRIBUTES = ("update", "__setstate__", "__init__", "__class__", "keys", "append", "__dict__", "_metadata")
PIECES = (
    [f"c{name}\n".replace(" ", "\n").encode() for name in NAMES]
    + [b"X" + struct.pack("<I", len(text)) + text.encode() for text in ATTRIBUTES]
    + [b"N", b"\x88", b"K\x01", b")", b"]", b"}", b"\x8f", b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"\x81"]
    + [b"\x92", b"b", b"a", b"e", b"s", b"u", b"\x90", b"o", b"d", b"l", b"2", b"0", b"q\x00", b"h\x00", b"Q"]
)  # fmt: skip
CLASSES = (collections.OrderedDict, collections.Counter, collections.defaultdict, np.ndarray, np.dtype, torch.Size,
           torch.Tensor, nn.Parameter, torch.optim.SGD, Inert, pickle_machine.Name, pickle_machine.Machine)  # fmt: skip


def everything():
    """What a pickle could change of this process: attributes of classes and functions, and the lists of the machine."""
    places = [*CLASSES, pickle_machine, safe_load, torch._utils, collections]
    functions = [value for value in vars(pickle_machine).values() if callable(value)]
    functions += [maker for maker in pickle_machine.PLAIN.values() if maker is not None]
    return (
        [dict(vars(place)) for place in places],
        [(dict(vars(value)), value.__defaults__) for value in functions if hasattr(value, "__defaults__")],
        dict(pickle_machine.PLAIN), dict(safe_load.VALUES), np.dtype("f4").newbyteorder("=") == np.float32,
    )  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), min_size=2, max_size=12), st.booleans())
@settings(max_examples=1500, deadline=None)
def test_no_pickle_changes_this_process(pieces, likely):
    """Any instructions, and any that end in one that changes what lies below its argument."""
    stream = b"".join(pieces) + (b"}X\x06\x00\x00\x00updateK\x01sb" if likely else b"") + b"."
    before = everything()
    machine = Machine(safe_load._Tensors(100).makers(), safe_load.VALUES, safe_load.STAND_INS, lambda pickled: pickled)
    try:
        value = machine.run(io.BytesIO(stream))
    except safe_load._DAMAGE:
        value = None
    assert everything() == before
    assert not callable(value) and not isinstance(value, (type, types.ModuleType))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("torch float32", "torch FloatStorage")])
def test_attributes_are_given_to_no_class_or_function(tmp_path, name):
    """Name, state, BUILD: what would replace a method of an allowed class."""
    stream = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n}X\x06\x00\x00\x00updateK\x01sb."
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("x/data.pkl", stream)
    with pytest.raises(UnsafeCheckpointError, match="asks for attributes for a Name"):
        load_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("place", ["key", "element", "storage"])
def test_keys_that_take_for_ever_to_hash_are_refused(tmp_path, place):
    """A tuple that holds the next one twice, 60 levels deep."""
    nested = b"K\x01" + b"2\x86" * 60
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + nested + b"X\x03\x00\x00\x00cpuK\x01tQ"
    stream = {"key": b"}" + nested + b"K\x01s", "element": b"\x8f(" + nested + b"\x90", "storage": storage}[place]
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + stream + b".")
    with pytest.raises(CheckpointError, match="a key that is nested|a storage without a name"):
        load_checkpoint(tmp_path / "x")


# --- resuming --------------------------------------------------------------------------------------------


def test_the_epoch_that_the_pointer_names_is_resumed(tmp_path):
    model = nn.Linear(1, 1)
    for epoch in (5, 10, 9):
        save(tmp_path, epoch, float(epoch))
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-9\n"
    assert list(find_checkpoints(tmp_path)) == [10, 9, 5]
    assert resume_from_checkpoint(tmp_path, model) == 9 and model.weight.item() == 9.0
    (tmp_path / "checkpoint").write_text("model.pth.tar-5\n")
    assert resume_from_checkpoint(tmp_path, model) == 5 and model.weight.item() == 5.0
    save(tmp_path, 7, 7.0, model_name="mine.pth")  # numbered on the inside
    assert resume_from_checkpoint(tmp_path, model) == 7 and model.weight.item() == 7.0


def test_a_pointer_to_the_best_model_or_to_nothing_leads_to_the_highest_epoch(tmp_path):
    model = nn.Linear(1, 1)
    for epoch in (5, 10, 9):
        save(tmp_path, epoch, float(epoch))
    save(tmp_path, 7, 7.0, model_name="model-best.pth.tar")
    assert (tmp_path / "checkpoint").read_text() == "model-best.pth.tar\n"
    assert resume_from_checkpoint(tmp_path, model) == 10 and model.weight.item() == 10.0
    for pointer in ("", "../elsewhere/model.pth.tar-9"):
        (tmp_path / "checkpoint").write_text(pointer)
        assert resume_from_checkpoint(tmp_path, model) == (9 if pointer else 10)  # only names within the folder
    (tmp_path / "checkpoint").write_text("model.pth.tar-8\n")
    with pytest.warns(UserWarning, match="checkpoint names model.pth.tar-8, which is not there"):
        assert resume_from_checkpoint(tmp_path, model) == 10
    (tmp_path / "checkpoint").write_text("model.pth.tar-5\n")
    (tmp_path / "model.pth.tar-5").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="model.pth.tar-5 .*damaged.*another"):
        assert resume_from_checkpoint(tmp_path, model) == 10
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
    torch.save([1, 2], tmp_path / "c/model.pth.tar-1")
    with pytest.warns(UserWarning, match="holds a list, not a checkpoint"), pytest.raises(CheckpointError):
        resume_from_checkpoint(tmp_path / "c", model)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path):
    for epoch in (1, 2, 3):
        save(tmp_path, epoch, float(epoch))
    newest = tmp_path / "model.pth.tar-3"
    newest.write_bytes(newest.read_bytes()[:500])
    model = nn.Linear(1, 1)
    with pytest.warns(UserWarning, match=r"model.pth.tar-3 .*damaged.*another"):
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
    assert [(tmp_path / name / "checkpoint").read_text()[-2] for name in "ab"] == ["3", "2"]
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


class OriginalWarmup(torch.optim.lr_scheduler.LRScheduler):
    """How the original engine's constant warm-up steps, and takes a saved state: every entry becomes an attribute."""

    def __init__(self, optimizer, successor, epochs, rate):
        self.successor, self.warmup_epoch, self.rate = successor, epochs, rate
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.rate] * len(self.base_lrs)

    def step(self, epoch=None):
        if self.last_epoch < self.warmup_epoch:
            super().step(epoch)
        else:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()

    def load_state_dict(self, state):
        self.__dict__.update(state)


@pytest.mark.parametrize("stop", [1, 5])
def test_the_original_engine_goes_on_from_a_checkpoint_of_ours(tmp_path, stop):
    """It has its own live schedule, so the rates go on from the saved one along its beginning."""
    model = nn.Linear(1, 1)
    cfg, optimizer, schedule = parts(model)
    for _ in range(stop):
        optimizer.step()
        schedule.step()
    state = {"state_dict": model.state_dict(), "epoch": stop, "optimizer": optimizer.state_dict()}
    save_checkpoint(state | {"scheduler": schedule.state_dict()}, tmp_path)

    saved = torch.load(tmp_path / f"model.pth.tar-{stop}", weights_only=True)  # as it reads, on a PyTorch of today
    theirs = torch.optim.SGD(nn.Linear(1, 1).parameters(), cfg.LR, momentum=0.9)
    live = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, cfg.MAX_EPOCH)
    warmup = OriginalWarmup(theirs, live, cfg.WARMUP_EPOCH, cfg.WARMUP_CONS_LR)
    theirs.load_state_dict(saved["optimizer"])
    warmup.load_state_dict(saved["scheduler"])
    assert warmup.successor is live
    start = theirs.param_groups[0]["lr"]
    assert start == rates(cfg, 50)[stop]
    for k in range(1, 50 - stop):
        theirs.step()
        warmup.step()
        expected = start * (1 + math.cos(math.pi * k / cfg.MAX_EPOCH)) / 2
        assert theirs.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)
        if stop == 1:  # saved at the end of the warm-up: as if there had been no break
            assert theirs.param_groups[0]["lr"] == pytest.approx(rates(cfg, 50)[stop + k], rel=1e-9)


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
