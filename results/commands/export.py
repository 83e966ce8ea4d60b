"""The command that makes one small file of a run: python -m results export RUN."""
from __future__ import annotations

import argparse
from pathlib import Path

from runs.files import say
from runs.source import PredictError
from runs.trust import add_trust_paths

NAME = "classifier.safetensors"
SUMMARY = "One small file of a run, to predict with elsewhere"
TEXT = """It keeps what was learned, class
names, settings and accuracy; not the frozen CLIP, which is loaded by its name again.
`python -m predict FILE photos` and `predict.load("FILE")` predict with it what the run does."""
EXAMPLES = """\
  python -m results export RUN
  python -m results export RUN --out flowers.safetensors
  python -m predict flowers.safetensors photos"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of one finished run")
    parser.add_argument("--out", metavar="FILE", help=f"default: RUN/{NAME}")
    parser.add_argument("--backbone", default="", metavar="PATH", help="where the weights are now, if they have moved")
    add_trust_paths(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; raises ResultsError."""
    from predict.classifier import load
    from runs.exported import write

    if not Path(args.folder).is_dir():
        raise PredictError(f"{args.folder} is no folder; give the folder of a finished run")
    classifier = load(args.folder, backbone=args.backbone, device="cpu")
    path = write(classifier, Path(args.out or Path(args.folder, NAME)))
    say(f"written: {path} ({path.stat().st_size / 1e3:,.0f} kB, {len(classifier.classes)} classes)")
    return 0

