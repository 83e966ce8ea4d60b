"""What the figures depend on beside the program: the processor, and whether other programs are using it.

A benchmark on a busy machine measures the neighbours. So the report names the processor, and says before and after the
measurements how many cores others keep busy.
"""
from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

import torch

QUIET = 0.1  # cores that others may keep busy


def processor() -> str:
    """Return the processor's name, and the instruction set that torch's own kernels use.

    Linux knows the model, elsewhere the name is what Python knows: often no more than the architecture.
    """
    name = platform.processor() or platform.machine()
    try:
        facts = dict(re.findall(r"^(.+?)\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
        name = f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"
    except (OSError, KeyError):  # no Linux, or a processor that is described in other words
        pass
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def busy_cores(seconds: float = 1.0) -> float:
    """Return how many cores other programs keep busy while this one sleeps.

    Parameters
    ----------
    seconds : float
        How long to sleep and watch.

    Returns
    -------
    float
        Cores, as a fraction of time: 1.5 is one all the time and one half of it. Where the system does not count idle
        time, the number of programs that were ready to run in the last minute.
    """
    try:
        before, started = _idle_seconds(), time.perf_counter()
        time.sleep(seconds)
        idle, passed = _idle_seconds() - before, time.perf_counter() - started
        return max(0.0, (os.cpu_count() or 1) - idle / passed)
    except (OSError, ValueError):
        return os.getloadavg()[0]


def _idle_seconds() -> float:
    """Return the idle time of all cores together since the system started."""
    words = Path("/proc/stat").read_text().split(maxsplit=6)
    return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")  # idle, and waiting for disks


def noise(cores: float) -> str:
    """Return a sentence where others keep more than a tenth of a core busy, else an empty text."""
    if cores <= QUIET:
        return ""
    return (f"this machine is not quiet: others keep {cores:.1f} of {os.cpu_count()} cores busy, so seconds and ratios "
            "are off; compare again when they are done")
