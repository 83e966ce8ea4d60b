"""Top-k accuracy of a batch of logits."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["compute_accuracy"]


def compute_accuracy(
    output: Tensor | Sequence[Tensor], target: Tensor, topk: Sequence[int] = (1,)
) -> list[Tensor]:
    """Return the percentage of images whose true class is among the k highest logits, for each k.

    Parameters
    ----------
    output : Tensor or sequence of Tensor
        Logits (B, C), or a tuple or list that begins with them.
    target : Tensor
        True labels (B,).
    topk : sequence of int
        The k's.

    Returns
    -------
    list of Tensor
        One tensor (1,) for each k, from 0 to 100. Plugins do `compute_accuracy(...)[0].item()`.

    Raises
    ------
    ValueError
        When some k exceeds the number of classes C.
    """
    if isinstance(output, (tuple, list)):
        output = output[0]
    assert isinstance(output, Tensor)
    if max(topk) > output.size(1):
        raise ValueError(f"top-{max(topk)} accuracy needs at least as many classes, got {output.size(1)}")
    ranked = output.topk(max(topk), dim=1).indices  # (B, max k), best first
    hits = ranked == target.reshape(-1, 1)  # (B, max k); a row has at most one True
    return [hits[:, :k].sum(dtype=torch.float32).reshape(1) * (100.0 / target.numel()) for k in topk]
