"""Trainers that classify images.

`SimpleTrainer` adds data, a model, validation, checkpoints and tests to the order of `TrainerBase`;
`TrainerX` trains on labelled batches, `TrainerXU` on pairs of labelled and unlabelled ones. A plugin
subclasses one of these and defines, as a rule, three methods:

    build_model()             make the model, register_model() what learns
    forward_backward(batch)   one step; returns {"loss": ..., "acc": ...}
    parse_batch_train(batch)  what forward_backward wants of a batch

The names imported here and not used are part of the interface: plugins that bring a loop of their own import
them from this module.
"""
from __future__ import annotations

import datetime
import logging
import os.path as osp
import shutil
import time
import warnings
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from functools import cached_property
from itertools import chain, islice, repeat
from operator import length_hint
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.config.values import check_names, check_values
from dassl.data import DataManager, fingerprint
from dassl.data.datasets import DatasetBase
from dassl.data.epochs import EpochLoader
from dassl.evaluation import build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.plain.devices import AUTO, choose_device
from dassl.plain.ranks import is_first, size
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    atomic_write,
    check_availability,
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils.checkpoint import BEST_NAME

from . import processes
from .base import SummaryWriter, TrainerBase
from .net import SimpleNet
from .shares import in_rounds, loader_share

__all__ = [
    "AverageMeter", "DataManager", "MetricMeter", "OrderedDict", "SimpleNet", "SimpleTrainer", "SummaryWriter",
    "TrainerBase", "TrainerX", "TrainerXU", "build_evaluator", "build_lr_scheduler", "build_optimizer",
    "count_num_param", "datetime", "load_checkpoint", "load_pretrained_weights", "mkdir_if_missing", "nn", "np", "osp",
    "resume_from_checkpoint", "save_checkpoint", "time", "tolist_if_not", "torch", "tqdm",
]  # fmt: skip

log = logging.getLogger(__name__)

TEST_NEWS = 60  # seconds between two lines of a test in the log


