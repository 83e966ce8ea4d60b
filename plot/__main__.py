"""The command `plot`: every program of the checkout under one name.

    plot train|sweep|predict|data ...            train.py, scripts/sweep.py, python -m predict|datasets
    plot weights|cache ...                       python -m clip weights|cache
    plot table|curve|report|transport|...        python -m results ...; `plot --help` lists them

`plot COMMAND --help` says more.
"""

from __future__ import annotations

import sys
from importlib import import_module

from .checkout import find_modules

PROGRAMS = {
    "train": "train",
    "sweep": "runs.sweeps.sweep",
    "scripts": "runs.sweeps.experiments",
    "predict": "predict.__main__",
    "data": "datasets.__main__",
    "weights": "clip.weights_command",
    "cache": "clip.cache_command",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns the exit status of the program that it names."""
    words = sys.argv[1:] if argv is None else argv
    find_modules()
    program = PROGRAMS.get(words[0]) if words else None
    if program:
        return import_module(program).main(words[1:])
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        words = ["--help"]
    return import_module("results.__main__").main(words)


if __name__ == "__main__":
    sys.exit(main())
