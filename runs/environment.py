"""What a run was made with, for its record: versions, the commit of the program, the memory that it took."""
from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torchvision

import dassl

__all__ = ["commit_of_program", "peak_cuda_memory_mb", "peak_memory_mb", "versions"]


def peak_memory_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def peak_cuda_memory_mb() -> float | None:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else None


def versions() -> dict[str, str]:
    try:
        project = importlib.metadata.version("plot-prompt-learning")
    except importlib.metadata.PackageNotFoundError:  # used from the checkout
        project = f"dassl {dassl.__version__}"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "project": project,
        "commit": commit_of_program(),
    }


@cache
def commit_of_program() -> str:
    """The git commit of the program that runs, with -dirty where its files have changed since; "" where git knows none.

    Asked once: a process goes on with the code that it has loaded.
    """
    program = Path(getattr(sys.modules["__main__"], "__file__", None) or "here").resolve().parent
    commit = _git(program, "rev-parse", "--short=12", "HEAD")
    changed = commit and _git(program, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *command: str) -> str:
    """What git says about the repository of `folder`, without locking it; "" where it says nothing."""
    whole = ["git", "--no-optional-locks", "-C", str(folder), *command]
    try:
        done = subprocess.run(whole, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
