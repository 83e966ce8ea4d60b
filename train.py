"""Train or evaluate one run; see `python train.py --help`.

The one place that imports everything: it reads the command line, builds the config, and hands over to the engine.
"""
from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import torch
from yacs.config import CfgNode

import datasets  # noqa: F401  (registers the data sets)
import trainers
from dassl.config import check_names, check_values, get_cfg_default, merge_file, merge_options
from dassl.config.values import NAMES, NUMBERS, at_least
from dassl.data import check_images
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.image_memory import KEEP_MB
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.engine.interruption import exit_status
from dassl.engine.record import holds_checkpoints, open_run, write_result
from dassl.engine.run_folder import hold_folder
from dassl.engine.state import MINUTES
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.plain.text import error_text
from dassl.plain.writing import disk_failed
from dassl.utils import check_availability, collect_env_info, set_random_seed, setup_logger
from dassl.utils.logger import log_warnings, restore_stdout
from dassl.utils.memory import keep_freed_memory
from dassl.utils.tools import end_bars, path_hint
from trainers import ALL_OPTIONS, RECIPES
from trainers.features import MAX_GB
from trainers.starts import start_file

OURS = sorted(name for name in TRAINER_REGISTRY.registered_names() if name in trainers.__all__)
EXAMPLES = """examples:
  train PLOT with 4 prompts on 16 images a class:
    python train.py --root DATA --seed 1 --trainer PLOT --dataset-config-file configs/datasets/caltech101.yaml \\
        --config-file configs/trainers/PLOT/rn50.yaml --output-dir output/plot/seed1 \\
        TRAINER.PLOT.N 4 DATASET.NUM_SHOTS 16
  evaluate what it learned:
    python train.py --root DATA --seed 1 --trainer PLOT --dataset-config-file configs/datasets/caltech101.yaml \\
        --config-file configs/trainers/PLOT/rn50.yaml --output-dir output/plot-eval --eval-only \\
        --model-dir output/plot/seed1 DATASET.NUM_SHOTS 16
  your own pictures, one folder a class:
    python train.py --root photos --seed 1 --trainer CoOp --dataset-config-file configs/datasets/folder.yaml \\
        --config-file configs/trainers/CoOp/rn50.yaml --output-dir output/photos DATASET.NUM_SHOTS 4

Flags come first, KEY VALUE pairs last.  --show-keys prints the keys of our trainers with their meaning.
A run that is stopped (Ctrl-C, SIGTERM, a time limit) is continued by the same command, from the last finished epoch:
its state is kept then, and every TRAIN.STATE_MINUTES, in training-state.pth.tar, which the finished run removes.
SIGUSR1 keeps it and goes on; under Slurm, #SBATCH --signal=B:TERM@60 stops a run a minute before its limit (where the
script runs it by `exec`, or else by `srun`, without the B:).

exit status: 0 done, 1 failed, 2 bad command line or config, 128 + signal (130: Ctrl-C, 143: SIGTERM) stopped.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Prompt learning for CLIP: train or evaluate one run.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    add("--trainer", default="", metavar="NAME", help=", ".join(OURS))
    add("--backbone", default="", metavar="NAME", help="CLIP name or path of its weights, instead of the config's")
    add("--head", default="", metavar="NAME", help="head name (for plugins that use it)")
    add("--eval-only", action="store_true", help="test only")
    add("--model-dir", default="", metavar="DIR", help="run folder whose checkpoint --eval-only loads")
    add("--load-epoch", type=int, metavar="E", help="checkpoint of this epoch; default: the best, or else the last")
    add("--device", default="", metavar="NAME", help="cpu, cuda or cuda:1; default: the GPU where there is one")
    add("--no-train", action="store_true", help="build everything and stop")
    add("--show-keys", action="store_true", help="list the config keys of the trainers and exit")
    add("opts", nargs=argparse.REMAINDER, default=None, metavar="KEY VALUE", help="config keys, after all flags")
    return parser


# --- config ----------------------------------------------------------------------------------------------


def extend_cfg(cfg: CfgNode) -> None:
    """Declare our keys beside the engine's."""
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (first half of the classes) or new (the rest)
    cfg.MODEL.BACKBONE.ACTIVATION = "auto"  # of the MLPs, for weights that do not tell: quick_gelu or gelu
    cfg.DATASET.CHECK_IMAGES = True  # look at the images of this run before the work starts
    cfg.DATASET.SKIP_BAD = False  # leave out images that cannot be read, of the whole data set, and say which
    cfg.DATALOADER.KEEP_MB = KEEP_MB  # training images are kept decoded, if all fit into this; 0: never
    cfg.TRAIN.STATE_MINUTES = MINUTES  # between writes of what a stopped run goes on from; 0.0: none, also when stopped
    cfg.DATALOADER.TRAIN_X.VIEWS = 0  # train on so many crops of each image, encoded once; 0: new ones every epoch
    # image features of deterministic splits, kept on disk: DIR "" is $PLOT_FEATURE_CACHE or ~/.cache/plot-features
    cfg.FEATURE_CACHE = CfgNode({"USE": True, "DIR": "", "MAX_GB": MAX_GB})
    cfg.DATASET.FOLDER = CfgNode({"PATH": "", "CSV": "", "TEST_CSV": ""})  # own pictures: below DATASET.ROOT
    for options in ALL_OPTIONS:
        cfg.TRAINER[options.node] = options.defaults()
    # of these, the keys that change nothing that comes out; the engine knows its own
    cfg.NO_EFFECT = ("FEATURE_CACHE.USE", "FEATURE_CACHE.DIR", "FEATURE_CACHE.MAX_GB")
    cfg.NO_EFFECT += tuple(key for options in ALL_OPTIONS for key in options.without_effect())


