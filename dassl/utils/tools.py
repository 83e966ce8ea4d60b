"""Files, names, seeds and the environment report."""
from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import json
import logging
import os
import platform
import random
import urllib.request
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dassl.plain.text import error_text, printable
from dassl.plain.writing import StrPath, atomic_write

__all__ = [
    "atomic_write",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "did_you_mean",
    "download_url",
    "error_text",
    "get_most_similar_str_to_a_from_b",
    "listdir_nohidden",
    "mkdir_if_missing",
    "printable",
    "read_json",
    "set_random_seed",
    "tolist_if_not",
    "write_json",
]

log = logging.getLogger(__name__)

# --- files -----------------------------------------------------------------------------------------------


def mkdir_if_missing(dirname: StrPath) -> None:
    """Make the folder and its parents. An empty name means the current folder, which exists."""
    if os.fspath(dirname):
        os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: StrPath) -> bool:
    """Whether `fpath` is a file; warns when it is not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f'No file found at "{os.fspath(fpath)}"', stacklevel=2)
    return found


def listdir_nohidden(path: StrPath, sort: bool = False) -> list[str]:
    """Names in a folder that do not start with a dot; in the order of the system unless `sort`."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def not_regular(path: StrPath) -> str:
    """ "" for a regular file and where there is none; else what is wrong: opening a pipe would wait without end."""
    special = os.path.exists(path) and not os.path.isfile(path)
    return "it is a folder, pipe or device; only regular files are opened" if special else ""


def read_json(fpath: StrPath) -> Any:
    """The content of a JSON file, in UTF-8 with or without a byte-order mark. Raises OSError or ValueError."""
    if problem := not_regular(fpath):
        raise OSError(f"cannot read {printable(os.fspath(fpath))}: {problem}")
    with open(fpath, encoding="utf-8-sig") as file:
        return json.load(file)


def write_json(obj: Any, fpath: StrPath) -> None:
    """Write JSON, indented by 4, in ASCII; the parent folder is made, and the file is never half-written."""
    text = json.dumps(obj, indent=4, separators=(",", ": "))
    with atomic_write(fpath) as file:
        file.write(text)


FileState = tuple[int, int, int]


def file_state(path: StrPath) -> FileState | None:
    """What changes when a file is replaced or written to (inode, bytes, nanoseconds); None where there is no file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def download_url(url: str, dst: StrPath) -> None:
    """Download `url` to the file `dst` with a progress bar; an interrupted download leaves no file."""
    log.info(f"* url={url}")
    log.info(f"* destination={os.fspath(dst)}")
    with urllib.request.urlopen(url) as response, atomic_write(dst, "wb") as file:
        size = int(response.headers.get("Content-Length") or 0) or None
        received = 0
        with tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                received += len(chunk)
                bar.update(len(chunk))
        if size is not None and received != size:
            raise OSError(f"the download of {url} stopped after {received} of {size} bytes; try again")


# --- names -----------------------------------------------------------------------------------------------


def get_most_similar_str_to_a_from_b(a: str, b: Iterable[str]) -> str | None:
    """The member of `b` most like `a` by difflib's ratio; the later one on a tie, None when `b` is empty."""
    best, highest = None, 0.0
    for candidate in b:
        ratio = difflib.SequenceMatcher(None, a, candidate).ratio()
        if ratio >= highest:
            best, highest = candidate, ratio
    return best


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an error message about an unknown name: nearest name and the list of all."""
    known = list(known)
    if not known:
        return "; none are known yet: import the module that defines it first"
    near = _but_for_case(str(name), known) or difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return f"{hint} known: {', '.join(known)}"


def _but_for_case(name: str, known: Iterable[str]) -> list[str]:
    """The names that differ from `name` only in case; to difflib, "plot" is nearer to "TipAdapter" than to "PLOT"."""
    return [k for k in known if str(k).lower() == name.lower()]


def end_bars() -> None:
    """Close progress bars that an exception has left open: what is said next begins on a line of its own."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def check_availability(requested: str, available: Iterable[str], what: str = "choice") -> None:
    """Raise ValueError unless `requested` is one of `available`: the nearest name and all of them are listed.

    `what` says what is being chosen, for the message; a config key in brackets helps: "trainer (TRAINER.NAME)".
    """
    available = list(available)
    if requested in available:
        return
    nearest = get_most_similar_str_to_a_from_b(str(requested), _but_for_case(str(requested), available) or available)
    known = ", ".join(map(str, available)) or "none"
    if not requested:
        raise ValueError(f"no {what} was given; known: {known}")
    hint = f"; did you mean {nearest!r}?" if nearest else ";"
    raise ValueError(f"no {what} {requested!r}{hint} known: {known}")


def tolist_if_not(x: Any) -> list:
    """`x` itself when it is a list, otherwise a list holding it."""
    return x if isinstance(x, list) else [x]


# --- seeds and environment -------------------------------------------------------------------------------


def set_random_seed(seed: int, deterministic: bool = False) -> None:
    """Seed Python, NumPy, torch and every CUDA device with `seed`, 0 <= seed < 2**32.

    `deterministic` also asks torch for repeatable kernels (slower; operations without one only warn).
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
    """Versions and devices, one "name: value" a line. Reads only what is at hand, starts no other program."""
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
    """The tail of an error message about a missing file: a similar name in the deepest folder there is."""
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
    return f"; {folder} holds: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else ""
