"""From a file to a state dict in OpenAI's layout, and what the tensors do not say themselves.

A state dict does not say which activation its MLPs were trained with, nor the width of an attention head, so what is
known about a file from elsewhere is asked: its metadata, the config beside it, its published name, open_clip's table of
architectures. What would load and compute something else is refused.
"""
from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from .files import read_file, weights_file
from .layout import ACTIVATIONS, SIZE_KEYS, sizes_of
from .open_clip_table import architectures_of, oddities, refuse_unlike_openai
from .transformers_layout import check_config, is_transformers, pixels_of, to_openai

FOREIGN = {  # beginnings of keys that no CLIP in OpenAI's layout has, and what has them
    "visual.trunk.": "an image tower of timm",
    "text_decoder.": "a captioning model (CoCa)",
    "logit_bias": "a SigLIP model",
    "text.": "a text tower of another layout (open_clip's CustomTextCLIP, SigLIP)",
    "prompt_learner.": "a prompt learner, not a CLIP model",
    "ctx": "a prompt learner's checkpoint, not a CLIP model",
    "token_prefix": "a prompt learner's checkpoint, not a CLIP model",
}
ASK = ("say activation='quick_gelu' (OpenAI's models, and open_clip's named -quickgelu) or 'gelu' (nearly all others, "
       "as LAION's), in a run with the key MODEL.BACKBONE.ACTIVATION")


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


def read_weights(path: str | Path, activation: str = "auto") -> Weights:
    """Read the weights of a file.

    Parameters
    ----------
    path
        A file in any of the formats that `clip.loading.files` names, in the layout of OpenAI or transformers; or a
        folder that holds one under its usual name.
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
    if activation not in ("auto", *ACTIVATIONS):
        raise ValueError(f"no activation {activation!r}; choose one of auto, {', '.join(ACTIVATIONS)}")
    path = weights_file(Path(path))
    state_dict, facts = read_file(path)
    try:
        if is_transformers(state_dict):
            weights = _from_transformers(path, state_dict, activation)
        else:
            weights = _from_openai(path, state_dict, facts, activation)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error.args[0]}") from None
    return weights


def _from_openai(path: Path, state_dict: dict[str, Tensor], facts: Mapping[str, Any], activation: str) -> Weights:
    """Check a state dict that is in OpenAI's layout, with what open_clip's config beside it says."""
    refuse_foreign(state_dict)
    beside = _beside(path, "open_clip_config.json")
    config, pixels = None, dict[str, Any]()
    if beside is not None:
        if not isinstance(beside.get("model_cfg"), Mapping):
            raise ValueError("the open_clip_config.json beside it is no config of open_clip (no model_cfg); mend it or "
                             "move it away")
        config, pixels = beside["model_cfg"], beside.get("preprocess_cfg") or {}
        refuse_unlike_openai(config, "the open_clip_config.json beside it")
    architectures = _known_architectures(state_dict)
    if activation == "auto":
        activation = _activation(path, state_dict, facts, config, architectures)
    return Weights(state_dict, activation, pixels.get("mean"), pixels.get("std"))


def _from_transformers(path: Path, state_dict: dict[str, Tensor], activation: str) -> Weights:
    """Rewrite a state dict of transformers, with what its config.json and preprocessor_config.json say."""
    config = _beside(path, "config.json")
    stated = None if config is None else check_config(config)
    state_dict = to_openai(state_dict)
    _known_architectures(state_dict)
    if activation == "auto":
        if stated is None:
            raise ValueError("these are weights of transformers, whose config.json tells the activation of the MLPs; "
                             f"put it beside them, or {ASK}")
        activation = stated
    preprocessor = _beside(path, "preprocessor_config.json") or {}
    pixels = pixels_of(preprocessor, sizes_of(state_dict)["image_resolution"])
    return Weights(state_dict, activation, pixels.get("mean"), pixels.get("std"))


def _beside(path: Path, name: str) -> dict[str, Any] | None:
    """Read a JSON object from the folder of a file; None where there is none."""
    file = path.parent / name
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"the {name} beside it cannot be read ({error}); mend it or move it away") from error
    if not isinstance(content, dict):
        raise ValueError(f"the {name} beside it holds no object; mend it or move it away")
    return content


# --- what must not be loaded ----------------------------------------------------------------------------

def refuse_foreign(state_dict: Mapping[str, Tensor]) -> None:
    """Raise a ValueError if the names of the entries are those of another kind of model."""
    for start, what in FOREIGN.items():
        for key in state_dict:
            if key.startswith(start):
                raise ValueError(f"these are the weights of {what} (entry {key!r}), not of OpenAI's ResNet or ViT and "
                                 "text transformer; a model of open_clip also needs its architecture: put its "
                                 "open_clip_config.json beside the file, or give the name ARCHITECTURE/PATH")


def _known_architectures(state_dict: Mapping[str, Tensor]) -> dict[str, dict]:
    """Return open_clip's architectures of these sizes.

    Raises
    ------
    ValueError
        For sizes that only architectures unlike OpenAI's have, such as ViT-H/14 with heads of width 80.
    """
    architectures = architectures_of(state_dict)
    if architectures and all(oddities(config) for config in architectures.values()):
        name, config = next(iter(architectures.items()))
        refuse_unlike_openai(config, f"open_clip's {name}, which has these sizes")
    return architectures


# --- the activation -------------------------------------------------------------------------------------

def _activation(path: Path, state_dict: Mapping[str, Tensor], facts: Mapping[str, Any],
                config: Mapping[str, Any] | None, architectures: Mapping[str, Mapping[str, Any]]) -> str:
    """Tell quick_gelu or gelu from the first source that knows: file, config beside it, name of the file.

    Where none does, the sizes decide what happens: models that are published with either activation have to be told
    apart by who has them, since the wrong one costs accuracy without any other sign.  Other sizes are nobody's release;
    they are taken as OpenAI's code would take them, with a warning.

    Parameters
    ----------
    path, state_dict, facts
        The file, its tensors, and what it states beside them.
    config
        open_clip's, from the file beside it; None without one.
    architectures
        open_clip's configs of the same sizes.
    """
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
    either = [name for name, config in architectures.items() if not oddities(config) and not config.get("quick_gelu")]
    if path.name.startswith("open_clip_") or {"name", "epoch"} <= set(facts):  # as its training does
        raise ValueError("this was written by open_clip, and nothing tells which activation it was trained with; "
                         + ASK)
    if either:
        raise ValueError("nothing in this file tells which activation it was trained with, and models of its sizes "
                         f"({either[0]}) are published with either; {ASK}")
    warnings.warn(f"{path} does not tell which activation it was trained with; quick_gelu is assumed, as in OpenAI's "
                  "models. To choose, set MODEL.BACKBONE.ACTIVATION (activation=) to quick_gelu or gelu", stacklevel=5)
    return "quick_gelu"
