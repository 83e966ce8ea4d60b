"""Files, names, seeds and the environment report: the small tools of the original engine's `dassl.utils`.

torch and NumPy are imported by those that need them, so that looking up a name or reading JSON does not load them.
"""
from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import json
import logging
import os
import platform
import random
import shutil
import urllib.request
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dassl.plain.text import first_few, printable
from dassl.plain.writing import StrPath, atomic_write

log = logging.getLogger(__name__)

# --- files -----------------------------------------------------------------------------------------------


def mkdir_if_missing(dirname: StrPath) -> None:
    """Make the folder and its parents, if it is not there; an empty name means the current folder, which is."""
    if os.fspath(dirname):
        os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: StrPath) -> bool:
    """Tell whether `fpath` is a file, and warn when it is not."""
    exists = os.path.isfile(fpath)
    if not exists:
        warnings.warn(f'No file found at "{os.fspath(fpath)}"', stacklevel=2)
    return exists


def listdir_nohidden(path: StrPath, sort: bool = False) -> list[str]:
    """Return the names in a folder that do not start with a dot, in the order of the system unless `sort`."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def not_regular(path: StrPath) -> str:
    """Say what is wrong with a path that exists but is no regular file: opening a pipe would wait without end.

    Returns
    -------
    str
        The end of a sentence; empty for a regular file, and where there is none.
    """
    special = os.path.exists(path) and not os.path.isfile(path)
    return "it is a folder, pipe or device; only regular files are opened" if special else ""


def read_json(fpath: StrPath) -> Any:
    """Read a JSON file in UTF-8, with or without a byte-order mark.

    Raises
    ------
    OSError
        Where the file is missing, no regular file, or cannot be read.
    ValueError
        Where it is not JSON.
    """
    if problem := not_regular(fpath):
        raise OSError(f"cannot read {printable(os.fspath(fpath))}: {problem}")
    with open(fpath, encoding="utf-8-sig") as file:
        return json.load(file)


def write_json(obj: Any, fpath: StrPath) -> None:
    """Write JSON, indented by 4, in ASCII; the parent folder is made, and the file is never half-written."""
    text = json.dumps(obj, indent=4, separators=(",", ": "))  # first: what is no JSON leaves the old file alone
    with atomic_write(fpath) as file:
        file.write(text)


FileState = tuple[int, int, int]


def file_state(path: StrPath) -> FileState | None:
    """Return what changes when a file is replaced or written to.

    Returns
    -------
    tuple of int or None
        Inode, bytes, time of the last change in nanoseconds; None where there is no file.
    """
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def download_url(url: str, dst: StrPath) -> None:
    """Download `url` to the file `dst` with a progress bar.

    Raises
    ------
    OSError
        Where the server cannot be reached, or sends less than it announced; no file is left behind then.
    """
    log.info(f"* url={url}")
    log.info(f"* destination={os.fspath(dst)}")
    with urllib.request.urlopen(url) as response, atomic_write(dst, "wb") as file:
        size = int(response.headers.get("Content-Length") or 0) or None
        with tqdm.wrapattr(file, "write", total=size, disable=None) as counted:
            shutil.copyfileobj(response, counted, 1 << 20)
        if size is not None and file.tell() != size:
            raise OSError(f"the download of {url} stopped after {file.tell()} of {size} bytes; try again")


# --- names -----------------------------------------------------------------------------------------------


def get_most_similar_str_to_a_from_b(a: str, b: Iterable[str]) -> str | None:
    """Return the member of `b` most like `a` by difflib's ratio; the later one on a tie, None when `b` is empty."""
    return max(reversed(list(b)), key=lambda name: difflib.SequenceMatcher(None, a, name).ratio(), default=None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the tail of an error message about an unknown name: the nearest known name, and the list of all."""
    known = list(map(str, known))
    if not known:
        return "; none are known yet: import the module that defines it first"
    # to difflib, "plot" is nearer to "TipAdapter" than to "PLOT"
    near = [k for k in known if k.lower() == str(name).lower()]
    near = near or difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return f"{hint} known: {', '.join(known)}"


def end_bars() -> None:
    """Close progress bars that an exception has left open, so that what follows begins on a line of its own."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def check_availability(requested: str, available: Iterable[str], what: str = "choice") -> None:
    """Raise ValueError unless `requested` is one of `available`.

    Parameters
    ----------
    requested : str
        The name that was asked for.
    available : iterable of str
        The names that there are; the message lists them, and suggests the nearest.
    what : str
        What is being chosen, for the message; a config key in brackets helps: "trainer (TRAINER.NAME)".
    """
    available = list(available)
    if requested not in available:
        problem = repr(requested) if requested else "was given"
        raise ValueError(f"no {what} {problem}{did_you_mean(requested, available)}")


def tolist_if_not(x: Any) -> list:
    """Return `x` itself when it is a list (no other sequence is), otherwise a list that holds it."""
    return x if isinstance(x, list) else [x]


# --- seeds and environment -------------------------------------------------------------------------------


def set_random_seed(seed: int, deterministic: bool = False) -> None:
    """Seed the global generators of Python, NumPy, torch and every CUDA device.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1; anything else is a ValueError.
    deterministic : bool
        Also ask torch for repeatable kernels. They are slower, and operations that have none only warn.
    """
    if isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"a seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)
    if deterministic:
        torch.backends.cudnn.benchmark = False
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


_REPORTED = ("torchvision", "numpy", "open_clip_torch", "safetensors", "yacs", "tabulate", "tensorboard")


def collect_env_info() -> str:
    """Report versions and devices, one "name: value" a line.

    It reads only what is at hand and starts no other program, unlike torch's own report, which asks the package
    installer and takes seconds.
    """
    import PIL
    import torch

    lines = [
        f"PyTorch version: {torch.__version__}",
        f"CUDA used to build PyTorch: {torch.version.cuda or 'none'}",
        f"OS: {platform.system()} {platform.release()}",
        f"Python version: {platform.python_version()} ({platform.python_implementation()})",
        f"CPU: {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads for torch",
        f"Is CUDA available: {torch.cuda.is_available()}",
    ]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        lines += [f"GPU {i}: {name}" for i, name in enumerate(names)]
        lines.append(f"cuDNN version: {torch.backends.cudnn.version()}")
    for package in _REPORTED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"[package] {package}=={importlib.metadata.version(package)}")
    return "\n".join(lines) + f"\n        Pillow ({PIL.__version__})"


def path_hint(path: StrPath) -> str:
    """Return the tail of an error message about a missing file: a similar name in the deepest folder that exists."""
    missing = Path(path)
    if missing.is_dir():
        return ": it is a folder"
    folder = missing.parent
    while not folder.exists() and folder != folder.parent:
        missing, folder = folder, folder.parent
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ""
    near = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {folder / near[0]}?"
    return f"; {folder} holds: {first_few(names, 8)}" if names else f"; {folder} is empty"
