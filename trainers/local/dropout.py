"""Prompt dropout: in training every image sees a few of the global prompts only [GalLoP, section 3.2].

All prompts start equal, and would stay so with equal gradients; the draws are what parts them.
"""
from __future__ import annotations

import torch
from torch import Tensor


def kept_prompts(prompts: int, probability: float) -> int:
    """Count the prompts that an image sees: N - floor(p N), at least 1."""
    return max(prompts - int(probability * prompts), 1)


def draw_prompts(images: int, prompts: int, probability: float, replace: bool = True) -> Tensor:
    """Draw which prompts each image sees, from the global generator of the CPU.

    Parameters
    ----------
    images, prompts
        B and N.
    probability
        Of a prompt to be left out, as a share of all N.
    replace
        Whether an image may draw one prompt twice, and then averages it twice; so does GalLoP's program.

    Returns
    -------
    Tensor
        (B, keep) int64, see `kept_prompts`.  The same for all classes.
    """
    keep = kept_prompts(prompts, probability)
    if replace:
        return torch.randint(prompts, (images, 1, keep))[:, 0]
    return torch.rand(images, prompts).argsort(dim=-1)[:, :keep]


def mean_of_drawn(cosines: Tensor, drawn: Tensor) -> Tensor:
    """Average cosines (B, C, N) over the prompts that each image drew (B, keep): (B, C)."""
    drawn = drawn.to(cosines.device, non_blocking=True)
    return cosines.gather(2, drawn[:, None].expand(-1, cosines.shape[1], -1)).mean(dim=2)
