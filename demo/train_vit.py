"""Train the demo's ViT: it imitates the image encoder of the demo's ResNet CLIP, and shares its text encoder.

    python -m demo.train_vit                        # writes clip/weights/demo_vit.safetensors
    python -m demo.train_vit --steps 500 --scenes 4000 --output /tmp/quick.safetensors

A transformer that starts from captions alone needs more pictures than two CPU cores can show it.  A teacher tells
more about a picture than a caption does: the ViT (64 x 64 pixels, 4 x 4 patches) learns to give, for a part of a
scene, the pooled feature that the ResNet gives for the whole (1 - cosine, both less the mean over all scenes).
Three fifths of the pictures are restyled, half of these with exchanged colours and some of them inverted, half as
contours on a dark ground: the thing stays the same, and forms count more than colours.  As in
train_resnet.py, neither labels nor images of the few-shot task are used.

Nothing is asked of the patch tokens.  That is so in CLIP's own training too, and what local features of a ViT are
worth to PLOT is one of the questions that this model is here to answer.

The same command on the same machine and versions gives the same weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import train_resnet
from .training.flags import WEIGHTS, flags

PACKAGED = WEIGHTS / "demo_vit.safetensors"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = flags(__doc__, PACKAGED, steps=25000, batch=64, rate=0.001, threads=1)
    add = parser.add_argument
    teacher = train_resnet.PACKAGED
    add("--teacher", type=Path, default=teacher, help="weights of a CLIP (default: the demo's ResNet)")
    add("--resolution", type=int, default=64, help="pixels of a side (default %(default)s)")
    add("--patch", type=int, default=16, help="pixels of a patch's side (default %(default)s)")
    add("--width", type=int, default=128, help="a multiple of 64 (default %(default)s)")
    add("--layers", type=int, default=4, help="default %(default)s")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; torch is imported only when there is something to train."""
    options = build_parser().parse_args(argv)

    from .training.course import run
    from .training.vit import ImitationCourse

    return run(ImitationCourse, options, ["python", "-m", "demo.train_vit", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
