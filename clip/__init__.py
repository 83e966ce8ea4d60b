"""CLIP under OpenAI's interface, frozen: everything here computes, nothing learns.

`clip.load` and `clip.tokenize` are the way in.

    clip               names and paths -> models; texts -> token ids
    model, vit         the two image encoders, the text encoder, and CLIP as a whole
    features           what the image encoder returns: one vector for the image, and one per place
    prompt_text        the fast path of the text encoder for prompts that share their beginning
    frozen, packed     frozen towers in the form that is cheapest to evaluate
    openclip           other architectures, through open_clip's modules
    loading            formats of weights, and the addresses that they come from
    sources            OpenAI's releases: the order of sources, and how a copy is checked
    feature_store      image features kept on disk
    weights_command, cache_command
                       `python -m clip weights`, `python -m clip cache`
    ranks              a step that several processes share
    tokens, simple_tokenizer
                       rows of token ids, byte-pair encoding

Importing this package imports no torch; the first use of one of its functions does.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dassl  # noqa: F401  (before torch: how its threads wait)

if TYPE_CHECKING:
    from .clip import available_models, load, load_clip_to_cpu, tokenize
    from .openclip import Source
    from .openclip.model import OpenClip

__all__ = ["available_models", "load", "load_clip_to_cpu", "tokenize"]


def __getattr__(name: str) -> Any:
    """Take a public function out of clip/clip.py when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # `from . import clip` would ask here for the name `clip`

    globals()[name] = function = getattr(import_module(".clip", __name__), name)
    return function


# --- the other architectures: clip/clip.py asks here, since no module imports what is built upon it -------


def open_clip_source(name: str) -> Source | None:
    """Find the model of another architecture than OpenAI's that a name stands for; see clip/openclip/sources.py."""
    from .openclip import find_source

    return find_source(name)


def open_clip_model(source: Source, activation: str = "auto", root: str | None = None) -> OpenClip:
    """Build it; see clip/openclip/building.py."""
    from .openclip import build

    return build(source, activation, root)

