"""One run in this process, from its request to its record.

`run` makes sure of the device, claims the output folder, opens the log, builds the trainer, looks at the images that it
will need, trains or tests, and writes the record.  Whatever can be wrong is looked for before any long work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split

import torch
from yacs.config import CfgNode

from dassl.data import check_images
from dassl.engine import TRAINER_REGISTRY, build_trainer, endings, processes
from dassl.engine.interruption import catching_signals
from dassl.plain.devices import choose_device
from dassl.plain.ranks import is_first, size
from dassl.utils import collect_env_info, set_random_seed, setup_logger
from dassl.utils.logger import log_warnings, restore_stdout
from dassl.utils.memory import keep_freed_memory
from dassl.utils.plugins import load as load_plugins
from dassl.utils.tools import path_hint
from trainers.parts.starts import start_file

from .config import Request
from .folder import holds_checkpoints, last_epoch, open_run
from .lock import RunFolderError, hold_folder
from .record import CONFIG_NAME
from .writing import write_result

SHARED_SECONDS = 30  # for a file that the first process has written to be seen by the others


def print_args(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Print the command line and the config under headings, as Dassl's entry script does."""
    words = [f"{key}: {value}" for key, value in sorted(vars(args).items()) if key != "show_keys"]
    for header, lines in (("** Arguments **", words), ("** Config **", [str(cfg)])):
        print("*" * len(header), header, "*" * len(header), *lines, sep="\n")


def check_starts(request: Request) -> None:
    """Raise FileNotFoundError or ValueError where what the run starts from, or tests, is missing."""
    args, cfg = request.args, request.cfg
    if args.eval_only and args.model_dir and not os.path.exists(args.model_dir):
        raise FileNotFoundError(f"--model-dir: there is no folder {args.model_dir}{path_hint(args.model_dir)}")
    node = getattr(getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "options_type", None), "node", "")
    start = cfg.TRAINER.get(node, {}).get("PRETRAIN_DIR", "")
    beyond = cfg.RESUME or (args.eval_only and args.model_dir) or holds_checkpoints(Path(cfg.OUTPUT_DIR))
    if start and not beyond:
        start_file(start, f"TRAINER.{node}.PRETRAIN_DIR")


@log_warnings()
def run(request: Request, load: Callable[[Any], None] | None = None) -> dict[str, Any]:
    """Make one run in this process.

    Parameters
    ----------
    request
        What to do.
    load
        Gives the trainer of an evaluation what it is to be tested with, where that is no checkpoint of a run.

    Returns
    -------
    dict
        What result.json holds; {} with --no-train.

    Raises
    ------
    ValueError, LookupError, OSError
        On bad input, before any long work.
    RuntimeError, FloatingPointError
        Where training fails; the log has the whole story, with the traceback.
    """
    cfg = request.cfg
    load_plugins(cfg.PLUGINS)  # a worker of a sweep has not seen the command line
    with processes.process_group(kind_of_device(cfg), cfg.TRAIN.RANK_MINUTES):
        choose_device(cfg.USE_DEVICE, cfg.USE_CUDA)
        check_starts(request)
        with hold_folder(cfg.OUTPUT_DIR) if is_first() else nullcontext():
            goes_on = _open_together(request)
            _seed(cfg.SEED)
            logger = setup_logger(cfg.OUTPUT_DIR, goes_on) if is_first() else None
            try:
                with catching_signals(at_once=True) if size() > 1 else nullcontext():
                    return _run_logged(request, load)
            except BaseException as error:
                reason = endings.ended_by(error)
                if logger is not None:
                    logger.log_traceback(reason)  # the console gets one line
                if reason is error:
                    raise
                raise reason from None
            finally:
                restore_stdout()


def kind_of_device(cfg: CfgNode) -> str:
    """Return "cuda" where a run computes on GPUs, else "cpu"."""
    return "cuda" if cfg.USE_CUDA and cfg.USE_DEVICE in ("", "auto", "cuda") and torch.cuda.is_available() else "cpu"


