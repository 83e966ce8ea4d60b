"""What the command lines of sweep.py, experiments.py and others have in common: KEY VALUE pairs behind flags, types for
argparse."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Mapping, Sequence

from dassl.plain.console import positive

TOP_KEYS = ("USE_CUDA", "VERBOSE", "SEED", "RESUME", "OUTPUT_DIR")  # config keys without a dot


def split_options(argv: Sequence[str], one_value: Collection[str]) -> tuple[list[str], list[str]]:
    """(flags and arguments, KEY VALUE pairs behind them).

    The pairs start at the first word that looks like a config key, unless it is the value of a flag in `one_value`:
    argparse would take them for more of whatever list comes last.
    """
    start = next((i for i, word in enumerate(argv) if is_key(word) and argv[i - 1] not in one_value), len(argv))
    return list(argv[:start]), _pairs(argv[start:])


def _pairs(options: Sequence[str]) -> list[str]:
    """KEY VALUE KEY VALUE, also where it was KEY=VALUE."""
    if not options:
        return []
    from dassl.config import split_equals  # torch comes with it

    return split_equals(options)


def check_options(options: Sequence[str], own_keys: Mapping[str, str], owner: str) -> None:
    """Raises ValueError for half a pair, and for keys in `own_keys` (key: what sets it), which `owner` sets."""
    if len(options) % 2:
        raise ValueError(f"KEY VALUE pairs expected, got {' '.join(options)}")
    for key in options[::2]:
        if key in own_keys:
            raise ValueError(f"{key} is set by the {owner}; use {own_keys[key]}")


def is_key(word: str) -> bool:
    """Whether it looks like a config key, or like KEY=VALUE."""
    word = word.partition("=")[0]
    return re.fullmatch(r"[A-Z][A-Z0-9_]*(\.\w+)+", word) is not None or word in TOP_KEYS


def add_worker_flags(parser: argparse.ArgumentParser) -> None:
    """--jobs and --devices."""
    parser.add_argument(
        "--jobs", type=positive, metavar="N",
        help="runs at a time, each in a process with its share of the cores; default: 1, or one a device",
    )
    parser.add_argument(
        "--devices", type=lambda text: [name.strip() for name in text.split(",")], default=[], metavar="D,D",
        help="GPUs for these processes in turns, like 0,1 (or cuda:0,cuda:1); default: the first one for all",
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """--skip-bad, --verbose and --dry-run."""
    add = parser.add_argument
    add("--skip-bad", action="store_true", help="go on without images that cannot be read (DATASET.SKIP_BAD True)")
    add("--verbose", action="store_true", help="also show what the runs print")
    add("--dry-run", action="store_true", help="list the runs and their state, run nothing")


def options_with_flags(args: argparse.Namespace, options: Sequence[str]) -> list[str]:
    """The KEY VALUE pairs that `add_run_flags` stands for, and those given."""
    return ["DATASET.SKIP_BAD", "True"] * args.skip_bad + list(options)
