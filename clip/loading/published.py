"""Weights that open_clip publishes, and models of the Hugging Face hub."""
from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import INDEX, OPEN_CLIP, TRANSFORMERS
from .hub import HubError, HubName, NotInRepository, endpoint, fetch_file, fetch_optional
from .open_clip_table import open_clip_configs, refuse_unlike_openai
from .transformers_layout import check_config
from .weights import Weights, read_weights


def fetch_open_clip(model: str, tag: str, activation: str = "auto", root: str | None = None) -> Weights:
    """Get weights that open_clip publishes, of an architecture like OpenAI's.

    Parameters
    ----------
    model, tag, root
        As of `locate_open_clip`, which also says what is raised.
    activation
        "auto" takes what open_clip's tables say.

    Raises
    ------
    ValueError
        For an architecture that is not OpenAI's.
    """
    published = published_open_clip(model, tag)
    refuse_unlike_openai(open_clip_configs()[model], f"open_clip's {model}")
    if activation == "auto":
        activation = "quick_gelu" if is_quick(model, tag, published) else "gelu"
    weights = read_weights(locate_open_clip(model, tag, root), activation)
    return weights._replace(pixel_mean=published.get("mean"), pixel_std=published.get("std"))


def locate_open_clip(model: str, tag: str, root: str | None = None) -> Path:
    """Download weights that open_clip publishes, through its own table, unless they are in its cache.

    Parameters
    ----------
    model, tag
        As in `open_clip.list_pretrained()`.
    root
        Folder for the download; None for open_clip's own.

    Raises
    ------
    ValueError
        For an unknown tag.
    RuntimeError
        If the download fails; says how to do without.
    """
    import open_clip

    published = published_open_clip(model, tag)
    try:
        return Path(open_clip.pretrained.download_pretrained(published, cache_dir=root))
    except Exception as error:  # every kind that urllib and the hub's client raise
        source = published.get("hf_hub") or published.get("url")
        activation = "quick_gelu" if is_quick(model, tag, published) else "gelu"
        raise RuntimeError(f"cannot download {model}/{tag} ({source}): {error}. On a machine without "
                           "network, get the file elsewhere and give its path as the name, with the "
                           f"activation {activation!r} (or, of an architecture unlike OpenAI's, {model}/PATH); "
                           "the hub's mirror and cache are HF_ENDPOINT and HF_HOME") from error


def published_open_clip(model: str, tag: str) -> dict[str, Any]:
    """Look up what open_clip says of weights that it publishes: `mean`, `std`, `interpolation`, `quick_gelu`, ...

    Raises
    ------
    ValueError
        For an unknown tag.
    """
    import open_clip  # takes seconds, and only these names need it

    published = open_clip.pretrained.get_pretrained_cfg(model, tag)
    if not published:
        tags = open_clip.list_pretrained_tags_by_model(model)
        near = difflib.get_close_matches(tag, tags, 1)
        raise ValueError(f"open_clip publishes no weights {tag!r} for {model}; "
                         + (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(tags) or 'none'}")
    return published


def is_quick(model: str, tag: str, published: Mapping[str, Any]) -> bool:
    """Whether published weights were trained with the quick GELU, by all that open_clip says of them."""
    quick = tag == "openai" or "quickgelu" in published.get("url", "") or published.get("quick_gelu")
    return bool(quick or open_clip_configs()[model].get("quick_gelu"))


def fetch_hub_model(name: HubName) -> Path:
    """Get what a repository says of a model, and its weights: open_clip's where it has them, else transformers'.

    The config comes first, so that a model of another kind is refused before the long download.

    Returns
    -------
    Path
        The file of the weights, beside its configs.

    Raises
    ------
    ValueError
        For a model that is none of CLIP's.
    RuntimeError
        If the download fails; says how to do without.
    """
    repository, revision = name
    try:
        config = fetch_optional(repository, "open_clip_config.json", revision)
        if config is not None:
            files: tuple[str, ...] = OPEN_CLIP  # `read_weights` or clip/openclip say whether they can be used
        else:
            files, config = TRANSFORMERS, fetch_file(repository, "config.json", revision)
            check_config(json.loads(config.read_text(encoding="utf-8")))
        commit = config.parent.name  # all else from the same one
        if files is TRANSFORMERS:
            fetch_optional(repository, "preprocessor_config.json", commit)
        return _fetch_first(repository, files, commit)
    except HubError as error:
        raise RuntimeError(f"cannot get {repository} from {endpoint()}: {error}. Without network, get its files "
                           "elsewhere (config.json, preprocessor_config.json and the weights) and give their folder "
                           "as the name; the hub's mirror is HF_ENDPOINT, its cache HF_HOME, and HF_HUB_OFFLINE=1 "
                           "uses the cache alone") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"hf://{repository}: {error.args[0] if error.args else error}") from error


def _fetch_first(repository: str, names: tuple[str, ...], commit: str) -> Path:
    """Get the first of several files that the repository has, and the files that it names if it is an index."""
    for name in names:
        try:
            path = fetch_file(repository, name, commit)
        except NotInRepository:
            continue
        if name.endswith(INDEX):
            for part in sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())):
                fetch_file(repository, part, commit)
        return path
    raise NotInRepository(f"it has none of {', '.join(names)}")
