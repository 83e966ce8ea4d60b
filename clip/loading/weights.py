"""From a name or a file to a state dict in OpenAI's layout, whatever it is wrapped in. No file's code is run.

Read: TorchScript archives (OpenAI's releases), torch.save'd dicts, also wrapped as {"state_dict": ...} or
{"model": ...} and with "module." before the names, safetensors, and open_clip's checkpoints by path or by
name.

A state dict does not say which activation its MLPs were trained with, nor the width of an attention head, so
what is known about a file from elsewhere is asked: its metadata, the config beside it, its published name,
and open_clip's table of architectures. What would load and compute something else is refused.
"""
from __future__ import annotations

import difflib
import importlib.util
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .layout import ACTIVATIONS, HEAD_WIDTH, SIZE_KEYS, sizes_of

WRAPPERS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")

FOREIGN = {  # beginnings of keys that no CLIP in OpenAI's layout has, and what has them
    "visual.trunk.": "an image tower of timm",
    "text_decoder.": "a captioning model (CoCa)",
    "logit_bias": "a SigLIP model",
    "text.": "a text tower of another layout (open_clip's CustomTextCLIP, SigLIP)",
    "vision_model.": "the layout of Hugging Face transformers",
    "prompt_learner.": "a prompt learner, not a CLIP model",
    "ctx": "a prompt learner's checkpoint, not a CLIP model",
    "token_prefix": "a prompt learner's checkpoint, not a CLIP model",
}
TEXT_SIZES = {"context_length", "width", "layers"}
VISION_SIZES = {"image_size", "layers", "width", "patch_size", "patch_dropout"}  # the last is for training


class Weights(NamedTuple):
    """A state dict in OpenAI's layout and what it does not say itself.

    Attributes
    ----------
    state_dict
        Tensors by name.
    activation
        Of the MLPs: a key of `clip.vit.ACTIVATIONS`.
    pixel_mean, pixel_std
        What images must be normalised with, red green blue in [0, 1]; None for OpenAI's.
    """

    state_dict: dict[str, Tensor]
    activation: str  # of the MLPs: a key of clip.model.ACTIVATIONS
    pixel_mean: tuple[float, ...] | None = None  # None: OpenAI's
    pixel_std: tuple[float, ...] | None = None


# --- files ----------------------------------------------------------------------------------------------

def read_weights(path: str | Path, activation: str = "auto") -> Weights:
    """Read the weights of a file.

    Parameters
    ----------
    path
        In any of the formats that the module's head names.
    activation
        "auto" finds it out; else it is taken as given.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For a kind of model that CLIP's classes would compute wrongly, or an activation that cannot be told.
    RuntimeError
        For a file that cannot be read.  All three name the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}" + (" (it is a folder)" if path.is_dir() else ""))
    entries, facts = _read(path)
    state_dict = _unwrapped(entries, facts, path)
    config, pixels = _config_beside(path)
    try:
        refuse_foreign(state_dict)
        if config:
            refuse_unlike_openai(config, "the open_clip_config.json beside it")
        _refuse_by_table(state_dict)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error.args[0]}") from None
    if activation == "auto":
        activation = _activation(path, state_dict, facts, config)
    elif activation not in ACTIVATIONS:
        raise ValueError(f"no activation {activation!r}; choose one of auto, {', '.join(ACTIVATIONS)}")
    return Weights(state_dict, activation, pixels.get("mean"), pixels.get("std"))


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Content of a file and the facts that it states beside the tensors."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                return {key: file.get_tensor(key) for key in names}, dict(file.metadata() or {})
        except Exception as error:  # safetensors raises many kinds for a damaged file
            raise RuntimeError(f"{path} cannot be read as weights: {error}. Is it complete?") from error
    content = _unpickled(path)
    if not isinstance(content, Mapping):
        raise RuntimeError(f"{path} holds a {type(content).__name__}, not a state dict")
    return content, {key: value for key, value in content.items() if isinstance(value, str | int | float)}


def _unpickled(path: Path) -> Any:
    """Read what torch.save wrote, or the state dict of a TorchScript archive; neither is executed."""
    try:
        from dassl.utils.safe_load import load_file

        from .torchscript import read_torchscript
    except ImportError:  # the original Dassl, on which this folder runs as well
        return _unpickled_by_torch(path)
    return read_torchscript(path) if _is_torchscript(path) else load_file(path)


def _unpickled_by_torch(path: Path) -> Any:
    """Read the same by torch's own means: of TorchScript archives, whose code it would run, only OpenAI's releases."""
    from .download import digest_of
    from .releases import RELEASES

    if _is_torchscript(path):
        if digest_of(path) not in {release.sha256 for release in RELEASES.values()}:
            raise RuntimeError(f"{path} is a TorchScript archive and none of OpenAI's releases. To read it would run "
                               "its code; where you trust it, save torch.jit.load(...).state_dict() with torch.save")
        with warnings.catch_warnings():  # of torch.jit, which is out of fashion
            warnings.simplefilter("ignore")
            return torch.jit.load(str(path), map_location="cpu").state_dict()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RuntimeError(f"{path} cannot be read as weights: {error}. Is it complete?") from error


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a zip archive that holds a scripted module; torch.save's archives hold no constants.pkl."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _unwrapped(content: Mapping[str, Any], facts: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Take the tensors out of their wrapper, and a prefix that they all share off their names."""
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            facts["wrapped"] = True
            content = content[key]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise RuntimeError(f"{path} holds no tensors; its entries are "
                           f"{', '.join(map(str, list(content)[:5]))}")
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in tensors)), ""):
        tensors = {key[len(prefix):]: value for key, value in tensors.items()}
    return tensors


