"""The config of a run: every key declared, files and command line merged, checked, frozen.

Later wins: defaults, data set file, method file, preset of a backbone (--backbone), flags, KEY VALUE pairs.  The
trainer's published schedule then fills the keys that neither a file nor the command line has set.
"""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split

from yacs.config import CfgNode

import datasets  # noqa: F401  (registers the data sets)
import trainers  # noqa: F401  (registers the methods)
from dassl.config import check_names, check_values, get_cfg_default, merge_file, merge_options
from dassl.config.defaults import KEEP_MB, RANK_MINUTES, STATE_MINUTES
from dassl.config.values import NAMES, NUMBERS, at_least
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.plain.devices import AUTO, set_device_keys
from dassl.utils import check_availability
from dassl.utils.plugins import use
from dassl.utils.tools import path_hint
from datasets.base import SplitDataset
from datasets.draws import DRAWS, PER_CLASS
from trainers.features.cache import MAX_GB

from .command_line import build_parser
from .plugins import backbone_preset


class Request(NamedTuple):
    """One run as it was asked for, checked; `execute.run` makes it."""

    argv: list[str]  # the words of train.py's command line
    args: argparse.Namespace
    cfg: CfgNode  # frozen
    notes: list[str]  # on defaults that were filled in

    @property
    def mode(self) -> str:
        """The word "train", or "eval" for an evaluation alone."""
        return "eval" if self.args.eval_only else "train"


def request_of(argv: Sequence[str], folder_of: Callable[[CfgNode], Path] | None = None) -> Request:
    """Read a command line of train.py, and build and check its config.

    Parameters
    ----------
    argv
        The words.
    folder_of
        Chooses --output-dir by the config, for a command line that does not name it.

    Raises
    ------
    ValueError, LookupError, OSError
        For bad input.
    """
    words = list(argv)
    args = build_parser().parse_args(words)
    args.plugins = use(args.plugins)
    cfg, notes = setup_cfg(args)
    if folder_of is not None:
        args.output_dir = str(folder_of(cfg))
        flags_end = len(words) - len(args.opts or ())
        words[flags_end:flags_end] = ["--output-dir", args.output_dir]
        cfg.defrost()
        cfg.OUTPUT_DIR = args.output_dir
        cfg.freeze()
    return Request(words, args, cfg, notes)


def option_types() -> list[Any]:
    """List the dataclasses of the registered trainers' own keys, each once, in the order of their nodes' names."""
    methods = map(TRAINER_REGISTRY.get, TRAINER_REGISTRY.registered_names())
    return sorted({kind for method in methods if (kind := getattr(method, "options_type", None))}, key=lambda o: o.node)


def extend_cfg(cfg: CfgNode) -> None:
    """Declare our keys beside the engine's."""
    cfg.USE_DEVICE = AUTO  # where to compute: cpu, cuda, cuda:1, mps, or auto: the GPU where there is one and USE_CUDA
    cfg.PLUGINS = ()  # files, folders or modules that register trainers and data sets (plugins.py)
    cfg.DATASET.DRAW = PER_CLASS  # few shots are NUM_SHOTS of every class, or proportional: as many on average
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (first half of the classes) or new (the rest)
    cfg.MODEL.BACKBONE.ACTIVATION = "auto"  # of the MLPs: quick_gelu, gelu, or auto (what the weights say)
    cfg.INPUT.EXIF_ORIENTATION = False  # turn pictures as their EXIF tag says, as viewers do; data set Folder: True
    cfg.INPUT.RESIZE = "shortest"  # of test images: shortest (side to SIZE, then the centre) or squash (both sides)
    cfg.INPUT.ALPHA = ""  # colour under transparent pixels: white, grey or black; "": as stored; data set Folder: white
    cfg.DATASET.CHECK_IMAGES = True  # look at the images of this run before the work starts
    cfg.DATASET.SKIP_BAD = False  # leave out images that cannot be read, of the whole data set, and say which
    cfg.DATALOADER.KEEP_MB = KEEP_MB  # training images are kept decoded, if all fit into this; 0: never
    cfg.TRAIN.STATE_MINUTES = STATE_MINUTES  # between writes of what a stopped run goes on from; 0.0: none at all
    cfg.TRAIN.RANK_MINUTES = RANK_MINUTES  # that a process started by torchrun waits for another one
    cfg.TEST.PREDICTIONS = True  # keep what the test said of every image beside the result, in predictions.npz
    cfg.TEST.CALIBRATION = True  # with PREDICTIONS: fit a temperature on a few validation images, record ECE, ...
    cfg.DATALOADER.TRAIN_X.VIEWS = 0  # train on so many crops of each image, encoded once; 0: new ones every epoch
    cfg.FEATURE_CACHE = CfgNode()
    cfg.FEATURE_CACHE.USE = True  # keep image features of tests, and of fixed views, on disk, and read them from there
    cfg.FEATURE_CACHE.DIR = ""  # their folder; empty: $PLOT_FEATURE_CACHE or ~/.cache/plot-features
    cfg.FEATURE_CACHE.MAX_GB = MAX_GB  # when they take more, the least recently used go
    cfg.DATASET.FOLDER = CfgNode()
    cfg.DATASET.FOLDER.PATH = ""  # data set Folder: the folder of class folders, below DATASET.ROOT; empty: the root
    cfg.DATASET.FOLDER.CSV = ""  # or a table with the columns path and label, instead of class folders
    cfg.DATASET.FOLDER.TEST_CSV = ""  # a table of the test images; empty: a fixed part of each class is held out
    own = ("USE_DEVICE", "PLUGINS", "FEATURE_CACHE.USE", "FEATURE_CACHE.DIR", "FEATURE_CACHE.MAX_GB")
    cfg.NO_EFFECT = own  # keys that change no result, besides the engine's; code that adds such a key names it here
    for options in option_types():
        cfg.TRAINER[options.node] = options.defaults()
        cfg.NO_EFFECT += tuple(options.without_effect())


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
    "device": "USE_DEVICE",
}


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a dotted key to a value as it is: a folder called 2024 stays text, which an option would not."""
    *sections, leaf = key.split(".")
    for section in sections:
        cfg = cfg[section]
    cfg[leaf] = value


def setup_cfg(args: argparse.Namespace) -> tuple[CfgNode, list[str]]:
    """Return the frozen config of a command line, and notes about defaults that were filled in.

    What wins over what is said at the top of this module.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    explicit: set[str] = set()
    for path in (args.dataset_config_file, args.config_file):
        if path:
            explicit |= merge_file(cfg, path)
    preset = backbone_preset(args.backbone) if args.backbone else None
    if preset:
        explicit |= merge_file(cfg, preset)
    for flag, key in FLAGS.items():
        if flag == "backbone" and preset:
            continue
        if value := getattr(args, flag):
            set_key(cfg, key, value)
    cfg.PLUGINS = tuple(args.plugins)
    if args.seed != -1:
        cfg.SEED = args.seed
    explicit |= merge_options(cfg, args.opts or [])
    set_device_keys(cfg, cfg.USE_DEVICE)

    notes = []
    known = cfg.TRAINER.NAME in TRAINER_REGISTRY.registered_names()
    recipe = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "recipe", None) if known else None
    for key, value in (recipe(cfg.DATASET.NAME, cfg.DATASET.NUM_SHOTS) if recipe else {}).items():
        if key in explicit:
            notes.append(f"{key} as configured; the published schedule would be {value}")
        else:
            set_key(cfg, key, value)
            notes.append(f"{key} {value} from the published schedule of {cfg.TRAINER.NAME}")
    check_cfg(cfg)
    cfg.freeze()
    return cfg, notes