def _open_together(request: Request) -> bool:
    """Claim the folder, in the first process alone; RunFolderError where another one does not see it."""
    cfg = request.cfg
    goes_on = is_first() and open_run(cfg, request.mode)
    processes.meet("the output folder")
    marker = Path(cfg.OUTPUT_DIR, CONFIG_NAME)
    written = processes.from_first(marker.exists(), "the output folder")
    waited = time.monotonic()
    while written and not marker.exists():  # file systems of several machines may take a while
        if time.monotonic() - waited > SHARED_SECONDS:
            raise RunFolderError(
                f"OUTPUT_DIR {cfg.OUTPUT_DIR} is not here what it is on the machine of rank 0; choose a folder on "
                "storage that all machines of the run share"
            )
        time.sleep(0.1)
    return goes_on


def _seed(seed: int) -> None:
    """Seed the random generators; those of several processes alike also in a run without a seed."""
    if seed >= 0:
        print(f"Setting fixed seed: {seed}")
    elif size() > 1:
        seed = processes.from_first(random.SystemRandom().randrange(2**32), "the seed")
    if seed >= 0:
        set_random_seed(seed)


def _run_logged(request: Request, load: Callable[[Any], None] | None) -> dict[str, Any]:
    """Build, train or test, and write the record, all of which the log shows."""
    args, cfg = request.args, request.cfg
    start = time.perf_counter()
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    else:
        keep_freed_memory()
    print_args(args, cfg)
    if size() > 1:
        threads = torch.get_num_threads()
        print(f"{size()} processes, each with {threads} CPU thread{'s' * (threads > 1)} (see docs/scale.md)\n")
    print("Collecting env info ...", f"** System info **\n{collect_env_info()}\n", *request.notes, sep="\n")

    trainer = build_trainer(cfg)
    trains = bool(trainer.get_model_names()) and not (args.eval_only or args.no_train)
    tests = args.eval_only or not (args.no_train or cfg.TEST.NO_TEST)
    if trains:
        trainer.dm.train_loader_x.dataset.prepare(cfg.DATALOADER.NUM_WORKERS)  # what is decoded here is also checked
    if cfg.DATASET.CHECK_IMAGES and is_first():
        chooses = trains and getattr(trainer, "chooses_on_val", False)
        splits = splits_read(cfg, trains, tests, bool(trainer.dm.dataset.val), chooses)
        check_images(trainer.dm.dataset, splits=splits)
    checkpoint = None
    if args.eval_only:
        if load is not None:
            load(trainer)
        else:
            epoch = args.load_epoch or last_epoch(args.model_dir, trainer.get_model_names())
            trainer.load_model(args.model_dir, epoch=epoch)
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
    seconds = time.perf_counter() - start
    path = write_result(cfg, trainer, request.mode, seconds, argv=request.argv, checkpoint=checkpoint)
    processes.meet("the result")
    print(f"Result written to {path}")
    return json.loads(path.read_text(encoding="utf-8"))


def splits_read(cfg: CfgNode, train: bool, test: bool, has_val: bool = True, chooses: bool = False) -> list[str]:
    """Return the splits whose images a run opens: only these are looked at for damage before the work starts.

    Parameters
    ----------
    cfg
        Its TEST.SPLIT and TEST.FINAL_MODEL say which split is tested, and whether the best epoch is chosen.
    train, test
        Whether the run does so.
    has_val
        Whether the data set has validation images.
    chooses
        Whether the trainer chooses something on them.
    """
    tests_val = has_val and cfg.TEST.SPLIT == "val"
    val = (test and (tests_val or (train and has_val and cfg.TEST.FINAL_MODEL == "best_val"))) or (chooses and has_val)
    return ["train_x", "train_u"] * train + ["val"] * val + ["test"] * (test and not tests_val)
