"""Learning-rate schedules, stepped once per epoch, at its end, by the trainer.

`build_lr_scheduler` returns one of torch's schedules, or wraps it (the "successor") in a warm-up: the first W
epochs run at a constant or a linearly rising rate, then the successor takes over. With e the epoch from 0, LR the
optimiser's rate and E = MAX_EPOCH, the usual setting of prompt learning (cosine, W = 1, constant) is

    lr(0) = WARMUP_CONS_LR,    lr(e) = LR/2 (1 + cos(pi (e - W) / E))  for e >= W

whose last epoch ends above 0, since the cosine has the full length E.
"""
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.config.values import NAMES, check_values
from dassl.utils import check_availability

__all__ = ["WarmupScheduler", "build_lr_scheduler"]

POSITION = ("last_epoch", "_step_count", "_last_lr")  # where a schedule stands; the rest is its definition


class WarmupScheduler(LRScheduler):
    """The rates of a warm-up for epochs 0 ... warmup_epoch - 1, then those of another schedule.

    Parameters
    ----------
    optimizer : Optimizer
        Whose groups' rates are set; `successor` must have been made for the same one.
    successor : LRScheduler
        The schedule that takes over; it makes no step during the warm-up.
    warmup_epoch : int
        Number of epochs of the warm-up.
    warmup_lr : callable
        (epoch from 0, the group's own rate) -> the rate of that epoch.
    last_epoch : int
        As for torch's schedules.

    Notes
    -----
    Its state holds numbers only, and loading it steps the live schedule to where the saved one stood. The original
    engine takes every entry of a state as an attribute of its own schedule: there must be none called successor, which
    would put numbers where it needs its live successor. That one goes on from its beginning then, scaled to the rate
    that the optimiser was saved with: its cosine falls from there to 0, k epochs on by (1 + cos(pi k / MAX_EPOCH)) / 2.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        warmup_lr: Callable[[int, float], float],
        last_epoch: int = -1,
    ) -> None:
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        self.warmup_lr = warmup_lr
        self._fresh_successor = _position(successor)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the rate of each parameter group in the present epoch."""
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.warmup_lr(self.last_epoch, float(lr)) for lr in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch."""
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where both schedules stand, as numbers."""
        return _position(self) | {"after_warmup": _position(self.successor)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make as many steps as were made before `state_dict`, and give the optimiser the rates of this schedule.

        Rates depend on the one before, so to go on from saved ones would be wrong where MAX_EPOCH or LR has changed.

        Raises
        ------
        ValueError
            For a state in the original engine's form, which holds objects: see `fast_forward`.
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
        for name, value in self._fresh_successor.items():
            setattr(self.successor, name, copy.copy(value))
        self.last_epoch, self._step_count = -1, 0
        super().step()
        for _ in range(epochs):
            # stepping without training is the point here, so torch must not think it is a mistake
            self._step_count, self.successor._step_count = 2, max(2, self.successor._step_count)
            self.step()


def _position(scheduler: LRScheduler) -> dict[str, Any]:
    """Return where a schedule stands, by the names of its attributes."""
    return {name: copy.copy(getattr(scheduler, name)) for name in POSITION if hasattr(scheduler, name)}


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """Build the schedule that LR_SCHEDULER and the WARMUP keys describe.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates it is to set.
    optim_cfg : CfgNode
        The OPTIM section. `LR_SCHEDULER` is one of

        - single_step: times GAMMA every STEPSIZE epochs (a sequence's last entry; 0 or less: not within MAX_EPOCH);
        - multi_step: times GAMMA at each epoch in STEPSIZE;
        - cosine: from LR to 0 along half a cosine of MAX_EPOCH epochs.

        With WARMUP_EPOCH > 0 these count from the end of the warm-up, or with WARMUP_RECOUNT False from epoch 0.

    Raises
    ------
    ValueError
        For unknown names, numbers that cannot be, and a STEPSIZE of the wrong kind.
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
    warmup, constant, lowest = optim_cfg.WARMUP_EPOCH, optim_cfg.WARMUP_CONS_LR, optim_cfg.WARMUP_MIN_LR
    if warmup <= 0:
        return schedule

    check_availability(optim_cfg.WARMUP_TYPE, NAMES["OPTIM.WARMUP_TYPE"], "warm-up (OPTIM.WARMUP_TYPE)")
    if not optim_cfg.WARMUP_RECOUNT:
        schedule.last_epoch = warmup
    rates: dict[str, Callable[[int, float], float]] = {
        "constant": lambda epoch, lr: constant,
        "linear": lambda epoch, lr: lr * epoch / warmup if epoch else lowest,
    }
    return WarmupScheduler(optimizer, schedule, warmup, rates[optim_cfg.WARMUP_TYPE])
