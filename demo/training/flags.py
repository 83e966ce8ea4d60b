"""The flags that both training programs have."""

from __future__ import annotations

import argparse
from pathlib import Path

from dassl.plain.devices import add_device_flag

WEIGHTS = Path(__file__).resolve().parents[2] / "clip" / "weights"  # the folder of the packaged weights


def flags(description: str | None, output: Path, *, steps: int, batch: int, rate: float, threads: int
          ) -> argparse.ArgumentParser:
    """Return a parser with the common flags; the defaults are those that made the packaged weights."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, default=output, help="file to write (default: the packaged weights)")
    add("--scenes", type=int, default=24000, help="scenes to draw, 49 KB each (default %(default)s)")
    add("--steps", type=int, default=steps, help="optimiser steps (default %(default)s)")
    add("--batch", type=int, default=batch, help="images per step (default %(default)s)")
    add("--rate", type=float, default=rate, help="largest learning rate (default %(default)s)")
    add("--seed", type=int, default=1, help="of weights, batches, crops, captions and styles (default %(default)s)")
    add("--threads", type=int, default=threads, help="CPU threads (default %(default)s)")
    add_device_flag(parser, default="cpu")  # where the packaged weights were made
    add("--smallest-crop", type=float, default=0.4, help="share of the picture (default %(default)s)")
    return parser
