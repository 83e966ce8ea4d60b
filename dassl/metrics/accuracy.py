"""Top-k accuracy of a batch of logits."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["compute_accuracy"]


def compute_accuracy(
    output: Tensor | Sequence[Tensor], target: Tensor, topk: Sequence[int] = (1,)
) -> list[Tensor]:
    """Percentage of rows whose true class is among the k highest logits, for each k.

    output (B, C), or a sequence that begins with it; target (B,) -> one tensor of shape (1,) for each k.
    Raises ValueError when some k exceeds C.
    """
    if isinstance(output, (tuple, list)):
        output = output[0]
    assert isinstance(output, Tensor)
    if max(topk) > output.size(1):
        raise ValueError(f"top-{max(topk)} accuracy needs at least as many classes, got {output.size(1)}")
    ranked = output.topk(max(topk), dim=1).indices  # (B, max k), best first
    hits = ranked == target.reshape(-1, 1)
    return [hits[:, :k].sum(dtype=torch.float32).reshape(1) * (100.0 / target.numel()) for k in topk]
