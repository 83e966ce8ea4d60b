"""open_clip's modules with the weights of a source.

Image and text tower are built by the functions that open_clip's own model classes share, so that CLIP, CustomTextCLIP
and CoCa become one shape: `visual`, `text` and a temperature.  CoCa's decoder, which writes captions, is left out.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..loading.files import read_file
from ..model import check_keys
from ..vit import ACTIVATIONS
from .model import OpenClip
from .sources import Source
from .tokens import load_tokens

DECODER = "text_decoder."
MASKS = ("attn_mask", "text.attn_mask")  # constants that some files hold
EMBEDDING = "text.token_embedding."
TIMM_OPTIONS = "timm_model_kwargs"  # of vision_cfg; ours, open_clip has no such key
FETCHING = ("pretrained", "checkpoint", "cache_dir")  # beginnings of timm's arguments that read further files


def build(source: Source, activation: str = "auto", root: str | None = None) -> OpenClip:
    """Build the model of a source on the CPU, float32, in eval mode.

    The tokenizer comes first: where it is missing, no weights are downloaded in vain.

    Parameters
    ----------
    source
        What `find_source` has found.
    activation
        "auto" takes what config and tag say; "quick_gelu" or "gelu" overrule them.
    root
        Folder for downloads; None for open_clip's own.

    Raises
    ------
    ValueError
        For an architecture that our interface does not cover; says why.
    RuntimeError
        Where tokenizer or weights cannot be had, or the weights do not fit the config.
    """
    if activation not in ("auto", *ACTIVATIONS):
        raise ValueError(f"no activation {activation!r}; choose one of auto, {', '.join(ACTIVATIONS)}")
    tokens = load_tokens(source)
    quick = source.quick if activation == "auto" else activation == "quick_gelu"
    try:
        parts = build_parts(source.config, quick)
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from error
    except (TypeError, RuntimeError, AssertionError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{source.name}: open_clip cannot build this architecture ({type(error).__name__}: {error}); it may need a "
            "newer open_clip_torch or timm"
        ) from error
    entries = fitted(read_file(source.locate(root))[0], parts)
    check_keys(entries, parts, f"architecture of {source.name}")
    parts.load_state_dict(entries)
    model: Any = parts
    described = {"vision_cfg": source.config["vision_cfg"], "quick_gelu": quick}
    try:
        built = OpenClip(model.visual, model.text, model.logit_scale, model.logit_bias, tokens, source, described)
        built.eval().visual.try_out()
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from None
    return built


def build_parts(config: Mapping[str, Any], quick: bool) -> nn.Module:
    """Build a module with the children `visual` and `text` and the temperature, randomly initialised.

    The generator of random numbers is left as it was: weights replace all that is drawn.

    Raises
    ------
    ValueError
        For a config that would make timm read further files, or ask the hub.
    """
    from open_clip import model as open_clip_model

    vision, width = deepcopy(dict(config["vision_cfg"])), config["embed_dim"]
    options = vision.pop(TIMM_OPTIONS, {})
    asking = [key for key in options if key.startswith(FETCHING)]
    if asking or ":" in (vision.get("timm_model_name") or ""):
        what = f"{TIMM_OPTIONS} {', '.join(asking)}" if asking else f"timm_model_name {vision['timm_model_name']}"
        raise ValueError(f"vision_cfg: {what} would fetch or read other files; a config may name an architecture only")
    vision |= {"timm_model_pretrained": False} if "timm_model_name" in vision else {}
    settings = {"quick_gelu": quick, "cast_dtype": torch.float16}  # normalise in float32, whatever the weights are
    parts = nn.Module()
    with timm_options(options), torch.random.fork_rng(devices=[]):
        parts.visual = open_clip_model._build_vision_tower(width, vision, **settings)
        parts.text = open_clip_model._build_text_tower(width, deepcopy(dict(config["text_cfg"])), **settings)
    parts.logit_scale = nn.Parameter(torch.zeros([]))
    no_bias = config.get("init_logit_bias") is None
    parts.register_parameter("logit_bias", None if no_bias else nn.Parameter(torch.zeros([])))
    return parts


@contextmanager
def timm_options(options: Mapping[str, Any]) -> Iterator[None]:
    """Within it, open_clip hands `options` on to timm's create_model, to which it passes hardly any itself."""
    from open_clip import timm_model

    timm = timm_model.timm
    if options:
        timm_model.timm = SimpleNamespace(create_model=partial(timm.create_model, **options))
    try:
        yield
    finally:
        timm_model.timm = timm


def fitted(tensors: Mapping[str, Tensor], parts: Any) -> dict[str, Tensor]:
    """Bring the entries of a file into the shape of `build_parts`, as open_clip does when it loads one.

    Parameters
    ----------
    tensors
        In one of the layouts of open_clip, or as Apple published MobileCLIP.  A table of token embeddings may be
        compact: `text.token_embedding.ids` (K,) names the tokens of the first K rows, and the last row is for all
        others; rows narrower than the tower are 0 in the dimensions that they lack.
    parts
        What they are for.
    """
    from open_clip.model import convert_to_custom_text_state_dict

    entries = {key: value for key, value in tensors.items() if not key.startswith(DECODER) and key not in MASKS}
    with suppress(ImportError):  # open_clip 2.24 knows no other layouts yet
        from open_clip.convert import convert_state_dict

        entries = convert_state_dict(parts, entries)
    entries = convert_to_custom_text_state_dict(entries)
    if (ids := entries.pop(f"{EMBEDDING}ids", None)) is not None:
        rows = entries[f"{EMBEDDING}weight"]
        rows = F.pad(rows, (0, parts.text.token_embedding.weight.shape[1] - rows.shape[1]))
        table = rows[-1].expand(parts.text.vocab_size, -1).clone()
        table[ids.long()] = rows[:-1]
        entries[f"{EMBEDDING}weight"] = table
    if parts.logit_bias is not None:
        entries.setdefault("logit_bias", torch.zeros([]))
    else:
        entries.pop("logit_bias", None)
    return {key: value.reshape([]) if key in ("logit_scale", "logit_bias") else value for key, value in entries.items()}
