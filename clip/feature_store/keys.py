"""What features depend on, and the name that follows from it."""
from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..packed import state_of

FORMAT = 1  # of an entry's files


def key_of(facts: Mapping[str, Any]) -> str:
    """Name the entry for what some features depend on.

    Parameters
    ----------
    facts
        Plain JSON data; two sets of facts share an entry exactly if they are equal.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps({"format": FORMAT, **facts}, sort_keys=True).encode()).hexdigest()[:32]


_digests: weakref.WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], str]] = weakref.WeakKeyDictionary()


def tower_digest(tower: nn.Module) -> str:
    """Digest what a tower computes with: its modules, and its weights with their types.

    Computed once for a tower, and again when its tensors were replaced or written to.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    tensors = {**dict(tower.named_parameters()), **dict(tower.named_buffers())}
    state = tuple((name, *state_of(tensor)) for name, tensor in tensors.items())
    known = _digests.get(tower)
    if known is not None and known[0] == state:
        return known[1]
    digest = hashlib.sha256()
    for name, module in tower.named_modules():
        facts = (name, type(module).__qualname__, module.extra_repr(), getattr(module, "num_heads", ""))
        digest.update(repr(facts).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(bytes_of(tensor.detach()))
    _digests[tower] = (state, digest.hexdigest())
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> Any:
    """Lay out the values of a tensor, row by row, as a buffer of bytes."""
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
