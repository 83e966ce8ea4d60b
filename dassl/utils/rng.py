"""The state of every random generator that training draws from, as plain data.

Checkpoints hold it, so it is tensors and numbers only: what unpickling them makes is bounded (see `safe_load`).
"""
from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from dassl.plain import ranks

__all__ = ["get_rng_state", "set_rng_state"]


def get_rng_state() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy, torch and the CUDA devices.

    Returns
    -------
    dict
        python, numpy, torch, and cuda: a list with a tensor for each device, empty where CUDA is not in use.
    """
    version, words, gauss = random.getstate()  # 624 words of 32 bits and a position; the other half of a pair
    legacy: Any = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "words": torch.from_numpy(legacy[1].astype(np.int64)),
            "position": int(legacy[2]),
            "has_gauss": int(legacy[3]),
            "gauss": float(legacy[4]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generators back into a state that `get_rng_state` has returned.

    CUDA devices that either side lacks are left out. Of several processes of one run, each with a GPU of its own, all
    get the state of the first one's: they draw the same numbers.
    """
    python, legacy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    words = legacy["words"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, legacy["position"], legacy["has_gauss"], legacy["gauss"]))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and ranks.size() > 1:
        for device_state in state["cuda"][:1]:
            torch.cuda.set_rng_state(device_state)
    elif torch.cuda.is_available():
        for device, device_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(device_state, device)