# --- what must not be loaded ----------------------------------------------------------------------------

def refuse_foreign(state_dict: Mapping[str, Tensor]) -> None:
    """Raise a ValueError if the names of the entries are those of another kind of model."""
    for start, what in FOREIGN.items():
        for key in state_dict:
            if key.startswith(start):
                raise ValueError(f"these are the weights of {what} (entry {key!r}); only CLIP models with "
                                 "OpenAI's ResNet or ViT and text transformer can be loaded")


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


def _refuse_by_table(state_dict: Mapping[str, Tensor]) -> None:
    """Refuse sizes that only architectures unlike OpenAI's have, such as ViT-H/14 with heads of width 80."""
    sizes = sizes_of(state_dict)
    same = {name: config for name, config in open_clip_configs().items() if _sizes_match(sizes, config)}
    if same and all(oddities(config) for config in same.values()):
        name, config = next(iter(same.items()))
        refuse_unlike_openai(config, f"open_clip's {name}, which has these sizes")


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


# --- the activation -------------------------------------------------------------------------------------

def _config_beside(path: Path) -> tuple[dict | None, dict]:
    """Read what open_clip's repositories on the Hugging Face hub say of model and pixels, from the file's folder."""
    file = path.parent / "open_clip_config.json"
    if not file.is_file():
        return None, {}
    try:
        content = json.loads(file.read_text())
        return content["model_cfg"], content.get("preprocess_cfg") or {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no config of open_clip ({error}); mend it or move it away") from error


def _activation(path: Path, state_dict: Mapping[str, Tensor], facts: Mapping[str, Any],
                config: dict | None) -> str:
    """Tell quick_gelu or gelu from the first source that knows: file, config beside it, name of the file."""
    if facts.get("activation") in ACTIVATIONS:  # our own safetensors
        return facts["activation"]
    if any(key in state_dict for key in SIZE_KEYS):  # OpenAI's archives
        return "quick_gelu"
    if config is not None:
        return "quick_gelu" if config.get("quick_gelu") else "gelu"
    if "quickgelu" in path.name:
        return "quick_gelu"
    if re.search(r"-[0-9a-f]{8}\.pt$", path.name):  # the other ones of open_clip's releases
        return "gelu"
    if path.name.startswith("open_clip_") or {"name", "epoch"} <= set(facts):  # as its training does
        raise ValueError(f"{path} was written by open_clip, and nothing tells which activation it was "
                         "trained with; say activation='gelu' (open_clip's default) or 'quick_gelu' (models "
                         "named -quickgelu), in a run with the key MODEL.BACKBONE.ACTIVATION")
    return "quick_gelu"


# --- open_clip's names ----------------------------------------------------------------------------------

def open_clip_name(name: str) -> tuple[str, str] | None:
    """Split a name like "ViT-B-32/laion2b_s34b_b79k" into (architecture, tag); None for any other."""
    model, slash, tag = name.partition("/")
    return (model, tag) if slash and tag and model in open_clip_configs() else None


def fetch_open_clip(model: str, tag: str, activation: str = "auto", root: str | None = None) -> Weights:
    """Get weights that open_clip publishes, through its own table and download.

    Parameters
    ----------
    model, tag
        As in `open_clip.list_pretrained()`.
    activation
        "auto" takes what open_clip's tables say.
    root
        Folder for the download; None for open_clip's own.

    Raises
    ------
    ValueError
        For an unknown tag, or an architecture that is not OpenAI's.
    RuntimeError
        If the download fails; says how to do without.
    """
    import open_clip  # takes seconds, and only these names need it

    tags = open_clip.list_pretrained_tags_by_model(model)
    published = open_clip.pretrained.get_pretrained_cfg(model, tag)
    if not published:
        near = difflib.get_close_matches(tag, tags, 1)
        raise ValueError(f"open_clip publishes no weights {tag!r} for {model}; "
                         + (f"did you mean {near[0]!r}? " if near else "") + f"known: "
                                                                             f"{', '.join(tags) or 'none'}")
    config = open_clip_configs()[model]
    refuse_unlike_openai(config, f"open_clip's {model}")
    if activation == "auto":
        quick = tag == "openai" or "quickgelu" in published.get("url", "") or published.get("quick_gelu")
        activation = "quick_gelu" if quick or config.get("quick_gelu") else "gelu"
    try:
        path = open_clip.pretrained.download_pretrained(published, cache_dir=root)
    except Exception as error:  # every kind that urllib and the hub's client raise
        source = published.get("hf_hub") or published.get("url")
        raise RuntimeError(f"cannot download {model}/{tag} ({source}): {error}. On a machine without "
                           "network, get the file elsewhere and give its path as the name, with the "
                           f"activation {activation!r}; the hub's mirror and cache are HF_ENDPOINT and "
                           "HF_HOME") from error
    weights = read_weights(path, activation)
    return weights._replace(pixel_mean=published.get("mean"), pixel_std=published.get("std"))