class SimpleTrainer(TrainerBase):
    """A trainer that is built from a configuration: it checks it, loads the data, builds model and evaluator.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree, as a rule frozen. The constructor calls `check_cfg`, `build_data_loader` and `build_model`, in
        this order, which trainers override; `self.cfg` is there from `build_data_loader` on.

    Attributes
    ----------
    dm : DataManager
        `dm.dataset.classnames` is what prompts are made of.
    device : torch.device
        What the key USE_DEVICE names (dassl/plain/devices.py); without it, or with "auto", CUDA where there is a GPU
        and USE_CUDA, else the CPU.  `build_model` may change it.
    epoch, start_epoch, max_epoch : int
        The present epoch from 0, the first one of this process, and their number.
    batch_idx, num_batches : int
        The present batch from 0, and their number, set before `forward_backward` of that batch: trainers step their
        schedule when `batch_idx + 1 == num_batches`.
    history : list of dict
        One entry an epoch: epoch (from 1), mean of each meter, lr, and `epoch_facts()`.
    looks : dict or None
        {"val": 50, "test": 1}: how often each split was evaluated in the epochs that led to the present model, over all
        processes of an interrupted run. Validation images that are also in the test set count as "test". None where the
        run goes on from a checkpoint that does not say.
    last_test : dict or None
        Of the latest test: split, results, total, correct, per_class, confusions, predictions, seconds.
    splits_work : bool
        Whether the processes of one run share out its work: that of a training step, and the batches of a test. A
        class that does not say so computes everything in every process, which is right, and no faster than one.
    """

    splits_work = False

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        check_names(cfg.TEST, "TEST")
        check_values(cfg.TRAIN, "TRAIN")
        self.device = choose_device(cfg.get("USE_DEVICE", AUTO), cfg.USE_CUDA)
        self.start_epoch = self.epoch = 0
        self.max_epoch: int = cfg.OPTIM.MAX_EPOCH
        self.output_dir: str = cfg.OUTPUT_DIR
        self.cfg = cfg
        with processes.first_goes_first("the data set"):  # whose lists and picks are kept in files
            self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -np.inf
        self.last_test: dict[str, Any] | None = None

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a configuration that the trainer cannot work with; this one takes any. `self.cfg` is not set yet."""

    def build_data_loader(self) -> None:
        """Make the DataManager `dm` and take over what it offers."""
        self._use_data(DataManager(self.cfg))

    def _use_data(self, dm: Any) -> None:
        self.dm = dm
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u  # None without unlabelled data
        self.val_loader = dm.val_loader  # None without validation data
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname

    def build_model(self) -> None:
        """Make `model`, `optim` and `sched` and register them; here a SimpleNet."""
        log.info("Building model")
        self.model = SimpleNet(self.cfg, self.cfg.MODEL, self.num_classes)
        if self.cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, self.cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        log.info(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    # --- the run ---

    def train(self) -> None:  # type: ignore[override]
        """Train from `start_epoch` to `max_epoch`, then test. Resumes by itself: see `before_train`."""
        self._check_selection()
        self._check_overlap()
        try:
            super().train(self.start_epoch, self.max_epoch)
        finally:
            for loader in vars(self).values():  # a plugin may have more of them
                if isinstance(loader, EpochLoader):
                    loader.end_workers()

    def _check_selection(self) -> None:
        """Warn where the best epoch is chosen on images that it is then tested on; refuse where there are none."""
        if self.cfg.TEST.NO_TEST or self.cfg.TEST.FINAL_MODEL != "best_val":
            return
        if getattr(self, "val_loader", None) is None:
            raise ValueError(
                "TEST.FINAL_MODEL is best_val, but there is no validation data to choose the best epoch on; "
                "use last_step, or a data set with a validation split"
            )
        if self._val_in_test:
            warnings.warn(
                "TEST.FINAL_MODEL best_val chooses the epoch on images that are also in the test set, so the "
                "reported accuracy is too high; use last_step",
                stacklevel=3,
            )

    def _check_overlap(self) -> None:
        """Warn where a test image was also trained on."""
        test = self._image_files("test")
        if both := test & self._image_files("train_x"):
            warnings.warn(
                f"{len(both)} of {len(test)} test images are also training images ({min(both)}, ...), so the reported "
                "accuracy is too high",
                stacklevel=3,
            )

    def _image_files(self, split: str) -> set[str]:
        """Return the paths of a split's images; none where a plugin brings data of its own."""
        # a trainer may have put another loader in the place of the data manager's
        loader = getattr(self, f"{split}_loader", None) if split != "train_x" else None
        dataset = getattr(getattr(self, "dm", None), "dataset", None)
        images = getattr(getattr(loader, "dataset", None), "data_source", None) or getattr(dataset, split, None)
        return {item.impath for item in images or ()}

    def before_train(self) -> None:
        """Resume from RESUME, or OUTPUT_DIR when it holds checkpoints; open tensorboard, start the clock."""
        place = self.cfg.RESUME or self.output_dir
        self.start_epoch = self.resume_model_if_exist(place)
        remedy = f"; {place} must be on storage that all machines of the run share"
        processes.same(self.start_epoch, "the number of finished epochs", remedy)
        self._report_sharing()
        self._check_resumed_data()
        if self.start_epoch and self.cfg.RESUME:
            self._take_best_along()
        if self.start_epoch >= self.max_epoch > 0:
            log.info(f"Nothing left to train: {self.start_epoch} of {self.max_epoch} epochs are done")
        self._tell_what_is_left_out()
        if is_first():
            writer_dir = osp.join(self.output_dir, "tensorboard")
            mkdir_if_missing(writer_dir)
            self.init_writer(writer_dir)
        self.time_start = time.time()

    def _report_sharing(self) -> None:
        """Warn where more processes make no faster run, or an uneven one."""
        batch = getattr(self.train_loader_x, "batch_size", None) or 0
        if size() > 1 and not self.splits_work:
            warnings.warn(
                f"{type(self).__name__} does not share out its work: each of the {size()} processes computes all of "
                "it, which is right, and no faster than one",
                stacklevel=3,
            )
        elif batch % size():
            uneven = "some processes have no image of a step" if batch < size() else "some processes have more to do"
            text = f"DATALOADER.TRAIN_X.BATCH_SIZE {batch} does not divide by the {size()} processes: {uneven}"
            warnings.warn(text, stacklevel=3)

    def _tell_what_is_left_out(self) -> None:
        """Say so where there is nothing to train, or where every epoch drops images that fill no whole batch."""
        if self.max_epoch == self.start_epoch == 0 and any(optim is not None for optim in self._optims.values()):
            warnings.warn("OPTIM.MAX_EPOCH is 0: nothing is trained", stacklevel=3)
        loader: Any = self.train_loader_x
        if self.start_epoch < self.max_epoch and getattr(loader, "drop_last", False):
            total = length_hint(loader.sampler)
            if left := total % loader.batch_size:
                log.info(
                    f"{left} of {total} training images are left out of every epoch: they fill no whole batch of "
                    f"{loader.batch_size} (DATALOADER.TRAIN_X.BATCH_SIZE)"
                )

    @cached_property
    def _data_fingerprint(self) -> str | None:
        dataset = getattr(getattr(self, "dm", None), "dataset", None)
        return fingerprint(dataset) if isinstance(dataset, DatasetBase) else None  # None: a plugin with data of its own

    def _engine_state(self) -> dict[str, Any]:
        return super()._engine_state() | {"data": self._data_fingerprint}

    def _check_resumed_data(self) -> None:
        """Refuse to continue what learned from other images, picks or classes.

        It is a warning where RESUME asks for that, or where a run without a seed has drawn new picks.
        """
        was, now = (self._resumed or {}).get("data"), self._data_fingerprint
        if was is None or now is None or was == now:
            return
        place = self.cfg.RESUME or self.output_dir
        problem = f"the checkpoints in {place} are of a run on other images, or other few-shot picks, than this one's"
        if not self.cfg.RESUME and self.cfg.SEED >= 0:
            raise ValueError(f"{problem}; choose another output folder, or delete this one to start over")
        warnings.warn(problem, stacklevel=3)

    def _take_best_along(self) -> None:
        """Copy the best model until now from RESUME to OUTPUT_DIR: it may stay the best, and is looked for there."""
        if osp.realpath(self.cfg.RESUME) == osp.realpath(self.output_dir) or not is_first():
            return
        for name in self.get_model_names():
            best = osp.join(self.cfg.RESUME, name, BEST_NAME)
            if osp.isfile(best):
                with open(best, "rb") as source, atomic_write(osp.join(self.output_dir, name, BEST_NAME), "wb") as copy:
                    shutil.copyfileobj(source, copy)

    def after_epoch(self) -> None:
        """Validate when the best epoch is wanted; save after every CHECKPOINT_FREQ epochs and the last.

        A validation result must be strictly better to replace the best model.
        """
        done = self.epoch + 1
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if self.splits_work:
                processes.same(result, "the validation result")
            result = processes.from_first(result, "the validation result")  # alone, each may round on its own
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST_NAME)
        if done == self.max_epoch or (frequency > 0 and done % frequency == 0):
            self.save_model(self.epoch, self.output_dir)

    def after_train(self) -> None:
        """Test the last model, or the best one where TEST.FINAL_MODEL asks for it; say how long it took."""
        log.info("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                log.info("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                log.info("Deploy the last-epoch model")
            self.test()
        elapsed = round(time.time() - self.time_start)
        log.info(f"Elapsed: {datetime.timedelta(seconds=elapsed)}")
        self.close_writer()

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:  # type: ignore[override]
        """Evaluate on a split.

        Parameters
        ----------
        split : str, optional
            "val" or "test", by default TEST.SPLIT. "val" means the test set when there is no validation data.

        Returns
        -------
        float
            The evaluator's first result: accuracy in percent.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = self.cfg.TEST.SPLIT if split is None else split
        if split == "val" and self.val_loader is not None:
            loader = self.val_loader
        else:
            if split == "val":
                warnings.warn("there is no validation data, so the test set takes its place", stacklevel=2)
            split, loader = "test", self.test_loader
        log.info(f"Evaluate on the *{split}* set")
        self._count_look(split)
        start = last_news = time.time()
        count = length_hint(loader)
        batches = self.evaluation_batches(split, loader)
        with closing(batches) if isinstance(batches, Generator) else nullcontext():
            # the bar is on stderr, and only when that is a terminal; a test that takes its time also tells the log
            bar = tqdm(self._scored(batches), f"{split} set", count or None, unit="batch", disable=None)
            for number, (logits, label) in enumerate(bar, start=1):
                self._obey_signals()
                self.evaluator.process(logits, label)
                if (now := time.time()) - last_news >= TEST_NEWS and number < count:
                    last_news = now
                    left = datetime.timedelta(seconds=int((now - start) / number * (count - number)))
                    log.info(f"{split} batch [{number}/{count}] eta {left}")
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        self.last_test = {
            "split": split,
            "results": OrderedDict(results),
            "total": getattr(self.evaluator, "_total", None),
            "correct": getattr(self.evaluator, "_correct", None),
            "per_class": self.evaluator.per_class() if hasattr(self.evaluator, "per_class") else [],
            "confusions": self.evaluator.confusions() if hasattr(self.evaluator, "confusions") else None,
            "predictions": self.evaluator.predictions() if hasattr(self.evaluator, "predictions") else None,
            "seconds": time.time() - start,
        }
        return next(iter(results.values()))

    def _scored(self, batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield model output and labels of every batch of a test, in order; `batches` are this process's."""

        def score(batch: Any) -> tuple[Any, Any]:
            image, label = self.parse_batch_test(batch)
            return self.model_inference(image), label

        if size() == 1 or not self.splits_work:
            yield from map(score, batches)
        else:
            for pair in in_rounds(iter(batches), lambda batch: _moved("cpu", *score(batch))):
                yield _moved(self.device, *pair)

    def _count_look(self, split: str) -> None:
        """Count an evaluation of a split in `looks`, under the name of what its images really are."""
        if self.looks is not None:
            seen = "test" if split == "val" and self._val_in_test else split
            self.looks = self.looks | {seen: self.looks.get(seen, 0) + 1}

    @cached_property
    def _val_in_test(self) -> bool:
        """Whether validation images are also test images, as on ImageNet."""
        return not self._image_files("val").isdisjoint(self._image_files("test"))

    def evaluation_batches(self, split: str, loader: Iterable[Any]) -> Iterable[Any]:
        """Return the batches of a test of `split`, in order; here what the loader gives.

        A trainer that knows more than the images (features that it has kept, say) can hand out batches of that. A
        generator is closed when the test ends, also by an exception.

        Where several processes share the work of the run (`splits_work`), each returns its own: of W processes, the one
        of rank r has the batches r, r + W, r + 2 W, ... of the whole test, which may be none. All draw the same random
        numbers on the way.
        """
        return loader if size() == 1 or not self.splits_work else loader_share(loader)

    def model_inference(self, input: Any) -> Any:
        """Return the logits (B, C) of images (B, 3, H, W)."""
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) and labels (B,) of a batch on the device."""
        return _moved(self.device, batch["img"], batch["label"])

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Return the learning rate of the first parameter group of the first optimiser."""
        name = self.get_model_names(names)[0]
        return self._optims[name].param_groups[0]["lr"]

    # --- one epoch, for the trainers below ---

    def _run_batches(self, batches: Iterable[tuple[Any, ...]], num_batches: int) -> None:
        """Call forward_backward(*batch) for each batch; write the training lines, the curves and the history."""
        self._restore_resumed()  # already done, unless a plugin brings its own train()
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches = num_batches
        lr_used = self._shown_lr()
        end = time.time()
        title = f"epoch {self.epoch + 1}/{self.max_epoch}"  # a bar on stderr, if that is a terminal and it takes long
        bar = tqdm(batches, title, num_batches, leave=False, disable=None, delay=1)
        for self.batch_idx, batch in enumerate(bar):
            data_time.update(time.time() - end)
            losses.update(self.forward_backward(*batch))
            batch_time.update(time.time() - end)
            done = self.batch_idx + 1
            if done % self.cfg.TRAIN.PRINT_FREQ == 0 or num_batches < self.cfg.TRAIN.PRINT_FREQ:
                self._print_progress(losses, batch_time, data_time)
            self._obey_signals()
            step = self.epoch * num_batches + self.batch_idx
            for name, meter in losses.meters.items():
                self.write_scalar(f"train/{name}", meter.avg, step)
            lr = self._shown_lr()
            if lr is not None:
                self.write_scalar("train/lr", lr, step)
            end = time.time()
        entry: dict[str, Any] = {"epoch": self.epoch + 1} | {name: meter.avg for name, meter in losses.meters.items()}
        self.history.append(entry | ({} if lr_used is None else {"lr": lr_used}) | self.epoch_facts())

    def epoch_facts(self) -> dict[str, Any]:
        """Return what else a trainer knows after the last step of an epoch, as plain JSON data, for the history."""
        return {}

    def _print_progress(self, losses: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter) -> None:
        done = self.batch_idx + 1
        remaining = self.num_batches - done + (self.max_epoch - self.epoch - 1) * self.num_batches
        eta = datetime.timedelta(seconds=int(batch_time.avg * remaining))
        lr = self._shown_lr()
        info = [
            f"epoch [{self.epoch + 1}/{self.max_epoch}]",
            f"batch [{done}/{self.num_batches}]",
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f})",
            f"data {data_time.val:.3f} ({data_time.avg:.3f})",
            str(losses),
            "" if lr is None else f"lr {lr:.4e}",
            f"eta {eta}",
        ]
        log.info(" ".join(part for part in info if part))

    def _shown_lr(self) -> float | None:
        """Return the learning rate to print; None for trainers that keep their optimiser to themselves."""
        first = next(iter(self._optims.values()), None)
        return None if first is None else self.get_current_lr()


