"""What the figures depend on beside the program: the processor, and whether others are using it."""
from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import torch

QUIET = 0.1  # cores that others may keep busy


def processor() -> str:
    """Its name as the system tells it, and the instruction set that torch's own kernels use."""
    name = platform.processor() or platform.machine()
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines())
        known = {key.strip(): value.strip() for key, value in facts.items()}
        name = f"{known['model name']} (family {known['cpu family']}, model {known['model']})"
    except (OSError, KeyError, ValueError):  # no Linux, or another processor's words
        pass
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def busy_cores(seconds: float = 1.0) -> float:
    """Cores that other programs keep busy while this one sleeps for `seconds`; where the system does not tell, the
    number of programs that were ready to run in the last minute."""
    try:
        before = _idle_seconds()
        started = time.perf_counter()
        time.sleep(seconds)
        passed, idle = time.perf_counter() - started, _idle_seconds() - before
        return max(0.0, (os.cpu_count() or 1) - idle / passed)
    except (OSError, ValueError):
        return os.getloadavg()[0]


def _idle_seconds() -> float:
    """Of all cores together since the system started."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")  # idle, and waiting for disks


def noise(cores: float) -> str:
    """A sentence where others keep more than a tenth of a core busy, else nothing."""
    if cores <= QUIET:
        return ""
    return (f"this machine is not quiet: others keep {cores:.1f} of {os.cpu_count()} cores busy, so seconds and ratios "
            "are off; compare again when they are done")
