r"""Prompt learning for CLIP: train or evaluate one run.

Some examples:
  train PLOT with 4 prompts on 16 images a class:
    python train.py --root DATA --seed 1 --trainer PLOT --dataset-config-file configs/datasets/caltech101.yaml \
        --config-file configs/trainers/PLOT/rn50.yaml --output-dir output/plot/seed1 \
        TRAINER.PLOT.N 4 DATASET.NUM_SHOTS 16
  evaluate what it learned:
    python train.py --root DATA --seed 1 --trainer PLOT --dataset-config-file configs/datasets/caltech101.yaml \
        --config-file configs/trainers/PLOT/rn50.yaml --output-dir output/plot-eval --eval-only \
        --model-dir output/plot/seed1 DATASET.NUM_SHOTS 16
  your own pictures, one folder a class:
    python train.py --root photos --seed 1 --trainer CoOp --dataset-config-file configs/datasets/folder.yaml \
        --config-file configs/trainers/CoOp/rn50.yaml --output-dir output/photos DATASET.NUM_SHOTS 4
  one run shared by four processes, each with a GPU of its own where there are GPUs (docs/scale.md):
    torchrun --nproc-per-node 4 train.py --root DATA --seed 1 --trainer PLOT --output-dir output/plot/seed1 \
        --dataset-config-file configs/datasets/imagenet.yaml --config-file configs/trainers/PLOT/rn50.yaml

Flags come first, KEY VALUE pairs last.  --show-keys prints the keys of our trainers with their meaning.
A run that is stopped (Ctrl-C, SIGTERM, a time limit) is continued by the same command, from the last finished epoch:
its state is kept then, and every TRAIN.STATE_MINUTES, in training-state.pth.tar, which the finished run removes.
SIGUSR1 keeps it and goes on; under Slurm, #SBATCH --signal=B:TERM@60 stops a run a minute before its limit (where the
script runs it by `exec`, or else by `srun`, without the B:).

exit status: 0 done, 1 failed, 2 bad command line or config, 128 + signal (130: Ctrl-C, 143: SIGTERM) stopped.
"""

# The text above is what `python train.py --help` prints.  Nothing here imports torch, so that it answers at once, and
# so that a sweep can write down the command line of each of its runs.

from __future__ import annotations

import argparse
from typing import Any

from dassl.plain.devices import add_device_flag
from dassl.utils.plugins import add_plugin_flag

from .plugins import configured_trainers


def documented_parser(text: str | None, **options: Any) -> argparse.ArgumentParser:
    """Return a parser whose --help shows a module's docstring, so that the text stands in one place.

    Parameters
    ----------
    text
        A module's `__doc__`.  Its first paragraph stands above the list of flags, the rest below it; None (as under
        `python -OO`) leaves the flags alone.
    **options
        Further arguments of `ArgumentParser`.
    """
    description, _, epilog = (text or "").partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, epilog=epilog, formatter_class=form, **options)


def build_parser() -> argparse.ArgumentParser:
    """Declare the flags of train.py: those of Dassl's entry script, and ours."""
    parser = documented_parser(__doc__)
    add = parser.add_argument
    add("--root", default="", metavar="DIR", help="folder that holds the data sets")
    add("--output-dir", default="", metavar="DIR", help="where log, checkpoints and result.json go")
    add("--resume", default="", metavar="DIR", help="continue the run in DIR (one in --output-dir continues by itself)")
    add("--seed", type=int, default=-1, help="0 or more: fixed picks, order and start; -1 (default): unseeded")
    add("--source-domains", nargs="+", metavar="NAME", help="source domains (for plugins that use them)")
    add("--target-domains", nargs="+", metavar="NAME", help="target domains (for plugins that use them)")
    add("--transforms", nargs="+", metavar="NAME", help="training transforms, instead of the config's")
    add("--config-file", default="", metavar="YAML", help="method config, e.g. configs/trainers/PLOT/rn50.yaml")
    add("--dataset-config-file", default="", metavar="YAML", help="e.g. configs/datasets/caltech101.yaml")
    add("--trainer", default="", metavar="NAME", help=", ".join(configured_trainers()))
    text = "CLIP instead of the config's: a name in configs/backbones, of its weights, or their path"
    add("--backbone", default="", metavar="NAME", help=text)
    add("--head", default="", metavar="NAME", help="head name (for plugins that use it)")
    add("--eval-only", action="store_true", help="test only")
    add("--model-dir", default="", metavar="DIR", help="what --eval-only tests: a run's folder, an exported file, or hf://USER/REPOSITORY")
    add("--load-epoch", type=int, metavar="E", help="checkpoint of this epoch; default: the best, or else the last")
    add_device_flag(parser)
    add("--no-train", action="store_true", help="build everything and stop")
    add("--show-keys", action="store_true", help="list the config keys of the trainers and exit")
    add_plugin_flag(parser)
    add("opts", nargs=argparse.REMAINDER, default=None, metavar="KEY VALUE", help="config keys, after all flags")
    return parser