class TrainerX(SimpleTrainer):
    """Trains on labelled batches: define forward_backward(batch) -> {meter: number} or None."""

    def run_epoch(self) -> None:
        """Train on each labelled batch once."""
        self._run_batches(((batch,) for batch in self.train_loader_x), len(self.train_loader_x))

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Return images (B, 3, H, W), labels (B,) and domains (B,) of a batch on the device."""
        return _moved(self.device, batch["img"], batch["label"], batch["domain"])


class TrainerXU(SimpleTrainer):
    """Trains on pairs of a labelled and an unlabelled batch: define forward_backward(batch_x, batch_u).

    TRAIN.COUNT_ITER says whose number of batches is an epoch; a loader that ends earlier starts again.
    """

    def run_epoch(self) -> None:
        """Train on as many pairs of batches as TRAIN.COUNT_ITER says."""
        if self.train_loader_u is None:
            raise ValueError(f"{type(self).__name__} needs unlabelled data; the data set has no train_u")
        sizes = {"train_x": len(self.train_loader_x), "train_u": len(self.train_loader_u)}
        sizes["smaller_one"] = min(sizes.values())
        check_availability(self.cfg.TRAIN.COUNT_ITER, sizes, "way to count (TRAIN.COUNT_ITER)")
        num_batches = sizes[self.cfg.TRAIN.COUNT_ITER]
        self._run_batches(islice(self._pairs(), num_batches), num_batches)

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        """Give pairs without end. Both loaders are begun before either is read: that decides what is drawn."""
        assert self.train_loader_u is not None
        yield from zip(_endless(self.train_loader_x), _endless(self.train_loader_u), strict=True)

    def parse_batch_train(
        self, batch_x: dict[str, Any], batch_u: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return labelled images, their labels, and unlabelled images on the device."""
        return _moved(self.device, batch_x["img"], batch_x["label"], batch_u["img"])


def _moved(device: torch.device | str, *tensors: Any) -> tuple[Any, ...]:
    """Move parts of a batch to the device; on CUDA, without waiting for what the GPU is doing meanwhile."""
    ahead = torch.device(device).type == "cuda"  # elsewhere the memory might be used again before it is read
    return tuple(tensor.to(device, non_blocking=ahead) for tensor in tensors)


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Give the batches of a loader again and again."""
    return chain(iter(loader), chain.from_iterable(repeat(loader)))  # the first epoch begins here and now
