"""The whole model: its config, its training from end to end, and its files."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import numpy as np
import timm
import torch
from safetensors.torch import save
from torch import Tensor

from clip.openclip.building import build_parts
from dassl.plain.writing import atomic_write

from .course import teach, vocabulary
from .image import fit_head, scene_features
from .names import class_targets, held_out, joint_space, names_to_teach
from .pieces import load_trunk, read_pieces
from .text import TextCourse

LOGIT_SCALE = 30.0


def config(embed: int, layers: int) -> dict[str, Any]:
    """Describe the architecture as open_clip does; `timm_model_kwargs` is an addition of clip/openclip/building.py."""
    vision = {
        "image_size": 224, "timm_model_name": "mobilenetv2_100", "timm_model_pretrained": False, "timm_pool": "avg",
        "timm_proj": "linear", "timm_proj_bias": True, "timm_model_kwargs": {"pad_type": "same"},
    }  # fmt: skip
    text = {"context_length": 77, "vocab_size": 49408, "width": embed, "heads": 8, "layers": layers}
    return {"embed_dim": embed, "custom_text": True, "vision_cfg": vision, "text_cfg": text}


def make(options: argparse.Namespace, command: Sequence[str]) -> int:
    """Make the model and write its weights, its config and the list of its names.

    Parameters
    ----------
    options
        The flags of the program.
    command
        The program's words, which the file keeps.

    Returns
    -------
    int
        The exit status.
    """
    began = time.monotonic()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    pieces = read_pieces(options.pieces)
    placed = joint_space(pieces.embedding, options.embed)
    classes = class_targets(pieces, placed)
    names = names_to_teach(pieces, placed, classes, options.words, 50_000, options.seed)

    parts: Any = build_parts(config(options.embed, options.layers), False).eval()
    load_trunk(parts.visual.trunk, pieces.trunk)
    features = scene_features(parts.visual.trunk, options.scenes, 4, options.seed)
    classifier = pieces.trunk["classifier.weight"].float(), pieces.trunk["classifier.bias"].float()
    fit_head(parts.visual.head.proj, features.clone(), classifier, torch.tensor(classes, dtype=torch.float32),
             options.head_steps, options.seed)  # fmt: skip
    print(f"Image side ready after {time.monotonic() - began:.0f} s; {len(names)} names to teach", flush=True)

    generator = torch.Generator().manual_seed(options.seed)
    course = TextCourse(parts.text, vocabulary(names), generator)
    teach(course, names, ~held_out(names, options.hold_out, options.seed), options)

    entries: dict[str, Tensor] = {f"visual.{name}": tensor for name, tensor in parts.visual.state_dict().items()}
    entries |= course.state() | {"logit_scale": torch.tensor(np.log(LOGIT_SCALE))}
    stored = {name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
              for name, tensor in entries.items()}
    facts = {
        "command": shlex.join(command), "seed": str(options.seed), "minutes": f"{(time.monotonic() - began) / 60:.0f}",
        "date": datetime.date.today().isoformat(),
        "versions": f"torch {torch.__version__}, timm {timm.__version__}, Python {platform.python_version()}",
        "licence": "MobileNetV2 and CLIP's text embeddings: Apache-2.0; word vectors: PDDL 1.0",
    }  # fmt: skip
    write(options.output, stored, facts, config(options.embed, options.layers))
    listing = "".join(f"{name.text}\t{name.source}\n" for name in names)
    with atomic_write(names_file(options.output)) as file:
        file.write(listing)
    print(f"Wrote {options.output} ({options.output.stat().st_size / 1e6:.1f} MB)")
    return 0


def names_file(weights: Path) -> Path:
    """Say where the names that a model was taught are listed."""
    return weights.with_name(f"{weights.stem}_names.tsv")


def write(path: Path, tensors: dict[str, Tensor], facts: dict[str, str], architecture: dict[str, Any]) -> None:
    """Write the weights, and the config beside them."""
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    with atomic_write(path.with_suffix(".json")) as file:
        file.write(json.dumps({"model_cfg": architecture, "preprocess_cfg": pixels}, indent=2) + "\n")
    with atomic_write(path, "wb") as file:
        file.write(save(tensors, facts))
