"""The published experiments, which the shell scripts beside it call; see `python scripts/experiments.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.plain.console import piped
from runs.sweeps.experiments import main

if __name__ == "__main__":
    sys.exit(piped(main))
