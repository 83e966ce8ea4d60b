"""Which files may be opened because a run's folder, or an exported file, names them: somebody else may have written it.

Names of known models are fine, and so are paths below that folder, below this project, and below the folders in the
environment variable PLOT_TRUSTED (separated as in PATH). Others need the user's word: `--trust-paths`, or `trusting`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ..files import ResultsError
from ..plugins import CHECKOUT

FLAG = "--trust-paths"
TRUSTED = "PLOT_TRUSTED"
UNNEEDED = ("_DIR", "_PATH", "INIT_WEIGHTS", "RESUME", "CACHE.DIR")  # ends of keys: places for training only

_trusts: ContextVar[bool] = ContextVar("trusts", default=False)


def add_trust_paths(parser: argparse.ArgumentParser) -> None:
    """Declare --trust-paths, the user's word on a command line, for `trusting`."""
    text = "open also what the run names outside of its folder (weights, the checkpoint that it evaluated)"
    parser.add_argument(FLAG, action="store_true", help=text)


@contextlib.contextmanager
def trusting(word: bool = True) -> Iterator[None]:
    """Open a context in which, with the user's `word`, every path may be opened."""
    token = _trusts.set(word or _trusts.get())
    try:
        yield
    finally:
        _trusts.reset(token)


def check_places(source: Path, backbone: str, record: Mapping[str, Any]) -> None:
    """Check the files that a run's folder, or an exported file, names.

    Parameters
    ----------
    source
        The folder or file.
    backbone
        The name or path of the weights in its config; "" where the user names them.
    record
        Its result, which for an evaluation names a checkpoint.

    Raises
    ------
    ResultsError
        Where `source` would choose which file outside of it is opened.
    """
    evaluated = record.get("checkpoint") if record.get("mode") == "eval" else None
    for what, place, flag in (("weights", backbone, "--backbone PATH or "), ("checkpoint", evaluated, "")):
        if place and os.path.exists(str(place)) and not _may_open(Path(str(place)), source):
            raise ResultsError(
                f"{source} names the {what} {place}, outside of its folder, and whoever wrote it may not choose what "
                f"is opened here. If it is your own, say {flag}{FLAG} (in Python: trust_paths=True), or for good put "
                f"the folder of that file into the environment variable {TRUSTED}"
            )


def _may_open(place: Path, source: Path) -> bool:
    own = source if source.is_dir() else source.parent
    return may_run(str(place)) or _is_below(place, [CHECKOUT, own])


def may_run(plugin: str) -> bool:
    """Tell whether a plugin may be imported because a run names it: by the user's word, or below a trusted folder.

    This project is no such folder, other than for files that are only read: a run that somebody else made may well lie
    in its `output`, together with code.  A module's name is not either: it could be any that Python finds.
    """
    trusted = [Path(folder) for folder in os.environ.get(TRUSTED, "").split(os.pathsep) if folder]
    return _trusts.get() or (os.path.exists(plugin) and _is_below(Path(plugin), trusted))


def _is_below(place: Path, folders: Iterable[Path]) -> bool:
    return any(place.resolve().is_relative_to(folder.resolve()) for folder in folders)
