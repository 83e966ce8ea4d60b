"""Learning-rate schedules, stepped once per epoch, at its end, by the trainer.

`build_lr_scheduler` returns one of torch's schedules, or wraps it (the "successor") in a warm-up: the first W
epochs run at a constant or a linearly rising rate, then the successor takes over.
"""
from __future__ import annotations

import copy
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.config.values import NAMES, check_values
from dassl.utils import check_availability

__all__ = ["ConstantWarmupScheduler", "LinearWarmupScheduler", "build_lr_scheduler"]

POSITION = ("last_epoch", "_step_count", "_last_lr")  # where a schedule stands; the rest is its definition


class _BaseWarmupScheduler(LRScheduler):
    """Rates of `get_lr` for epochs 0 ... warmup_epoch - 1, then those of `successor`.

    Its state holds numbers only, and loading it steps the live schedule to where the saved one stood. The original
    engine takes every entry of a state as an attribute of its own schedule: there must be none called successor, which
    would put numbers where it needs its live successor. That one goes on from its beginning then, scaled to the rate
    that the optimiser was saved with: its cosine falls from there to 0, k epochs on by (1 + cos(pi k / MAX_EPOCH)) / 2.
    """

    def __init__(
        self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, last_epoch: int = -1
    ) -> None:
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        self._fresh_successor = _position(successor)
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self) -> dict[str, Any]:
        return _position(self) | {"after_warmup": _position(self.successor)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make as many steps as were made before `state_dict`, and give the optimiser the rates of this schedule.

        Rates depend on the one before, so to go on from saved ones would be wrong where MAX_EPOCH or LR has changed.
        Raises ValueError for a state in the original engine's form, which holds objects: see `fast_forward`.
        """
        saved = state_dict.get("after_warmup")
        if not isinstance(saved, dict):
            raise ValueError("this state does not say where the schedule stood; use fast_forward(epochs)")
        steps = saved["last_epoch"] - self._fresh_successor["last_epoch"]
        self.fast_forward(state_dict["last_epoch"] + steps)
        self._step_count, self.successor._step_count = state_dict["_step_count"], saved["_step_count"]

    def fast_forward(self, epochs: int) -> None:
        """Stand where a new schedule stands after `epochs` steps, and give the optimiser its rates."""
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr
        _move(self.successor, self._fresh_successor)
        self.last_epoch, self._step_count = -1, 0
        super().step()
        for _ in range(epochs):
            # stepping without training is the point here, so torch must not think it is a mistake
            self._step_count, self.successor._step_count = 2, max(2, self.successor._step_count)
            self.step()


class ConstantWarmupScheduler(_BaseWarmupScheduler):
    """Every warm-up epoch runs at `cons_lr`."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        cons_lr: float,
        last_epoch: int = -1,
    ) -> None:
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch)

    def get_lr(self) -> list[Any]:
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.cons_lr for _ in self.base_lrs]


class LinearWarmupScheduler(_BaseWarmupScheduler):
    """Warm-up epoch e runs at LR * e / warmup_epoch, and epoch 0 at `min_lr`."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        min_lr: float,
        last_epoch: int = -1,
    ) -> None:
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch)

    def get_lr(self) -> list[Any]:
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        if self.last_epoch == 0:
            return [self.min_lr for _ in self.base_lrs]
        return [lr * self.last_epoch / self.warmup_epoch for lr in self.base_lrs]


def _position(scheduler: LRScheduler) -> dict[str, Any]:
    return {name: copy.copy(getattr(scheduler, name)) for name in POSITION if hasattr(scheduler, name)}


def _move(scheduler: LRScheduler, position: dict[str, Any]) -> None:
    for name in POSITION:
        if name in position:
            setattr(scheduler, name, copy.copy(position[name]))


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """The schedule that LR_SCHEDULER and the WARMUP keys describe.

    single_step: times GAMMA every STEPSIZE epochs (a sequence's last entry; 0 or less: not within MAX_EPOCH);
    multi_step: times GAMMA at each epoch in STEPSIZE; cosine: from LR to 0 along half a cosine of MAX_EPOCH.
    With WARMUP_EPOCH > 0 these count from the end of the warm-up, or with WARMUP_RECOUNT False from epoch 0.
    Raises ValueError for unknown names and for a STEPSIZE of the wrong kind.
    """
    check_availability(optim_cfg.LR_SCHEDULER, NAMES["OPTIM.LR_SCHEDULER"], "schedule (OPTIM.LR_SCHEDULER)")
    check_values(optim_cfg, "OPTIM")
    stepsize = optim_cfg.STEPSIZE
    steps = list(stepsize) if isinstance(stepsize, (list, tuple)) else [stepsize]
    whole = all(isinstance(step, int) for step in steps)
    schedule: LRScheduler
    if optim_cfg.LR_SCHEDULER == "single_step":
        if not (steps and whole):
            raise ValueError(f"single_step needs a whole number of epochs as OPTIM.STEPSIZE, got {stepsize!r}")
        step = steps[-1] if steps[-1] > 0 else optim_cfg.MAX_EPOCH
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step, gamma=optim_cfg.GAMMA)
    elif optim_cfg.LR_SCHEDULER == "multi_step":
        if not (isinstance(stepsize, (list, tuple)) and whole):
            raise ValueError(f"multi_step needs a list of whole epochs as OPTIM.STEPSIZE, got {stepsize!r}")
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, steps, gamma=optim_cfg.GAMMA)
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, optim_cfg.MAX_EPOCH)
    if optim_cfg.WARMUP_EPOCH <= 0:
        return schedule

    check_availability(optim_cfg.WARMUP_TYPE, NAMES["OPTIM.WARMUP_TYPE"], "warm-up (OPTIM.WARMUP_TYPE)")
    if not optim_cfg.WARMUP_RECOUNT:
        schedule.last_epoch = optim_cfg.WARMUP_EPOCH
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(
            optimizer, schedule, optim_cfg.WARMUP_EPOCH, optim_cfg.WARMUP_CONS_LR
        )
    return LinearWarmupScheduler(optimizer, schedule, optim_cfg.WARMUP_EPOCH, optim_cfg.WARMUP_MIN_LR)