FLAGS = {  # flag -> key; applied where the flag was given
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
}


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a dotted key to a value as it is: a folder called 2024 stays text, which an option would not."""
    *sections, leaf = key.split(".")
    for section in sections:
        cfg = cfg[section]
    cfg[leaf] = value


def setup_cfg(args: argparse.Namespace) -> tuple[CfgNode, list[str]]:
    """The frozen config, and notes about defaults that were filled in.

    Later wins: defaults, data set file, method file, flags, KEY VALUE pairs.  The trainer's published schedule then
    fills the keys that neither a file nor the command line has set.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    explicit: set[str] = set()
    for path in (args.dataset_config_file, args.config_file):
        if path:
            explicit |= merge_file(cfg, path)
    flags = {key: getattr(args, flag) for flag, key in FLAGS.items() if getattr(args, flag)}
    for key, value in flags.items():
        set_key(cfg, key, value)
    if args.seed != -1:
        cfg.SEED = args.seed
    if args.device:
        cfg.USE_CUDA = args.device != "cpu"
    explicit |= merge_options(cfg, args.opts or [])

    notes = []
    recipe = RECIPES.get(cfg.TRAINER.NAME)
    for key, value in (recipe(cfg.DATASET.NAME, cfg.DATASET.NUM_SHOTS) if recipe else {}).items():
        if key in explicit:
            notes.append(f"{key} as configured; the published schedule would be {value}")
        else:
            set_key(cfg, key, value)
            notes.append(f"{key} {value} from the published schedule of {cfg.TRAINER.NAME}")
    check_cfg(cfg)
    cfg.freeze()
    return cfg, notes


OUR_NUMBERS = {
    "DATALOADER.KEEP_MB": at_least(0),
    "DATALOADER.TRAIN_X.VIEWS": at_least(0),
    "FEATURE_CACHE.MAX_GB": at_least(0),
}
OUR_NAMES = {
    "DATASET.SUBSAMPLE_CLASSES": ("all", "base", "new"),
    "MODEL.BACKBONE.ACTIVATION": ("auto", "quick_gelu", "gelu"),
}


def check_cfg(cfg: CfgNode) -> None:
    """Raise ValueError, saying which key and what to write, for whatever can be seen to be wrong without any work."""
    for key, name, registry in (
        ("trainer (TRAINER.NAME)", cfg.TRAINER.NAME, TRAINER_REGISTRY),
        ("dataset (DATASET.NAME)", cfg.DATASET.NAME, DATASET_REGISTRY),
        ("evaluator (TEST.EVALUATOR)", cfg.TEST.EVALUATOR, EVALUATOR_REGISTRY),
    ):
        check_availability(name, registry.registered_names(), key)
    check_names(cfg, names=NAMES | OUR_NAMES)
    check_values(cfg, rules=NUMBERS | OUR_NUMBERS)
    if cfg.MODEL.INIT_WEIGHTS and not os.path.isfile(cfg.MODEL.INIT_WEIGHTS):
        path = cfg.MODEL.INIT_WEIGHTS
        raise FileNotFoundError(f"MODEL.INIT_WEIGHTS: there is no file {path}{path_hint(path)}")
    kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if isinstance(inspect.getattr_static(kind, "check_cfg"), classmethod):  # one that needs no trainer
        kind.check_cfg(cfg)


