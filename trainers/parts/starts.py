"""Where a run starts, or what it tests: the checkpoint of an earlier run, and whether it saw what this one sees."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .checkpoints import checkpoint_path

IN_PATH = {"seed": r"\bseed(\d+)\b", "shots": r"(\d+)shots\b", "draw": r"\d+shots\b(?:-([a-z]+))?"}
PER_CLASS = "per_class"  # of DATASET.DRAW, where a config or a folder's name says nothing of it


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


def warn_of_leak(path: Path, cfg: Any) -> None:
    """Say where the run that wrote a checkpoint had another seed, number of shots, or draw of them than this one.

    These choose the training images: a start of others has seen images that are not this run's.

    Parameters
    ----------
    path
        The checkpoint.
    cfg
        This run's config.
    """
    data = cfg.DATASET
    own = {"seed": cfg.SEED, "shots": data.NUM_SHOTS, "draw": data.get("DRAW", PER_CLASS)}
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


def origin(checkpoint: Path) -> dict[str, int | str]:
    """Find the seed, the shots and their draw of the run that wrote a checkpoint.

    Returns
    -------
    dict
        `seed`, `shots` and `draw`, as far as its config.yaml, or its folders' names, tell.
    """
    config = config_of(checkpoint)
    if config is not None:
        data = config.get("DATASET") or {}
        recorded = {"seed": config.get("SEED"), "shots": data.get("NUM_SHOTS")}
        known = {key: value for key, value in recorded.items() if isinstance(value, int) and value >= 0}
        return known | {"draw": str(data.get("DRAW", PER_CLASS))}
    in_path = {key: re.findall(pattern, checkpoint.parent.as_posix()) for key, pattern in IN_PATH.items()}
    last = {key: values[-1] for key, values in in_path.items() if values}
    return {key: (value or PER_CLASS) if key == "draw" else int(value) for key, value in last.items()}


def config_of(checkpoint: Path) -> dict[str, Any] | None:
    """Read the config of the run that wrote a checkpoint, where it is there; ValueError where it is torn."""
    file = checkpoint.parent.parent / "config.yaml"
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file}, of the run to start from, cannot be read ({reason}); restore it") from error
    return tree if isinstance(tree, dict) else None
