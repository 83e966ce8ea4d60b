"""open_clip's table of architectures, read from its files without importing it, which takes seconds."""
from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .layout import HEAD_WIDTH, sizes_of

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = {".pt", ".bin", ".safetensors", ".pth"}  # ends of files; no tag of open_clip's has one
TEXT_SIZES = {"context_length", "width", "layers"}
VISION_SIZES = {"image_size", "layers", "width", "patch_size", "patch_dropout"}  # the last is for training


@cache
def open_clip_configs() -> dict[str, dict]:
    """Read open_clip's architectures by name from its files, without importing it; {} without open_clip."""
    package = importlib.util.find_spec("open_clip")
    configs = {}
    for folder in (package and package.submodule_search_locations) or ():
        for file in sorted(Path(folder, "model_configs").glob("*.json")):
            config = json.loads(file.read_text())
            if {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
                configs[file.stem] = config
    return configs


def open_clip_name(name: str) -> tuple[str, str] | None:
    """Split a name like "ViT-B-32/laion2b_s34b_b79k" into (architecture, tag); None for any other."""
    model, slash, tag = name.partition("/")
    return (model, tag) if slash and tag and model in open_clip_configs() else None


def path_in(name: str) -> str:
    """Return the path of weights that a name contains: of ARCHITECTURE/PATH the latter, of any other name itself."""
    parts = None if Path(name).exists() else open_clip_name(name)
    return parts[1] if parts and (Path(parts[1]).is_file() or Path(parts[1]).suffix in WEIGHTS) else name


def oddities(config: Mapping[str, Any]) -> list[str]:
    """List where an open_clip model config departs from OpenAI's architecture; nothing where it does not.

    Parameters
    ----------
    config
        As in open_clip's model_configs: `embed_dim`, `vision_cfg`, `text_cfg` and flags.

    Returns
    -------
    list of str
        Like "vision head_width=80".
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    usual = {"head_width": HEAD_WIDTH, "mlp_ratio": 4.0, "heads": text.get("width", 512) / HEAD_WIDTH,
             "vocab_size": 49408}
    departures = [f"{key}={value}" for key, value in config.items()
                  if key not in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu") and value]
    for side, part, sizes in (("vision", vision, VISION_SIZES), ("text", text, TEXT_SIZES)):
        departures += [f"{side} {key}={value}" for key, value in part.items()
                       if key not in sizes and value not in (usual.get(key), None, False)]
    return departures


def refuse_unlike_openai(config: Mapping[str, Any], source: str) -> None:
    """Refuse an architecture that `clip.model.CLIP` is not.

    Parameters
    ----------
    config
        open_clip's model config.
    source
        Where it is from, for the message.

    Raises
    ------
    ValueError
        Listing what differs.
    """
    if departures := oddities(config):
        raise ValueError("this architecture differs from OpenAI's CLIP and would be computed wrongly: "
                         f"{', '.join(departures)} (according to {source})")


def architectures_of(state_dict: Mapping[str, Tensor]) -> dict[str, dict]:
    """Return the configs by name of the architectures that have the sizes of a state dict in OpenAI's layout."""
    sizes = sizes_of(state_dict)
    return {name: config for name, config in open_clip_configs().items() if _sizes_match(sizes, config)}


def _sizes_match(sizes: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the sizes that were read off a state dict are those of an open_clip config."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    layers = sizes["vision_layers"]
    pairs = (
        (config.get("embed_dim"), sizes["embed_dim"]),
        (vision.get("width"), sizes["vision_width"]),
        (vision.get("layers"), layers if isinstance(layers, int) else list(layers)),
        (vision.get("patch_size"), sizes["vision_patch_size"]),
        (text.get("width"), sizes["transformer_width"]),
        (text.get("layers"), sizes["transformer_layers"]),
    )
    return all(theirs == ours for theirs, ours in pairs)


def constructor_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `clip.model.CLIP` for an architecture, as `sizes_of` reads them off its weights."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    layers = vision["layers"]
    return {
        "embed_dim": config["embed_dim"],
        "image_resolution": vision["image_size"],
        "vision_layers": layers if isinstance(layers, int) else tuple(layers),
        "vision_width": vision["width"],
        "vision_patch_size": vision.get("patch_size"),
        "context_length": text["context_length"],
        "vocab_size": text["vocab_size"],
        "transformer_width": text["width"],
        "transformer_heads": text["heads"],
        "transformer_layers": text["layers"],
    }
