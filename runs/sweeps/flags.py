"""What the command lines of `sweep`, `experiments` and other programs share.

A sweep's command line is flags, then KEY VALUE pairs of the config.  argparse alone cannot tell where the flags end,
since a flag may take any number of values: `split_options` finds the first word that looks like a config key.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Mapping, Sequence

from dassl.plain.console import positive
from dassl.plain.devices import AUTO, add_device_flag
from dassl.utils.plugins import add_plugin_flag, use

from ..cluster.flags import add_cluster_flags, check_cluster_flags

TOP_KEYS = ("USE_CUDA", "USE_DEVICE", "VERBOSE", "SEED", "RESUME", "OUTPUT_DIR")  # config keys without a dot


# --- KEY VALUE pairs -------------------------------------------------------------------------------------


def split_options(argv: Sequence[str], one_value: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Split a command line into flags and arguments, and the KEY VALUE pairs behind them.

    Parameters
    ----------
    argv
        The words.
    one_value
        Flags that take one value: what follows them is that value even where it looks like a config key.

    Returns
    -------
    tuple of list
        The words before the first config key, and [KEY, VALUE, KEY, VALUE, ...], also where it was KEY=VALUE.
    """
    start = next((i for i, word in enumerate(argv) if is_key(word) and argv[i - 1] not in one_value), len(argv))
    if start == len(argv):
        return list(argv), []
    from dassl.config import split_equals  # torch comes with it

    return list(argv[:start]), split_equals(argv[start:])


def check_options(options: Sequence[str], own_keys: Mapping[str, str], owner: str) -> None:
    """Raise ValueError for half a pair, and for keys in `own_keys` (key: what sets it), which `owner` sets."""
    if len(options) % 2:
        raise ValueError(f"KEY VALUE pairs expected, got {' '.join(options)}")
    for key in options[::2]:
        if key in own_keys:
            raise ValueError(f"{key} is set by the {owner}; use {own_keys[key]}")


def is_key(word: str) -> bool:
    """Tell whether a word looks like a config key, or like KEY=VALUE."""
    word = word.partition("=")[0]
    return re.fullmatch(r"[A-Z][A-Z0-9_]*(\.\w+)+", word) is not None or word in TOP_KEYS


# --- flags that programs share ----------------------------------------------------------------


def add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    """Declare how many runs go at a time and where, what is shown, and --plugin; `finish_args` reads them."""
    jobs = "runs at a time, each in a process with its share of the cores; default: 1, or one a device"
    devices = "GPUs for these processes in turns, like 0,1 (or cuda:0,cuda:1); default: the first one for all"
    add = parser.add_argument
    add("--jobs", type=positive, metavar="N", help=jobs)
    add("--devices", type=lambda text: text.replace(" ", "").split(","), default=[], metavar="D,D", help=devices)
    add_device_flag(parser)
    add("--skip-bad", action="store_true", help="go on without images that cannot be read (DATASET.SKIP_BAD True)")
    add("--verbose", action="store_true", help="also show what the runs print")
    add("--dry-run", action="store_true", help="list the runs and their state, run nothing")
    add_plugin_flag(parser)
    add_cluster_flags(parser)


def finish_args(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    options: Sequence[str],
    own_keys: Mapping[str, str],
    owner: str,
) -> None:
    """Check the KEY VALUE pairs and load the plugins of a command line, whose flags `parser` has read into `args`.

    Afterwards `args.opts` holds the pairs with those that flags stand for, and `args.plugins` the plugins' absolute
    paths.  Bad input ends the program with status 2, as argparse does; `own_keys` and `owner` as in `check_options`.
    """
    try:
        check_options(options, own_keys, owner)
        args.plugins = use(args.plugins)
        check_cluster_flags(args)
    except ValueError as error:
        parser.error(str(error))
    if args.devices and args.device != AUTO:
        parser.error("give --device or --devices: one device for all runs, or GPUs that they take in turns")
    device = ["USE_DEVICE", args.device] if args.device != AUTO else []
    args.opts = [*device, *["DATASET.SKIP_BAD", "True"] * args.skip_bad, *options]
