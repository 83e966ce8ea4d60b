"""Which architecture, weights and preparation of images stand behind a name; nothing is loaded for it.

open_clip's architectures are JSON files (`embed_dim`, `vision_cfg`, `text_cfg` and flags).  A source is known by

    ARCH/tag             as in open_clip.list_pretrained()
    ARCH/FILE            weights of one's own, of an architecture that open_clip knows
    a folder             with open_clip_config.json and weights: the layout of open_clip's repositories on the hub
    hf://USER/REPO       such a repository
    a file               with open_clip_config.json, or a JSON file of its own name, beside it

and is handed on only where it departs from OpenAI's architecture, which clip/model.py computes itself.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..loading.files import weights_file
from ..loading.hub import HubError, fetch_optional, hub_name
from ..loading.open_clip_table import oddities, open_clip_configs, open_clip_name
from ..loading.published import fetch_hub_model, is_quick, locate_open_clip, published_open_clip

CONFIG = "open_clip_config.json"
PIXELS = ("mean", "std", "interpolation", "resize_mode")
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
    hub
        hf://USER/REPOSITORY of weights that are still to be fetched.
    """

    name: str
    config: dict[str, Any]
    file: Path | None = None
    published: tuple[str, str] | None = None
    pixels: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    hub: str = ""

    def locate(self, root: str | None = None) -> Path:
        """Find the weights' file, downloading it (to `root`, or open_clip's cache) where it is a published one."""
        if self.file is not None:
            return self.file
        if repository := hub_name(self.hub):
            return fetch_hub_model(repository)
        assert self.published is not None
        return locate_open_clip(*self.published, root)

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
        For a config that cannot be read, a text tower that cannot be used, or a tag that open_clip does not publish.
    """
    path = Path(name)
    if path.is_file() or path.is_dir():
        source = _beside(path)
    elif repository := hub_name(name):
        try:
            config_file = fetch_optional(repository.repository, CONFIG, repository.revision)
        except HubError:  # which will be said with a remedy when the weights are fetched
            return None
        source = None if config_file is None else _read(config_file, name, None, name)
    elif parts := open_clip_name(name):
        model, tag = parts
        config = open_clip_configs()[model]
        if not oddities(config):
            return None
        _refuse(config, name)
        if Path(tag).is_file():
            source = Source(name, config, Path(tag), pixels=_usual_pixels(model))
        else:
            source = Source(name, config, published=parts, pixels=published_open_clip(model, tag))
    else:
        return None
    if source is None or not oddities(source.config):
        return None
    _refuse(source.config, name)
    return source


def _usual_pixels(model: str) -> dict[str, Any]:
    """Look up how images are prepared for an architecture, where all weights that open_clip publishes of it agree."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    kept = [{key: published_open_clip(model, tag).get(key) for key in PIXELS} for tag in tags]
    return kept[0] if kept and all(pixels == kept[0] for pixels in kept) else {}


def _refuse(config: dict[str, Any], name: str) -> None:
    """Refuse a text tower of transformers, into which open_clip lets no token embeddings."""
    if tower := config["text_cfg"].get("hf_model_name"):
        raise ValueError(
            f"{name} reads texts with {tower}, a text tower of Hugging Face transformers: prompts are learned as token "
            "embeddings, and open_clip hands such a tower only ids; choose a model with a text transformer of "
            "open_clip's own, such as ViT-B-16-SigLIP2/webli for texts of many languages"
        )


def _beside(path: Path) -> Source | None:
    """Read the config that belongs to a file or folder; None where there is none.

    Raises
    ------
    ValueError
        For a config that cannot be read.
    FileNotFoundError
        For a folder with a config and no weights.
    """
    if path.is_dir():
        return _read(path / CONFIG, str(path), weights_file(path)) if (path / CONFIG).is_file() else None
    own = path.with_suffix(".json")
    return _read(own, str(path), path) or _read(path.parent / CONFIG, str(path), path)


def _read(file: Path, name: str, weights: Path | None, hub: str = "") -> Source | None:
    """Read a config; None where there is none, or a JSON file of another kind."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if file.name != CONFIG and "model_cfg" not in content:
            return None
        config = content["model_cfg"]
        if missing := NEEDED - set(config):
            raise KeyError(f"model_cfg lacks {', '.join(sorted(missing))}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no config of open_clip ({error}); mend it or move it away") from None
    pixels = content.get("preprocess_cfg") or {}
    return Source(name, config, weights, pixels=pixels, folder=None if hub else file.parent, hub=hub)
