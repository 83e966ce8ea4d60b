"""Rebuild a finished run, for the commands that look into what it learned."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .files import ResultsError


def trainer_of(run: Path) -> str:
    """The trainer's name, before anything heavy is imported.  Raises ResultsError where `run` is no run folder."""
    import yaml

    if not run.is_dir():
        reason = "is a file, not a folder" if run.exists() else "does not exist"
        raise ResultsError(f"{run} {reason}; give the folder of one run")
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        return str(config["TRAINER"]["NAME"])
    except FileNotFoundError:
        raise ResultsError(
            f"{run} holds no config.yaml, so it is no run folder; give the folder of one run, "
            "the one with config.yaml and prompt_learner/"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ResultsError(f"{run / 'config.yaml'} cannot be read: {error}") from None


def require_checkpoint(run: Path) -> None:
    if not any(run.glob("*/model*.pth.tar*")):
        raise ResultsError(f"{run} holds no checkpoint; let the run finish, or give another one")


def quiet(verbose: bool = False) -> Any:
    """Within it nothing is printed, unless `verbose`."""
    return contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO())


def rebuild(
    run: Path, backbone: str = "", root: str = "", verbose: bool = False, classnames: Sequence[str] | None = None
) -> Any:
    """The run's trainer with its learned prompts; given class names, it reads no data set and cannot test.

    Raises ResultsError for what is missing or unfit.
    """
    from dassl.utils.tools import error_text
    from train import load_trainer

    try:
        with quiet(verbose):
            return load_trainer(run, backbone=backbone, root=root, classnames=classnames)
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise ResultsError(f"cannot rebuild {run}: {error_text(error)}") from error
