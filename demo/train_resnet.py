"""Train the demo CLIP: a ResNet and a text transformer, small enough for two CPU cores, on captioned scenes.

    python -m demo.train_resnet                       # writes clip/weights/demo_rn.safetensors
    python -m demo.train_resnet --steps 300 --scenes 4000 --output /tmp/quick.safetensors

The model is a plain CLIP in OpenAI's layout, with the full vocabulary; scenes and captions come from
scenes.py (its "photo world"). It is trained on captions, never on the labels or the images of the
few-shot task. Three contrastive losses (InfoNCE in both directions, captions that read the same in a batch
share the target) pull together

1. the pooled image feature and the caption, as in CLIP;
2. the mean of the local features and the caption. CLIP's own loss asks nothing of the attention pool's output
   at the places; PLOT matches these local features with its prompts, and in a large model they are aligned with
   text all the same;
3. the best matching places and a phrase about one part ("a striped red sail."), so that places differ.

To save time the first part of the training sees pictures of half the size (the attention pool's positions
are averaged accordingly), captions are cut at their longest, and only tokens that captions use are trained:
the others' embeddings are zero. The file is written twenty times on the way, the last time at the end.

The same command on the same machine and versions gives the same weights. --precision fp32 is for CPUs without
bfloat16 instructions.
"""

from __future__ import annotations

import argparse
import sys

from .training.flags import WEIGHTS, flags

PACKAGED = WEIGHTS / "demo_rn.safetensors"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = flags(__doc__, PACKAGED, steps=4000, batch=128, rate=0.0015, threads=2)
    add = parser.add_argument
    add("--small-steps", type=float, default=0.5, help="share of steps at half size (default %(default)s)")
    add("--precision", choices=("bf16", "fp32"), default="bf16", help="of the encoders (default %(default)s)")
    add("--embed", type=int, default=128, help="width of the joint space (default %(default)s)")
    add("--vision-width", type=int, default=16, help="of the ResNet's first stage (default %(default)s)")
    add("--vision-layers", type=int, nargs=4, default=(1, 1, 1, 1), metavar="N", help="blocks per stage")
    add("--text-width", type=int, default=64, help="a multiple of 64 (default %(default)s)")
    add("--text-layers", type=int, default=3, help="default %(default)s")
    add("--local-weight", type=float, default=0.5, help="weight of loss 2 (default %(default)s)")
    add("--part-weight", type=float, default=0.5, help="weight of loss 3 (default %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; torch is imported only when there is something to train."""
    options = build_parser().parse_args(argv)

    from .training.course import run
    from .training.resnet import CaptionCourse

    return run(CaptionCourse, options, ["python", "-m", "demo.train_resnet", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
