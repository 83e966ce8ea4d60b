"""Known by their tensors: whether two files hold the same weights, whatever container and number format they are in.

OpenAI publishes the SHA-256 of its archives, and none of their tensors. So a release's tensor digest is known where its
archive has been seen: in the table beside this module (`python -m clip weights digest ARCHIVE --packaged` adds to it),
and in a file of the folder of weights, which is written whenever an archive has been downloaded.
"""
from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dassl.utils.tools import read_json, write_json

from .layout import SIZE_KEYS

PACKAGED = Path(__file__).with_name("tensor_digests.json")
LOCAL = "tensor_digests.json"  # in the folder of weights


def is_weight(name: str) -> bool:
    """Whether an entry of a state dict is learned; sizes, counters and masks come and go with the container."""
    return name not in SIZE_KEYS and not name.endswith(("attn_mask", "num_batches_tracked"))


def tensor_digest(state_dict: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and values of the weights, by name in alphabetical order.

    Values count as float32, which holds every number of float16 and bfloat16: an archive whose matrices are float16 and
    a copy of it that is float32 throughout agree, and one that was rounded on the way does not.

    Parameters
    ----------
    state_dict
        In OpenAI's layout.
    """
    digest = hashlib.sha256()
    for name in sorted(filter(is_weight, state_dict)):
        tensor = state_dict[name].detach().to(torch.float32).contiguous()
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def known_digest(name: str, folder: Path) -> str | None:
    """Return the tensor digest of a release, if its archive has been seen here or by the maintainers; else None."""
    return _read(PACKAGED).get(name) or _read(folder / LOCAL).get(name)


def record_digest(name: str, digest: str, table: Path) -> None:
    """Add the tensor digest of a release to a table."""
    write_json(dict(sorted({**_read(table), name: digest}.items())), table)


def _read(table: Path) -> dict[str, str]:
    """Read a table; one that is missing or damaged knows nothing."""
    try:
        content = read_json(table)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
