"""Where a run starts, or what it tests: the checkpoint of an earlier run, and whether it saw what this one sees."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .checkpoints import checkpoint_path

IN_PATH = {"seed": r"\bseed(\d+)\b", "shots": r"(\d+)shots\b"}


def start_file(location: str | Path, key: str) -> Path:
    """Find the checkpoint that a config key names.

    Parameters
    ----------
    location
        A file, or the folder of a run, of which the best or last epoch.
    key
        The key, for messages.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    ValueError
        For the folder of a run that is not finished.
    """
    path = Path(location)
    if not path.exists():
        raise FileNotFoundError(f"{key}: no {path}; give a checkpoint or a run folder")
    if path.is_dir():
        if (path / "config.yaml").exists() and not (path / "result.json").exists():
            raise ValueError(f"{key}: the run in {path} is not finished; let it finish, or give a checkpoint of it")
        inner = path / "prompt_learner"
        path = checkpoint_path(inner if inner.is_dir() else path, None)
    return path


def warn_of_leak(path: Path, seed: int, shots: int) -> None:
    """Say where the run that wrote a checkpoint had another seed or number of shots than this one.

    Seed and shots choose the training images: a start of others has seen images that are not this run's.
    """
    own = {"seed": seed, "shots": shots}
    other = {key: value for key, value in origin(path).items() if value != own[key]}
    if other:
        theirs = ", ".join(f"{key} {value}" for key, value in other.items())
        ours = ", ".join(f"{key} {own[key]}" for key in other)
        print(
            f"Warning: leak between runs: the start was trained with {theirs}, this run has {ours}. It has also seen "
            "the training images of that run, so its few shots are more than they are said to be, and runs with one "
            "start are not independent"
        )


def warn_of_places(path: Path, dense: str, key: str, node: str = "PLOT") -> None:
    """Say where the run that wrote a checkpoint matched other local features than this one.

    Parameters
    ----------
    path
        The checkpoint.
    dense, key
        The kind of local feature here, and the config key that sets it.
    node
        The child of TRAINER where that run's settings are.
    """
    config = config_of(path)
    if config is None:
        return
    theirs = (config.get("TRAINER", {}).get(node) or {}).get("DENSE", "tokens")
    if theirs != dense:
        print(
            f"Warning: the prompts of {path} were trained with the local features {theirs}, and are matched with "
            f"{dense} here; {key} {theirs} matches them with their own"
        )


def origin(checkpoint: Path) -> dict[str, int]:
    """Find the seed and the shots of the run that wrote a checkpoint.

    Returns
    -------
    dict
        `seed` and `shots`, as far as its config.yaml, or its folders' names, tell.
    """
    config = config_of(checkpoint)
    if config is not None:
        recorded = {"seed": config.get("SEED"), "shots": (config.get("DATASET") or {}).get("NUM_SHOTS")}
        return {key: value for key, value in recorded.items() if isinstance(value, int) and value >= 0}
    in_path = {key: re.findall(pattern, checkpoint.parent.as_posix()) for key, pattern in IN_PATH.items()}
    return {key: int(values[-1]) for key, values in in_path.items() if values}


def config_of(checkpoint: Path) -> dict[str, Any] | None:
    """Read the config of the run that wrote a checkpoint, where it is there; ValueError where it is torn."""
    file = checkpoint.parent.parent / "config.yaml"
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file}, of the run to start from, cannot be read ({reason}); restore it") from error
    return tree if isinstance(tree, dict) else None
