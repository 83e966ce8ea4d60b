"""`build_optimizer`: an optimiser from the OPTIM section of the configuration."""
from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.config.values import NAMES, check_values
from dassl.utils import check_availability

from .radam import RAdam

__all__ = ["build_optimizer"]


def build_optimizer(
    model: nn.Module | Iterable[Any], optim_cfg: CfgNode, param_groups: Iterable[Any] | None = None
) -> torch.optim.Optimizer:
    """Build an optimiser over all parameters of `model`.

    Frozen parameters are handed to it too: they never have a gradient, so they are skipped (weight decay does not
    touch them either), but they count in the optimiser's state, and so when a run is resumed.

    Parameters
    ----------
    model : nn.Module or iterable
        A module (a DataParallel wrapper is seen through), or parameters, or parameter groups.
    optim_cfg : CfgNode
        The OPTIM section. With STAGED_LR the direct children of `model` in NEW_LAYERS get LR, everything else
        LR * BASE_LR_MULT, as two groups in the order (rest, new).
    param_groups : iterable, optional
        Parameter groups that replace `model`; STAGED_LR is then ignored, with a warning.

    Raises
    ------
    ValueError
        For an unknown OPTIM.NAME or layer, and for numbers that cannot be.
    TypeError
        For STAGED_LR without a module to look for layers in.
    """
    check_availability(optim_cfg.NAME, NAMES["OPTIM.NAME"], "optimiser (OPTIM.NAME)")
    check_values(optim_cfg, "OPTIM")
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn("OPTIM.STAGED_LR is ignored, because parameter groups were given", stacklevel=2)
        params: Any = param_groups
    elif optim_cfg.STAGED_LR:
        params = _staged_groups(model, optim_cfg)
    else:
        params = model.parameters() if isinstance(model, nn.Module) else model

    common: dict[str, Any] = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    if optim_cfg.NAME == "sgd":
        if optim_cfg.SGD_NESTEROV and (optim_cfg.MOMENTUM <= 0 or optim_cfg.SGD_DAMPNING != 0):
            raise ValueError(
                f"OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0 and OPTIM.SGD_DAMPNING 0, not {optim_cfg.MOMENTUM} "
                f"and {optim_cfg.SGD_DAMPNING}; set it to False, or those"
            )
        common |= {"momentum": optim_cfg.MOMENTUM, "dampening": optim_cfg.SGD_DAMPNING}
        return torch.optim.SGD(params, nesterov=optim_cfg.SGD_NESTEROV, **common)
    common["eps"] = optim_cfg.get("EPS", 1e-8)  # trees of other engines have no such key
    if optim_cfg.NAME == "rmsprop":
        return torch.optim.RMSprop(params, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common)
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if optim_cfg.NAME == "adamw":
        return torch.optim.AdamW(params, betas=betas, **common)
    if optim_cfg.NAME == "radam":
        return RAdam(params, betas=betas, **common)
    return torch.optim.Adam(params, betas=betas, amsgrad=optim_cfg.NAME == "amsgrad", **common)


def _staged_groups(model: Any, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    """Return two parameter groups: all but the NEW_LAYERS at LR * BASE_LR_MULT, and those."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"OPTIM.STAGED_LR needs a module to look for layers in, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        model = model.module
    new_layers = [optim_cfg.NEW_LAYERS] if isinstance(optim_cfg.NEW_LAYERS, str) else optim_cfg.NEW_LAYERS
    if not new_layers:
        warnings.warn("OPTIM.NEW_LAYERS is empty: every layer learns at LR * BASE_LR_MULT", stacklevel=3)
    children = dict(model.named_children())
    for name in new_layers:
        check_availability(name, children, "layer (OPTIM.NEW_LAYERS)")
    base = list(model.parameters(recurse=False))  # of the module itself, which lie in none of its layers
    new: list[nn.Parameter] = []
    for name, child in children.items():
        (new if name in new_layers else base).extend(child.parameters())
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]
