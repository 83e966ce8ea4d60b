"""Optimisers and learning-rate schedules, built from the OPTIM section of the configuration.

Trainers call `build_optimizer(model, cfg.OPTIM)` and `build_lr_scheduler(optimizer, cfg.OPTIM)` in their `build_model`,
and step the schedule themselves at the end of each epoch (`update_lr`).
"""
from __future__ import annotations

from .lr_scheduler import build_lr_scheduler
from .optimizer import build_optimizer

__all__ = ["build_lr_scheduler", "build_optimizer"]
