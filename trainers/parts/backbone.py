"""The frozen CLIP that every trainer starts from, in the arithmetic that was asked for."""
from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import torch

import clip
from clip.frozen import freeze_image_tower
from clip.loading.open_clip_table import path_in
from clip.model import CLIP

KEPT = 2  # models that a process keeps for its next run


def load_backbone(cfg: Any, precision: str, device: torch.device) -> CLIP:
    """Load the CLIP of cfg.MODEL.BACKBONE.NAME (a name or a path, as of `clip.load`), frozen, in evaluation mode.

    A later run of this process gets the same object, unless the file has changed: it may be moved to `device`, and
    must not be changed in any other way.  The first run gets it on the CPU.

    Parameters
    ----------
    cfg
        MODEL.BACKBONE and INPUT are read.
    precision
        "fp32"; "amp" (float32 weights under autocast); "fp16" and "bf16" (matrices in that format, while
        normalisation, embeddings and the scale of the logits stay float32); "fp64", which shows what is rounding.
        fp16 and amp need CUDA; elsewhere they become fp32.
    device
        Where the run computes.

    Raises
    ------
    ValueError
        Where INPUT.SIZE is not what the backbone reads.
    """
    name = cfg.MODEL.BACKBONE.NAME
    print(f"Loading CLIP (backbone: {name})")
    precision = effective_precision(precision, device)
    activation = cfg.MODEL.BACKBONE.get("ACTIVATION", "auto")
    model = _frozen_clip(name, _file_state(path_in(name)), activation, precision, str(device))
    _check_input(cfg.INPUT, model, name)
    return model


def _file_state(path: str) -> tuple[tuple[int, int, int], ...]:
    """Describe a file, or the files of a folder, by what changes with them; () for a name that is neither."""
    files = sorted(entry.path for entry in os.scandir(path)) if os.path.isdir(path) else [path]
    stats = [os.stat(file) for file in files if os.path.isfile(file)]
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


@lru_cache(maxsize=KEPT)
def _frozen_clip(name: str, file_state: Any, activation: str, precision: str, device: str) -> CLIP:
    """Load and freeze; `file_state` and `device` tell models apart that must not be the same object."""
    model = clip.load_clip_to_cpu(name, activation).float()
    freeze_image_tower(model.visual)
    if precision == "fp64":
        model.double()
    if precision in ("fp16", "bf16"):
        model.lower(torch.float16 if precision == "fp16" else torch.bfloat16)
    return model.requires_grad_(False).eval()


def effective_precision(precision: str, device: torch.device) -> str:
    """Replace a precision that the device cannot compute with, and say so in one line.

    Parameters
    ----------
    precision
        As asked for.
    device
        Only CUDA computes in fp16 and amp: a CPU is slow and inexact in half precision, and on mps the gradient scaler
        is younger than the oldest torch that this works with.
    """
    if device.type != "cuda" and precision in ("fp16", "amp"):
        print(f"PREC {precision} needs CUDA; computing in fp32 on {device.type}")
        return "fp32"
    return precision


def _check_input(settings: Any, model: CLIP, name: str) -> None:
    """Refuse images of the wrong size; warn of images that are prepared otherwise than in CLIP's training."""
    side = model.visual.input_resolution
    if tuple(settings.SIZE) != (side, side):
        shown = " x ".join(str(pixels) for pixels in settings.SIZE)
        raise ValueError(
            f"INPUT.SIZE is {shown} but backbone {name} reads {side} x {side} images; "
            f'set INPUT.SIZE to "({side}, {side})"'
        )
    trained_with = [*model.pixel_mean, *model.pixel_std]
    given_pixels = [*settings.PIXEL_MEAN, *settings.PIXEL_STD]
    if any(abs(a - b) > 1e-3 for a, b in zip(trained_with, given_pixels, strict=True)):
        print(
            f"Warning: {name} was trained on pixels with mean {list(model.pixel_mean)} and std "
            f"{list(model.pixel_std)}, but INPUT.PIXEL_MEAN is {list(settings.PIXEL_MEAN)} and INPUT.PIXEL_STD "
            f"{list(settings.PIXEL_STD)}"
        )
    for key, trained, what in (
        ("INTERPOLATION", model.interpolation, "images resized by"),
        ("RESIZE", model.resize_mode, "images whose sides were resized as"),
    ):
        if trained != settings.get(key, trained):
            print(
                f"Warning: {name} was trained on {what} {trained}, but INPUT.{key} is {settings[key]}; set it to "
                f"{trained}, or expect a lower accuracy"
            )
