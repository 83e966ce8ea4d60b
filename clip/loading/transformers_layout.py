"""The layout of Hugging Face transformers' CLIPModel, read into OpenAI's.

The arithmetic is the same; what differs is how it is written down:

    q, k and v are three linear layers             in_proj holds their rows one below the other
    projections are linear layers, (D, width)      matrices that stand on the right, (width, D)
    names (layers.3.mlp.fc1, pre_layrnorm, ...)    resblocks.3.mlp.c_fc, ln_pre, ...

config.json beside the weights says what the tensors do not: activation, width of heads, epsilon. What it leaves out has
the value that transformers gives it. An architecture that `clip.model.CLIP` would compute otherwise is refused.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .layout import ACTIVATIONS, HEAD_WIDTH

MARKS = ("vision_model.", "text_model.")  # beginnings of names in this layout
EPSILON = 1e-5  # of all of OpenAI's layer normalisations

COMMON = {"hidden_act": "quick_gelu", "layer_norm_eps": EPSILON}
DEFAULTS: dict[str, dict[str, Any]] = {  # of transformers' CLIPTextConfig and CLIPVisionConfig
    "text": {**COMMON, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "vocab_size": 49408,
             "eos_token_id": 2},
    "vision": {**COMMON, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_channels": 3,
               "image_size": 224},
}  # fmt: skip
OLD_END = 2  # an `eos_token_id` that was never true; transformers then looks for the largest id, as OpenAI does

PLAIN = {  # whole names
    "logit_scale": "logit_scale",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # spelt so there
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
TURNED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
TOWERS = {"text": "transformer", "vision": "visual.transformer"}
PARTS = {  # of a block
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
JOINED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")  # in the order of in_proj
BUFFERS = ("embeddings.position_ids",)  # ends of names of what older versions saved beside the weights


def is_transformers(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of transformers."""
    return any(name.startswith(MARKS) for name in state_dict)


def to_openai(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename, join and transpose the entries.

    Returns
    -------
    dict
        In OpenAI's layout, exact to the bit.

    Raises
    ------
    ValueError
        Naming an entry that has no place there, or one that is missing.
    """
    result: dict[str, Tensor] = {}
    pieces: dict[str, dict[str, Tensor]] = {}  # of each in_proj
    for name, tensor in state_dict.items():
        block = BLOCK.fullmatch(name)
        if name in PLAIN:
            result[PLAIN[name]] = tensor
        elif name in TURNED:
            result[TURNED[name]] = tensor.T.contiguous()
        elif block and block[3] in PARTS:
            result[f"{TOWERS[block[1]]}.resblocks.{block[2]}.{PARTS[block[3]]}.{block[4]}"] = tensor
        elif block and block[3] in JOINED:
            target = f"{TOWERS[block[1]]}.resblocks.{block[2]}.attn.in_proj_{block[4]}"
            pieces.setdefault(target, {})[block[3]] = tensor
        elif not name.endswith(BUFFERS):
            raise ValueError(f"transformers' CLIPModel has no entry {name!r}; this is another model of its layout")
    for needed in ("vision_model.", "text_model.", *TURNED):
        if not any(name.startswith(needed) for name in state_dict):
            raise ValueError(f"it has no {needed.removesuffix('.')}: one tower alone, or a model without CLIP's "
                             "projections; give the weights of a whole CLIPModel")
    for target, parts in pieces.items():
        if len(parts) < len(JOINED):
            raise ValueError(f"of q, k and v, {target} has only {', '.join(sorted(parts))}")
        result[target] = torch.cat([parts[part] for part in JOINED])  # (3 width, width) or (3 width,)
    return result


def section(config: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Return what a config.json says of one tower, "text" or "vision", with transformers' defaults.

    Files from before 2023 say it twice, and where they do, `text_config_dict` alone counts.

    Raises
    ------
    ValueError
        Where it says something of another type.
    """
    defaults = DEFAULTS[side]
    old, new = config.get(f"{side}_config_dict"), config.get(f"{side}_config") or {}
    for part in (old or {}, new):
        if not isinstance(part, Mapping):
            raise ValueError(f"config.json holds no object where it should describe the {side} tower")
    values = defaults | (new if old is None else {**new, **defaults, **old})
    for key, default in defaults.items():
        if not isinstance(values[key], type(default)):
            raise ValueError(f"config.json says {key} {values[key]!r} of the {side} tower, which is no "
                             f"{type(default).__name__}")
    return values


def check_config(config: Mapping[str, Any]) -> str:
    """Check that `clip.model.CLIP` computes what a config.json describes.

    Returns
    -------
    str
        The activation of the MLPs.

    Raises
    ------
    ValueError
        Listing what differs.
    """
    kind = config.get("model_type", "clip")
    if kind != "clip":
        raise ValueError(f"config.json describes a model of type {kind!r}, not 'clip'")
    sides = {side: section(config, side) for side in DEFAULTS}
    problems = []
    for side, values in sides.items():
        width, heads = values["hidden_size"], values["num_attention_heads"]
        expected = {"intermediate_size": 4 * width, "layer_norm_eps": EPSILON}
        if heads * HEAD_WIDTH != width:
            problems.append(f"{side} heads of width {width / heads:g} instead of {HEAD_WIDTH}")
        problems += [f"{side} {key} {values[key]} instead of {value}" for key, value in expected.items()
                     if values[key] != value]
        if values["hidden_act"] not in ACTIVATIONS:
            problems.append(f"{side} hidden_act {values['hidden_act']}, which is none of {', '.join(ACTIVATIONS)}")
    end, last = sides["text"]["eos_token_id"], sides["text"]["vocab_size"] - 1
    if end not in (OLD_END, last):
        problems.append(f"a text is read at token {end}, and not at the last of the vocabulary, {last}")
    first, second = (values["hidden_act"] for values in sides.values())
    if first != second:
        problems.append(f"hidden_act is {first} in the text tower and {second} in the image tower")
    if problems:
        raise ValueError("this architecture differs from OpenAI's CLIP and would be computed wrongly: "
                         f"{', '.join(problems)} (according to config.json). Where open_clip has the model, name it "
                         "as open_clip does (ARCHITECTURE/TAG): its own modules compute it then")
    return first


def pixels_of(preprocessor: Mapping[str, Any], resolution: int) -> dict[str, tuple[float, ...]]:
    """Read preprocessor_config.json: how the pixels of images are normalised.

    Parameters
    ----------
    preprocessor
        Its content; {} where there is no such file.
    resolution
        Side of the images that the model reads.

    Returns
    -------
    dict
        "mean" and "std", red green blue in [0, 1], as far as they are said.

    Raises
    ------
    ValueError
        Where it makes images of another size, or says something else than numbers.
    """
    crop = preprocessor.get("crop_size", preprocessor.get("size", resolution))
    sides = crop.values() if isinstance(crop, Mapping) else [crop]  # {"height": 224, "width": 224}, or 224
    if any(side != resolution for side in sides):
        raise ValueError(f"preprocessor_config.json makes images of size {crop}, and the weights read {resolution}")
    if preprocessor.get("do_normalize") is False:
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    pixels = {}
    for key, name in {"mean": "image_mean", "std": "image_std"}.items():
        if value := preprocessor.get(name):
            if not isinstance(value, list) or [isinstance(part, int | float) for part in value] != 3 * [True]:
                raise ValueError(f"preprocessor_config.json says {name} {value!r}, and not three numbers")
            pixels[key] = tuple(value)
    return pixels