def check_starts(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Raise FileNotFoundError or ValueError for what the run shall start from, or test, where it is not there."""
    if args.eval_only and args.model_dir and not os.path.exists(args.model_dir):
        raise FileNotFoundError(f"--model-dir: there is no folder {args.model_dir}{path_hint(args.model_dir)}")
    node = getattr(getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "options_type", None), "node", "")
    start = cfg.TRAINER.get(node, {}).get("PRETRAIN_DIR", "")
    beyond = cfg.RESUME or (args.eval_only and args.model_dir) or holds_checkpoints(Path(cfg.OUTPUT_DIR))
    if start and not beyond:
        start_file(start, f"TRAINER.{node}.PRETRAIN_DIR")


def choose_device(name: str) -> None:
    """Make "cuda:1" the GPU that "cuda" means.  Raises ValueError for a device that there is not."""
    if name in ("", "cpu"):
        return
    device = re.fullmatch(r"cuda(?::(\d+))?", name)
    if device is None or int(device[1] or 0) >= torch.cuda.device_count():
        there = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
        raise ValueError(f"--device {name}: this machine has {there}")
    torch.cuda.set_device(int(device[1] or 0))


def print_args(args: argparse.Namespace, cfg: CfgNode) -> None:
    for title, lines in (
        ("Arguments", [f"{key}: {value}" for key, value in sorted(vars(args).items()) if key != "show_keys"]),
        ("Config", [str(cfg)]),
    ):
        header = f"** {title} **"
        print("*" * len(header), header, "*" * len(header), *lines, sep="\n")


def show_keys() -> None:
    for options in ALL_OPTIONS:
        for key, (default, meaning) in options.meanings().items():
            print(f"{key:36} {default!r:10} {meaning}")


# --- a run -----------------------------------------------------------------------------------------------


@log_warnings()
def run(argv: list[str] | None = None) -> dict[str, Any]:
    """One run in this process; returns what result.json holds.  Raises on bad input, before any long work."""
    args = build_parser().parse_args(argv)
    choose_device(args.device)
    cfg, notes = setup_cfg(args)
    check_starts(args, cfg)
    mode = "eval" if args.eval_only else "train"
    with hold_folder(cfg.OUTPUT_DIR):
        goes_on = open_run(cfg, mode)
        if cfg.SEED >= 0:
            print(f"Setting fixed seed: {cfg.SEED}")
            set_random_seed(cfg.SEED)
        logger = setup_logger(cfg.OUTPUT_DIR, goes_on)
        try:
            return _run_logged(args, cfg, notes, mode, argv)
        except BaseException as error:
            if logger is not None:
                logger.log_traceback(error)  # the log keeps the whole story, the console a line
            raise
        finally:
            restore_stdout()


def _run_logged(
    args: argparse.Namespace, cfg: CfgNode, notes: list[str], mode: str, argv: list[str] | None
) -> dict[str, Any]:
    start = time.perf_counter()
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    else:
        keep_freed_memory()
    print_args(args, cfg)
    print("Collecting env info ...")
    print(f"** System info **\n{collect_env_info()}\n")
    for note in notes:
        print(note)

    trainer = build_trainer(cfg)
    trains = bool(trainer.get_model_names()) and not (args.eval_only or args.no_train)
    tests = args.eval_only or not (args.no_train or cfg.TEST.NO_TEST)
    if trains:
        trainer.dm.train_loader_x.dataset.prepare(cfg.DATALOADER.NUM_WORKERS)  # what is decoded here is also checked
    if cfg.DATASET.CHECK_IMAGES:
        chooses = trains and getattr(trainer, "chooses_on_val", False)
        splits = splits_read(cfg, trains, tests, bool(trainer.dm.dataset.val), chooses)
        check_images(trainer.dm.dataset, splits=splits)
    checkpoint = None
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        loaded = getattr(trainer, "loaded_checkpoint", None) or args.model_dir
        checkpoint = os.path.abspath(loaded) if loaded else None
        trainer.test()
    elif args.no_train:
        return {}
    else:
        if getattr(trainer.dm.dataset, "eval_only", False) and trainer.get_model_names():
            raise ValueError(
                f"{cfg.DATASET.NAME} is for evaluation: training on it would be training on its test images; "
                "pass --eval-only with --model-dir"
            )
        trainer.train()
    path = write_result(
        cfg, trainer, mode, time.perf_counter() - start,
        argv=list(argv if argv is not None else sys.argv[1:]), checkpoint=checkpoint,
    )
    print(f"Result written to {path}")
    return json.loads(path.read_text(encoding="utf-8"))


def splits_read(cfg: CfgNode, train: bool, test: bool, has_val: bool = True, chooses: bool = False) -> list[str]:
    """The splits whose images a run opens, that trains or tests: damage there shall be found before the work starts,
    and images that the run never looks at need no look before it either.  `chooses`: something, on validation data."""
    tests_val = has_val and cfg.TEST.SPLIT == "val"
    val = (test and (tests_val or (train and has_val and cfg.TEST.FINAL_MODEL == "best_val"))) or (chooses and has_val)
    return ["train_x", "train_u"] * train + ["val"] * val + ["test"] * (test and not tests_val)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status as in the help text."""
    try:
        if build_parser().parse_args(argv).show_keys:
            show_keys()
        else:
            run(argv)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        end_bars()
        print(str(stop) or "interrupted before training began; the same command starts again", file=sys.stderr)
        return exit_status(stop)
    except (ValueError, LookupError, OSError, AssertionError, RuntimeError, FloatingPointError) as error:
        if os.environ.get("PLOT_TRACEBACK"):
            raise
        end_bars()
        print(f"error: {error_text(error)}", file=sys.stderr)
        print("(PLOT_TRACEBACK=1 shows where; so does the log, if the run had begun)", file=sys.stderr)
        failed = isinstance(error, RuntimeError | FloatingPointError) and not isinstance(error, ValueError)
        return 1 if failed or disk_failed(error) else 2


if __name__ == "__main__":
    sys.exit(main())
