"""Weights and layers of a module: load, count, freeze, initialise.

The original engine keeps its checkpoint functions here too, so plugins may import them from this module.
"""
from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from .checkpoint import CheckpointError, load_checkpoint, resume_from_checkpoint, save_checkpoint
from .tools import StrPath, check_availability

__all__ = [
    "count_num_param", "init_network_weights", "load_checkpoint", "load_pretrained_weights", "open_all_layers",
    "open_specified_layers", "resume_from_checkpoint", "save_checkpoint",
]  # fmt: skip

log = logging.getLogger(__name__)


def load_pretrained_weights(model: nn.Module, weight_path: StrPath) -> None:
    """Copy into `model`, in place, what fits by name and shape from a file of weights.

    What does not fit is listed and left out, and the model keeps its own weights there: plugins start from files that
    hold more, or less, than their model. That nothing fits is a warning.

    Parameters
    ----------
    model : nn.Module
        A DataParallel wrapper is seen through, as is a leading "module." of the file's keys.
    weight_path : path
        A checkpoint (its `state_dict` is taken) or a bare state dict.

    Raises
    ------
    CheckpointError
        For a file that is damaged or holds something else; see `load_checkpoint`.
    """
    content = load_checkpoint(weight_path)
    loaded = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{weight_path} holds a {type(loaded).__name__}, not a state dict")
    if isinstance(model, nn.DataParallel):
        model = model.module
    own = model.state_dict()
    matched, discarded = {}, []
    for key, value in loaded.items():
        key = key.removeprefix("module.")
        if key in own and isinstance(value, Tensor) and own[key].shape == value.shape:
            matched[key] = value
        else:
            discarded.append(key)
    model.load_state_dict(own | matched)
    if not matched:
        warnings.warn(
            f"Cannot load {weight_path}: none of its {len(loaded)} entries fits the model by name and shape",
            stacklevel=2,
        )
        return
    log.info(f"Successfully loaded pretrained weights from {weight_path}")
    if discarded:
        log.info(f"Layers discarded due to unmatched keys or size: {discarded}")


def count_num_param(model: nn.Module | None = None, params: Iterable[Any] | None = None) -> int:
    """Count the parameters of a module, or else of an iterable of parameters or of parameter groups."""
    if model is not None:
        return sum(param.numel() for param in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or params")
    total = 0
    for entry in params:
        group = entry["params"] if isinstance(entry, dict) else [entry]
        total += sum(param.numel() for param in ([group] if isinstance(group, Tensor) else group))
    return total


def open_all_layers(model: nn.Module) -> None:
    """Train every layer: gradients on, training mode."""
    model.train()
    for param in model.parameters():
        param.requires_grad = True


def open_specified_layers(model: nn.Module, open_layers: str | Sequence[str]) -> None:
    """Train the named direct children only; the others get no gradients and go to evaluation mode.

    Raises
    ------
    ValueError
        For a name that is not a direct child of `model`.
    """
    if isinstance(model, nn.DataParallel):
        model = model.module
    names = [open_layers] if isinstance(open_layers, str) else list(open_layers)
    children = dict(model.named_children())
    for name in names:
        check_availability(name, children)
    for name, child in children.items():
        child.train(name in names)
        for param in child.parameters():
            param.requires_grad = name in names


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Initialise in place: convolutions and linear layers by `init_type`, norm layers to 1, all their biases to 0.

    Parameters
    ----------
    model : nn.Module
        Layers are told by their class's name: Conv..., ...Linear, ...BatchNorm..., ...InstanceNorm....
    init_type : str
        normal (standard deviation `gain`), xavier (`gain`), kaiming (by the number of inputs) or orthogonal (`gain`);
        anything else is a ValueError.
    gain : float
        See `init_type`.
    """
    initialisers = {
        "normal": lambda weight: nn.init.normal_(weight, 0.0, gain),
        "xavier": lambda weight: nn.init.xavier_normal_(weight, gain=gain),
        "kaiming": lambda weight: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
        "orthogonal": lambda weight: nn.init.orthogonal_(weight, gain=gain),
    }
    check_availability(init_type, initialisers)
    for module in model.modules():
        kind = type(module).__name__
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if not isinstance(weight, Tensor):  # norm layers without one, blocks of layers called Conv...
            continue
        if kind.startswith("Conv") or kind.endswith("Linear"):
            initialisers[init_type](weight)
        elif "BatchNorm" in kind or "InstanceNorm" in kind:
            nn.init.constant_(weight, 1.0)
        else:
            continue
        if isinstance(bias, Tensor):
            nn.init.constant_(bias, 0.0)
