"""One comparison of an array with its recorded value."""
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

TOLERANCE = 1e-4  # float32, relative to the largest entry of the recorded array
EXACT = 0.0


class Comparison(NamedTuple):
    array: str
    absolute: float  # largest absolute difference
    relative: float  # the same over the largest recorded magnitude
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.relative <= self.tolerance  # False for NaN


def compare(
    name: str, ours: object, recorded: object, tolerance: float = TOLERANCE, note: str = "", least: float = 0.0
) -> Comparison:
    """Largest differences; a wrong shape fails whatever the values are.

    `least` is the magnitude below which the recorded array itself is rounding: differences are relative to no less.
    """
    a, b = as_array(ours), as_array(recorded)
    if a.shape != b.shape:
        return Comparison(name, float("nan"), float("nan"), tolerance, f"shape {a.shape}, recorded {b.shape}")
    if not a.size:
        return Comparison(name, 0.0, 0.0, tolerance, note)
    absolute = float(np.abs(a - b).max())
    scale = max(float(np.abs(b).max()), least)
    return Comparison(name, absolute, absolute / scale if scale else absolute, tolerance, note)


def same(name: str, ours: object, recorded: object, note: str = "") -> Comparison:
    """For what is equal or wrong: token ids, picked images, texts."""
    equal = ours == recorded
    if not equal:
        note = f"{note} {first_difference(ours, recorded)}".strip()
    return Comparison(name, 0.0 if equal else float("nan"), 0.0 if equal else float("nan"), EXACT, note)


def first_difference(ours: object, recorded: object) -> str:
    if isinstance(ours, str) and isinstance(recorded, str):
        ours, recorded = ours.splitlines(), recorded.splitlines()
    if isinstance(ours, Iterable) and isinstance(recorded, Iterable) and not isinstance(recorded, dict):
        ours, recorded = list(ours), list(recorded)
        for i, (a, b) in enumerate(zip(ours, recorded, strict=False)):
            if a != b:
                return f"entry {i}: {a!r}, recorded {b!r}"
        return f"{len(ours)} entries, recorded {len(recorded)}"
    return f"{ours!r}, recorded {recorded!r}"[:300]


def as_array(x: object) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().double().cpu().numpy()
    return np.asarray(x, dtype=np.float64)
