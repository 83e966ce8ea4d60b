"""Make the small CLIP for photographs out of a classifier, text embeddings of names, and word vectors.

    python -m demo.train_photos --pieces FOLDER         # writes clip/weights/photos.safetensors, .json, _names.tsv
    python -m demo.train_photos --pieces FOLDER --steps 50 --words 500 --output /tmp/quick.safetensors

What FOLDER holds is in photos/pieces.py.  The model is one of open_clip's kind: MobileNetV2's trunk, unchanged, with a
linear head (photos/image.py), and a causal text transformer on CLIP's tokenizer (photos/text.py, photos/course.py).  No
photograph of an evaluation is used, and no label of one; photos_names.tsv lists every name that was taught, and from
which source, so that names of classes which the model has seen can be told from those that it has not.

The same command on the same machine and versions gives the same weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .training.flags import WEIGHTS

PACKAGED = WEIGHTS / "photos.safetensors"
SIDE = 224  # pixels of an image's side


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the defaults are those that made the packaged weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pieces", type=Path, required=True, help="folder of the pieces, see demo/photos/pieces.py")
    add("--output", type=Path, default=PACKAGED, help="file to write (default: the packaged weights)")
    add("--steps", type=int, default=900, help="optimiser steps of the text tower (default %(default)s)")
    add("--head-steps", type=int, default=600, help="optimiser steps of the image head (default %(default)s)")
    add("--batch", type=int, default=256, help="names per step (default %(default)s)")
    add("--rate", type=float, default=0.001, help="largest learning rate (default %(default)s)")
    add("--words", type=int, default=8000, help="names from word vectors (default %(default)s)")
    add("--scenes", type=int, default=240, help="drawn scenes, each cut four times (default %(default)s)")
    add("--embed", type=int, default=256, help="width of the joint space (default %(default)s)")
    add("--layers", type=int, default=2, help="of the text tower (default %(default)s)")
    add("--hold-out", type=float, default=0.0, help="share of names to watch instead of teach (default %(default)s)")
    add("--seed", type=int, default=1, help="of every random choice (default %(default)s)")
    add("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; torch is imported only when there is something to train."""
    options = build_parser().parse_args(argv)

    from .photos.model import make

    return make(options, ["python", "-m", "demo.train_photos", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
