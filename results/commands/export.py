"""The command that makes one small file of a run."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from dassl.plain.devices import add_device_flag
from runs.files import to_stdout
from runs.names import add_run_argument, run_of
from runs.restore.trust import add_trust_paths

from .command import argument, command

NAME = "classifier.safetensors"


@command(
    "export",
    add_run_argument,
    argument("--out", metavar="FILE", help=f"default: RUN/{NAME}"),
    argument("--backbone", default="", metavar="PATH", help="where the weights are now, if they have moved"),
    partial(add_device_flag, default="cpu"),
    add_trust_paths,
)
def export(args: argparse.Namespace) -> int:
    """One small file of a run, to predict with elsewhere.

    It keeps what was learned, class
    names, settings and accuracy; not the frozen CLIP, which is loaded by its name again.
    `python -m predict FILE photos` and `predict.load("FILE")` predict with it what the run does.

    Examples
    --------
    python -m results export RUN
    python -m results export RUN --out flowers.safetensors
    python -m predict flowers.safetensors photos
    """
    from runs.restore.exported import write
    from runs.restore.rebuilding import open_source, rebuild
    from runs.restore.source import PredictError

    folder = run_of(args)
    if not folder.is_dir():
        raise PredictError(f"{folder} is no folder; give the folder of a finished run")
    restored = rebuild(open_source(folder), backbone=args.backbone, device=args.device)
    path = write(restored, Path(args.out or folder / NAME))
    to_stdout(f"written: {path} ({path.stat().st_size / 1e3:,.0f} kB, {len(restored.classes)} classes)")
    return 0


COMMANDS = (export,)
