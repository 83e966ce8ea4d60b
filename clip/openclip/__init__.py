"""CLIP models of other architectures than OpenAI's, through open_clip's own modules, behind our interface.

    sources    names, folders and files -> the architecture, the weights' file, and how images are prepared
    building   open_clip's modules with those weights
    model      the CLIP that trainers see: image tower, text tower, temperature, tokenizer
    images     pooled and dense features of every kind of image tower
    texts      the text towers that are not causal: prompts in full length
    tokens     the tokenizers that Hugging Face's transformers reads

docs/backbones.md says which models work, and with what.  open_clip is imported only when such a model is built.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from .sources import Source, find_source

if TYPE_CHECKING:
    from .model import OpenClip

__all__ = ["Source", "build", "find_source"]


def build(source: Source, activation: str = "auto", root: str | None = None) -> OpenClip:
    """Build the model of a source that `find_source` has found; see `building.build`."""
    from . import building

    return building.build(source, activation, root)