OUR_NUMBERS = dict.fromkeys(("DATALOADER.KEEP_MB", "DATALOADER.TRAIN_X.VIEWS", "FEATURE_CACHE.MAX_GB"), at_least(0))
OUR_NAMES = {
    "INPUT.RESIZE": ("shortest", "squash"),
    "INPUT.ALPHA": ("", "white", "grey", "black"),
    "DATASET.DRAW": DRAWS,
    "DATASET.SUBSAMPLE_CLASSES": ("all", "base", "new"),
    "MODEL.BACKBONE.ACTIVATION": ("auto", "quick_gelu", "gelu"),
}


def check_cfg(cfg: CfgNode) -> None:
    """Check whatever can be seen to be wrong without any work.

    Raises
    ------
    ValueError, FileNotFoundError
        Saying which key, and what to write.
    """
    for key, name, registry in (
        ("trainer (TRAINER.NAME)", cfg.TRAINER.NAME, TRAINER_REGISTRY),
        ("dataset (DATASET.NAME)", cfg.DATASET.NAME, DATASET_REGISTRY),
        ("evaluator (TEST.EVALUATOR)", cfg.TEST.EVALUATOR, EVALUATOR_REGISTRY),
    ):
        check_availability(name, registry.registered_names(), key)
    check_names(cfg, names=NAMES | OUR_NAMES)
    check_values(cfg, rules=NUMBERS | OUR_NUMBERS)
    check_draw(cfg)
    path = cfg.MODEL.INIT_WEIGHTS
    if path and not os.path.isfile(path):
        raise FileNotFoundError(f"MODEL.INIT_WEIGHTS: there is no file {path}{path_hint(path)}")
    kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    options = getattr(kind, "options_type", None)
    if options is not None and options.node != cfg.TRAINER.NAME.upper():  # by which tools find a run's own keys
        node = cfg.TRAINER.NAME.upper()
        raise ValueError(
            f"the trainer {cfg.TRAINER.NAME} has the keys of another, TRAINER.{options.node}.*; give it an "
            f"options_type of its own, a subclass of {options.__name__} with node = {node!r}"
        )
    if isinstance(inspect.getattr_static(kind, "check_cfg"), classmethod):  # one that needs no trainer
        kind.check_cfg(cfg)


def check_draw(cfg: CfgNode) -> None:
    """Raise ValueError where another draw than CoOp's is asked of data that has none, or lacks what the run needs."""
    draw = cfg.DATASET.DRAW
    if draw == PER_CLASS or cfg.DATASET.NUM_SHOTS < 1:
        return
    if not issubclass(DATASET_REGISTRY.get(cfg.DATASET.NAME), SplitDataset):
        raise ValueError(f"the data set {cfg.DATASET.NAME} draws its images itself: DATASET.DRAW must be {PER_CLASS}")
    for key, needs, instead in (("FINAL_MODEL", "best_val", "last_step"), ("SPLIT", "val", "test")):
        if cfg.TEST[key] == needs:
            raise ValueError(
                f"TEST.{key} is {needs}, but DATASET.DRAW {draw} draws no validation images; use {instead}, or "
                f"DATASET.DRAW {PER_CLASS}"
            )
