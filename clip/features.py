"""What the image encoder says about an image: one vector for the whole, and one per place.

CLIP computes features of every image region on its way to the pooled one and then drops them. PLOT (Chen et
al. 2023, section 3.2) matches them with its prompts, so both are returned here, raw: nothing is normalised.

Axis letters: B images, M places (row by row, M = h * w), D feature width.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = {
    "tokens": "what the encoder gives at every place",
    "value": "the value path of its last attention, in which a place sees itself only",
    "content": "the same without the positions that a ResNet's pool adds; on a ViT, as value",
    "vv": "a ViT's second stream, which sums over all blocks attention among the values; on a ResNet, as content",
    "vv_plain": "vv without the ordinary attention of the first block, which its authors' program adds",
}
UNPROJECTED = "unprojected "  # before a kind: a ViT's places in the width of its tokens, before the projection


class ImageFeatures(NamedTuple):
    """Pooled and local features of a batch, in the same space and not normalised.

    Attributes
    ----------
    pooled
        (B, D), what `encode_image` returns.
    local
        (B, M, D), one feature per place, top-left first; M is 0 where only the pooled ones were asked for.  (B, M, E)
        where they were asked for before the projection into the joint space.
    """

    pooled: Tensor
    local: Tensor

    @classmethod
    def without_places(cls, pooled: Tensor) -> ImageFeatures:
        """Wrap pooled features (B, D) alone."""
        return cls(pooled, pooled.new_empty(len(pooled), 0, pooled.shape[-1]))

    def normalized(self) -> ImageFeatures:
        """Scale each feature to unit length over D."""
        return ImageFeatures(F.normalize(self.pooled, dim=-1), F.normalize(self.local, dim=-1))

    def contiguous(self) -> ImageFeatures:
        """Copy the values to memory of their own: the layout that they also have when read from a file."""
        return ImageFeatures(self.pooled.contiguous(), self.local.contiguous())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageFeatures:
        """Move both tensors to a device."""
        return ImageFeatures(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


def at_least_float32(x: Tensor) -> Tensor:
    """Bring half precision to float32, and leave float64 as it is (PREC fp64)."""
    return x if x.dtype == torch.float64 else x.float()


def check_kind(kind: str) -> str:
    """Return `kind` itself; raise a ValueError that lists the known ones for any other."""
    if kind not in KINDS:
        known = "; ".join(f"{name}: {meaning}" for name, meaning in KINDS.items())
        raise ValueError(f"no dense feature kind {kind!r}; choose one of {', '.join(KINDS)} ({known})")
    return kind
