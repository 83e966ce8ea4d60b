"""Which device a text names, what is said where this machine lacks it, and who obeys."""
from __future__ import annotations

import argparse

import pytest
import torch
from yacs.config import CfgNode

from dassl.plain import ranks
from dassl.plain.devices import add_device_flag, choose_device, set_device_keys
from dassl.utils.rng import get_rng_state, set_rng_state
from tests.support.engine import TinyPlugin, tiny_cfg


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the machine has so many CUDA GPUs; returns the list of those that were made the current one."""
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(str(device)))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        return current

    return pretend


@pytest.mark.parametrize(
    ("name", "count", "device"),
    [
        ("auto", 0, "cpu"), ("", 0, "cpu"), ("cpu", 0, "cpu"),
        ("auto", 2, "cuda"), ("cuda", 1, "cuda"), ("cuda:0", 1, "cuda:0"), ("cuda:1", 2, "cuda:1"), ("cpu", 2, "cpu"),
    ],
)  # fmt: skip
def test_what_a_name_means(gpus, name, count, device):
    current = gpus(count)
    assert choose_device(name) == torch.device(device)
    assert current == ([device] if ":" in device else [])  # so that `.cuda()` of a plugin means this one, too


def test_use_cuda_matters_to_auto_alone(gpus):
    gpus(1)
    assert choose_device("auto", use_cuda=False).type == "cpu" and choose_device("cuda", use_cuda=False).type == "cuda"


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("cuda", 0, "cuda was asked for, but this machine has no CUDA GPU; use cpu"),
        ("cuda:1", 1, "cuda:1 was asked for, but this machine has 1 CUDA GPU: cuda:0; use cpu, cuda:0"),
        ("cuda:2", 2, "cuda:2 was asked for, but this machine has 2 CUDA GPUs: cuda:0, cuda:1; use cpu, cuda:0"),
        ("mps", 1, "mps was asked for, but this machine"),
        ("tpu", 1, "there is no device 'tpu'; use cpu, cuda, cuda:0"),
        ("cuda:", 1, "there is no device 'cuda:'"),
    ],
)
def test_what_is_said_where_there_is_none(gpus, name, count, said):
    gpus(count)
    with pytest.raises(ValueError) as error:
        choose_device(name)
    assert str(error.value).startswith(said)


@pytest.fixture
def third_of_four(monkeypatch):
    """As in a process that torchrun has started, once it is joined with the others; two of them on each machine."""
    for name, value in {"WORLD_SIZE": 4, "RANK": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(ranks, "_joined", True)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_a_run_has_a_gpu_of_its_own(gpus, third_of_four, name):
    current = gpus(2)
    assert choose_device(name) == torch.device("cuda") and current == ["1"]
    assert choose_device(name, use_cuda=name != "auto").type == ("cpu" if name == "auto" else "cuda")
    for count, wanted, said in (
        (2, "cuda:0", "each process of a run has a GPU of its own; use cuda"),
        (1, name, "2 processes on this machine, which has 1 CUDA GPU: cuda:0; start as many processes as there are"),
    ):
        gpus(count)
        with pytest.raises(ValueError, match=said):
            choose_device(wanted)


def test_processes_draw_alike_on_their_gpus(gpus, third_of_four, monkeypatch):
    gpus(2)
    restored = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *state: restored.append(state))
    set_rng_state(get_rng_state() | {"cuda": ["of the first one's GPU", "of another"]})
    assert restored == [("of the first one's GPU",)]  # to the present GPU


def test_mps_where_there_is_one(gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps").type == "mps" and choose_device("auto").type == "cpu"
    with pytest.raises(ValueError, match="no CUDA GPU; use cpu, mps"):
        choose_device("cuda")


def test_the_flag(capsys):
    parser = argparse.ArgumentParser()
    add_device_flag(parser)
    assert parser.parse_args([]).device == "auto" and parser.parse_args(["--device", "cuda:3"]).device == "cuda:3"
    with pytest.raises(SystemExit):
        parser.parse_args(["--device", "gpu"])
    assert "there is no device 'gpu'; use cpu, cuda, cuda:0 (or another number), mps or auto" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("auto", False, False), ("auto", True, True), ("cpu", True, False), ("mps", True, False), ("cuda:1", False, True)],
)
def test_use_cuda_agrees_with_the_device(name, before, after):
    cfg = CfgNode({"USE_CUDA": before})
    set_device_keys(cfg, name)
    assert name == cfg.USE_DEVICE and after == cfg.USE_CUDA


def test_a_trainer_computes_where_the_key_says(gpus, tmp_path):
    gpus(1)
    cfg = tiny_cfg(tmp_path)
    cfg.defrost()
    cfg.USE_CUDA = True
    cfg.USE_DEVICE = "cpu"
    assert TinyPlugin(cfg).device.type == "cpu"
    cfg.USE_DEVICE = "cuda:7"
    with pytest.raises(ValueError, match="cuda:7 was asked for"):
        TinyPlugin(cfg)
