"""Show, verify and clear the image features that are kept on disk: `python -m clip cache show|clear|verify`."""
from __future__ import annotations

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from dassl.plain.console import run_command
from dassl.plain.text import shown_bytes
from dassl.plain.writing import disk_failed

if TYPE_CHECKING:
    from .feature_store import Entry, FeatureStore

EXAMPLES = """examples:
  python -m clip cache show                # entries with sizes, the last used first
  python -m clip cache verify              # read everything, remove what is damaged
  python -m clip cache clear               # remove everything
  python -m clip cache clear 3f2a 90bc     # remove entries, named by the first digits of their keys
  PLOT_FEATURE_CACHE=/scratch/features python -m clip cache show

The folder is --dir, or $PLOT_FEATURE_CACHE, or ~/.cache/plot-features.  Runs name it with FEATURE_CACHE.DIR, limit it
with FEATURE_CACHE.MAX_GB and leave it alone with FEATURE_CACHE.USE False.
exit status: 0 done, 1 something was not sound (verify), 2 bad command line.
"""


def build_parser() -> argparse.ArgumentParser:
    """Declare what stands behind `python -m clip cache`."""
    parser = argparse.ArgumentParser(
        prog="python -m clip cache", description="Image features that tests have kept on disk.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", default="", metavar="DIR", help="folder of the features")
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|clear|verify")
    for name, text in (("show", "list the entries"), ("verify", "read all entries and remove the damaged ones"),
                       ("clear", "remove entries")):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--dir", default=argparse.SUPPRESS, metavar="DIR", help="folder of the features")
        if name == "clear":
            action.add_argument("keys", nargs="*", metavar="KEY", help="first digits of their keys; default: all")
    return parser


def show(store: FeatureStore, entries: list[Entry]) -> int:
    """Print a table of the entries, the last used first; exit status 0."""
    from tabulate import tabulate

    rows = [
        [entry.key[:12], shown_bytes(entry.size), f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}", entry.about]
        for entry in reversed(entries)
    ]
    if rows:
        print(tabulate(rows, headers=["key", "size", "last used", "features of"], disable_numparse=True))
    print(f"{store.folder}: {len(entries)} entries, {shown_bytes(sum(entry.size for entry in entries))}")
    return 0


def verify(entries: list[Entry]) -> int:
    """Read all complete entries and remove the damaged ones; exit status 1 where one is not sound."""
    from tqdm import tqdm

    from .feature_store import Damaged, StoredFeatures, remove

    bad = 0
    for entry in tqdm(entries, "verifying", disable=None, leave=False):
        if not entry.complete:
            continue
        try:
            StoredFeatures(entry.folder).verify()
            verdict = "sound"
        except Damaged as error:
            remove(entry.folder)
            verdict = f"damaged, removed: {error}"
        except OSError as error:  # a file system that fails at the moment, or another machine that removes it
            verdict = f"not readable: {error.strerror or error}"
        bad += verdict != "sound"
        print(f"{entry.key[:12]} {verdict}")
    return int(bad > 0)


def clear(store: FeatureStore, entries: list[Entry], keys: list[str]) -> int:
    """Remove the entries whose keys begin with one of `keys`, or all; exit status 2 for a key that no entry has."""
    for key in keys:
        if not any(entry.key.startswith(key) for entry in entries):
            known = ", ".join(entry.key[:12] for entry in entries) or "none"
            print(f"error: no entry {key} in {store.folder}; there: {known}", file=sys.stderr)
            return 2
    chosen = [entry for entry in entries if not keys or entry.key.startswith(tuple(keys))]
    store.clear(chosen)
    print(f"{store.folder}: removed {len(chosen)} entries, {shown_bytes(sum(entry.size for entry in chosen))}")
    return 0


def main(argv: list[str]) -> int:
    """Run a command line without the program's name; exit status as in the help text."""
    args = build_parser().parse_args(argv)
    from .feature_store import FeatureStore  # which imports torch

    store = FeatureStore(args.dir)
    entries = store.entries()
    actions = {
        "show": lambda: show(store, entries),
        "verify": lambda: verify(entries),
        "clear": lambda: clear(store, entries, args.keys),
    }
    return run_command(actions[args.action], (OSError,), disk_failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
