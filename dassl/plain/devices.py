"""Where a program computes: one flag, and one way from its text to a `torch.device`.

The text is cpu, cuda, cuda:1 (the second GPU), mps (Apple's GPU) or auto.  It comes from `--device` or from the config
key USE_DEVICE, which says the same.  auto is what Dassl has always done: the first CUDA GPU where there is one and
USE_CUDA is not False, else the CPU.  It never means mps, whose arithmetic no published number was made with.

torch is imported by the functions that need it, so that a command line answers --help at once.
"""
from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from . import ranks

if TYPE_CHECKING:
    import torch

__all__ = ["AUTO", "add_device_flag", "choose_device", "describe_device", "set_device_keys"]

AUTO = "auto"
FORM = re.compile(r"cpu|mps|cuda(:\d+)?")
ALLOWED = f"cpu, cuda, cuda:0 (or another number), mps or {AUTO}"


def add_device_flag(parser: argparse.ArgumentParser, default: str = AUTO) -> None:
    """Declare --device; its value is a text for `choose_device`.

    Parameters
    ----------
    parser
        Of a program that computes.
    default
        For programs that are not to take a GPU unasked.
    """
    usual = "auto, the GPU where there is one" if default == AUTO else default
    text = f"where to compute: cpu, cuda, cuda:1, mps or {AUTO}; default: {usual}"
    parser.add_argument("--device", type=_device, default=default, metavar="NAME", help=text)


def _device(text: str) -> str:
    """Return `text`; argparse shows the message where it names no device."""
    try:
        return check_form(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def check_form(name: str) -> str:
    """Return `name` where it reads like a device, which this machine may lack; else raise ValueError."""
    if name != AUTO and not FORM.fullmatch(name):
        raise ValueError(f"there is no device {name!r}; use {ALLOWED}")
    return name


def set_device_keys(cfg: Any, name: str) -> None:
    """Write a device into a config: USE_DEVICE, and USE_CUDA so that whoever reads that alone agrees.

    With "auto" USE_CUDA stays as it is.
    """
    cfg.USE_DEVICE = check_form(name)
    if name != AUTO:
        cfg.USE_CUDA = name.startswith("cuda")


def choose_device(name: str = AUTO, use_cuda: bool = True) -> torch.device:
    """Return the device of a name, having made sure that this machine has it.

    A GPU also becomes the one that "cuda" and `.cuda()` mean in this process: trainers that were written for one GPU
    follow without knowing. Of several processes of one run on a machine each has the GPU of its own number, and a name
    with a number is refused.

    Parameters
    ----------
    name
        As described at the top of this module; "" is "auto".
    use_cuda
        Dassl's key USE_CUDA, which "auto" obeys.

    Raises
    ------
    ValueError
        For a text that names no device, and for one that this machine lacks, with those that it has.
    """
    import torch

    name = check_form(name or AUTO)
    if name == AUTO:
        name = "cuda" if use_cuda and torch.cuda.is_available() else "cpu"
        if name == "cpu" or ranks.size() == 1:
            return torch.device(name)
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if ranks.size() > 1:
            _take_own_gpu(name, count)
        elif (device.index or 0) >= count:
            raise ValueError(f"{name} was asked for, but this machine has {_gpus(count)}; use {_usable(count)}")
        elif device.index is not None:
            torch.cuda.set_device(device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        why = "is not on a Mac with an Apple GPU" if torch.backends.mps.is_built() else "has a torch without it"
        raise ValueError(f"mps was asked for, but this machine {why}; use {_usable(torch.cuda.device_count())}")
    return device


def _take_own_gpu(name: str, count: int) -> None:
    """Make "cuda" mean another GPU in each process of a run on this machine."""
    import torch

    if name != "cuda":
        raise ValueError(f"{name} was asked for, but each process of a run has a GPU of its own; use cuda")
    if ranks.local_size() > count:
        raise ValueError(
            f"torchrun has started {ranks.local_size()} processes on this machine, which has {_gpus(count)}; start as "
            "many processes as there are GPUs (--nproc-per-node), or use cpu"
        )
    torch.cuda.set_device(ranks.local_rank())


def describe_device(device: torch.device | str) -> str:
    """Say what a run was computed on: "cpu", "mps", or "cuda, NVIDIA H200"; equal GPUs are described alike."""
    import torch

    device = torch.device(device)
    return f"cuda, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def _gpus(count: int) -> str:
    names = ", ".join(f"cuda:{index}" for index in range(count))
    return f"{count} CUDA GPU{'s' * (count > 1)}: {names}" if count else "no CUDA GPU"


def _usable(count: int) -> str:
    """List what can be asked for on this machine, besides the CPU that every one has."""
    import torch

    names = [f"cuda:{index}" for index in range(count)] + ["mps"] * torch.backends.mps.is_available()
    return ", ".join(["cpu", *names])
