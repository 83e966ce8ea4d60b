"""Where a run starts, or what it tests: the checkpoint of an earlier run, and whether it saw what this one sees."""
from __future__ import annotations

import re
from pathlib import Path

import yaml

from .checkpoints import checkpoint_path

IN_CONFIG = {"seed": r"^SEED: (\d+)$", "shots": r"^ +NUM_SHOTS: (\d+)$"}
IN_PATH = {"seed": r"\bseed(\d+)\b", "shots": r"(\d+)shots\b"}


def start_file(given: str | Path, key: str) -> Path:
    """The checkpoint that the config key `key` names: a file, or the folder of a run, of which the best or last epoch.

    Raises FileNotFoundError, and ValueError for the folder of a run that is not finished.
    """
    path = Path(given)
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


def warn_of_places(path: Path, dense: str, key: str) -> None:
    """Say where the PLOT run that wrote a checkpoint matched other local features than `dense`, the value of `key`."""
    config = path.parent.parent / "config.yaml"
    tree = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    if not isinstance(tree, dict):
        return
    theirs = (tree.get("TRAINER", {}).get("PLOT") or {}).get("DENSE", "tokens")
    if theirs != dense:
        print(
            f"Warning: the prompts of {path} were trained with the local features {theirs}, and are matched with "
            f"{dense} here; {key} {theirs} matches them with their own"
        )


def origin(checkpoint: Path) -> dict[str, int]:
    """`seed` and `shots` of the run that wrote a checkpoint, as far as its config.yaml, or its folders' names, tell."""
    config = checkpoint.parent.parent / "config.yaml"
    text = config.read_text(encoding="utf-8") if config.is_file() else checkpoint.parent.as_posix()
    patterns = IN_CONFIG if config.is_file() else IN_PATH
    found = {key: re.findall(pattern, text, re.M) for key, pattern in patterns.items()}
    return {key: int(values[-1]) for key, values in found.items() if values}
