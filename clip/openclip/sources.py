"""Which architecture, weights and preparation of images stand behind a name; nothing is loaded for it.

open_clip's architectures are JSON files (`embed_dim`, `vision_cfg`, `text_cfg` and flags).  A source is known by

    ARCH/tag             as in open_clip.list_pretrained()
    ARCH/FILE            weights of one's own, of an architecture that open_clip knows
    a folder             with open_clip_config.json and a weights file: the layout of open_clip's repositories on the hub
    a file               with open_clip_config.json, or a JSON file of its own name, beside it

and is handed on only where it departs from OpenAI's architecture, which clip/model.py computes itself.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..loading.weights import is_quick, locate_open_clip, oddities, open_clip_configs, open_clip_name, published_open_clip

CONFIG = "open_clip_config.json"
WEIGHTS = (  # names of weights in such a folder, the first that is there
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
NEEDED = {"embed_dim", "vision_cfg", "text_cfg"}


@dataclass(frozen=True)
class Source:
    """A model to be built.

    Attributes
    ----------
    name
        For messages.
    config
        open_clip's model config.
    file
        Of the weights; None for those that open_clip publishes under `published`.
    published
        (architecture, tag).
    pixels
        How images are prepared: `mean`, `std`, `interpolation`, `resize_mode`, as far as it is known.
    folder
        Where the files of the tokenizer may lie, besides the hub's cache.
    """

    name: str
    config: dict[str, Any]
    file: Path | None = None
    published: tuple[str, str] | None = None
    pixels: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def locate(self, root: str | None = None) -> Path:
        """Find the weights' file, downloading it (to `root`, or open_clip's cache) where it is a published one."""
        if self.file is not None:
            return self.file
        assert self.published is not None
        return Path(locate_open_clip(*self.published, root)[0])

    @property
    def quick(self) -> bool:
        """Whether the MLPs were trained with the quick GELU."""
        if self.published is not None:
            return is_quick(*self.published, self.pixels)
        return bool(self.config.get("quick_gelu"))


def find_source(name: str) -> Source | None:
    """Find what a name stands for; None for what has OpenAI's architecture, and for what is no such name.

    Raises
    ------
    ValueError
        For a config that cannot be read, a folder without weights, or a tag that open_clip does not publish.
    """
    path = Path(name)
    if path.is_file() or path.is_dir():
        source = _beside(path)
    elif parts := open_clip_name(name):
        model, tag = parts
        config = open_clip_configs()[model]
        if not oddities(config):
            return None
        if Path(tag).is_file():
            source = Source(name, config, Path(tag))
        else:
            source = Source(name, config, published=parts, pixels=published_open_clip(model, tag))
    else:
        return None
    return source if source is not None and oddities(source.config) else None


def weights_in(folder: Path) -> Path | None:
    """Find the weights in a folder of the hub's layout; None for any other folder.

    Raises
    ------
    ValueError
        For a folder with open_clip's config and no weights.
    """
    if not (folder / CONFIG).is_file():
        return None
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    others = sorted(folder.glob("*.safetensors"))
    if file is None and len(others) != 1:
        raise ValueError(f"{folder} holds {CONFIG} but not the weights; put open_clip_model.safetensors beside it")
    return file or others[0]


def _beside(path: Path) -> Source | None:
    """Read the config that belongs to a file or folder; None where there is none."""
    folder = path if path.is_dir() else path.parent
    file = weights_in(path) if path.is_dir() else path
    if file is None:
        return None
    for config_file in (file.with_suffix(".json"), folder / CONFIG):
        if config_file.is_file():
            try:
                content = json.loads(config_file.read_text(encoding="utf-8"))
                if config_file.name != CONFIG and "model_cfg" not in content:
                    continue  # whatever else has this name
                config = content["model_cfg"]
                if missing := NEEDED - set(config):
                    raise KeyError(f"model_cfg lacks {', '.join(sorted(missing))}")
                return Source(str(path), config, file, pixels=content.get("preprocess_cfg") or {}, folder=folder)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{config_file} is no config of open_clip ({error}); mend it or move it away") from None
    return None
