"""A learned linear map of the features of places, which leaves them as they are at the start.

CLIP was never taught what its features of single places mean in the joint space; a map that starts as the identity can
turn them there [GalLoP, section 3.1].  In a ViT it stands before the projection into the joint space, in the width of
the tokens; elsewhere in the joint space itself.  Up to it everything is frozen, so what is kept of an image are the
places before it.

References
----------
M. Lafon, E. Ramzi, C. Rambour, N. Audebert, N. Thome, GalLoP: Learning Global and Local Prompts for Vision-Language
Models, ECCV 2024.
"""
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from clip.features import UNPROJECTED, at_least_float32


class LocalProjection(nn.Module):
    """y = W x over the last axis, W (E, E) the identity at the start; state dict entry `linear.weight`.

    Weight decay pulls W towards zero, not towards the identity; the published settings have it so.

    Parameters
    ----------
    width
        E, see `place_width`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.linear.weight)

    def forward(self, places: Tensor) -> Tensor:
        """Map places (B, M, E), of any precision, to float32 at least."""
        return self.linear(at_least_float32(places))


def place_width(tower: Any) -> int:
    """Width of a tower's places where the map stands: of a ViT's tokens, else of the joint space."""
    return getattr(tower, "place_width", tower.output_dim)


def unprojected(tower: Any, kind: str) -> str:
    """Name what is needed of an image whose places are still to be mapped, see `parts.model.encode_images`."""
    return UNPROJECTED + kind if hasattr(tower, "project") else kind


def mapped(local_projection: LocalProjection, tower: Any, places: Tensor) -> Tensor:
    """Map places (B, M, E) of kind `unprojected`, and bring them into the joint space (B, M, D)."""
    places = local_projection(places)
    return tower.project(places) if hasattr(tower, "project") else places
