"""OpenAI's layout of a CLIP state dict: what its names and shapes tell of the architecture.

The names are attribute paths of `clip.model.CLIP`, as `visual.conv1.weight`. All other layouts are read into this one.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command line that only looks at names needs no torch
    import torch
    from torch import Tensor

HEAD_WIDTH = 64  # every attention head of the released models is 64 wide
SIZE_KEYS = ("input_resolution", "context_length", "vocab_size")  # beside the weights in OpenAI's archives
ACTIVATIONS = ("quick_gelu", "gelu")  # that the MLPs may have been trained with; the entries do not tell


def sizes_of(state_dict: Mapping[str, Tensor]) -> dict:
    """Read the constructor arguments of the CLIP that a state dict belongs to off the shapes of its entries."""

    def shape(key: str) -> torch.Size:
        if key not in state_dict:
            raise KeyError(f"not the state dict of a CLIP model in OpenAI's layout: it has no {key!r}")
        return state_dict[key].shape

    def indices(prefix: str) -> int:
        return len({key.split(".")[prefix.count(".")] for key in state_dict if key.startswith(prefix)})

    first = shape("visual.conv1.weight")
    layers: int | tuple[int, ...]
    if "visual.proj" in state_dict:
        places = shape("visual.positional_embedding")[0] - 1
        width, patch, layers = first[0], first[-1], indices("visual.transformer.resblocks.")
        grid, pixels = round(places**0.5), patch
    else:
        places = shape("visual.attnpool.positional_embedding")[0] - 1
        width, patch = shape("visual.layer1.0.conv1.weight")[0], None
        layers = tuple(indices(f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        grid, pixels = round(places**0.5), 32
    if grid**2 != places:
        raise ValueError(f"the image encoder has positions for {places} places, which is no square grid")
    text_width = shape("ln_final.weight")[0]
    return {
        "embed_dim": shape("text_projection")[1],
        "image_resolution": pixels * grid,
        "vision_layers": layers,
        "vision_width": width,
        "vision_patch_size": patch,
        "context_length": shape("positional_embedding")[0],
        "vocab_size": shape("token_embedding.weight")[0],
        "transformer_width": text_width,
        "transformer_heads": text_width // HEAD_WIDTH,
        "transformer_layers": indices("transformer.resblocks."),
    }


def describe(sizes: Mapping) -> str:
    """Say in one phrase, for people, what architecture has these sizes."""
    layers, width = sizes["vision_layers"], sizes["vision_width"]
    vision = (f"ViT of {layers} layers, width {width}, patch {sizes['vision_patch_size']}"
              if isinstance(layers, int) else f"ResNet {layers}, width {width}")
    return (f"{vision}, {sizes['image_resolution']} pixels, text of {sizes['transformer_layers']} layers, "
            f"width {sizes['transformer_width']}, embedding {sizes['embed_dim']}")
