"""Run a grid of trainers, data sets, shots and seeds; see `python scripts/sweep.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.plain.console import piped
from runs.sweeps.sweep import main

if __name__ == "__main__":
    sys.exit(piped(main))
