"""Prompt collapse: do the N prompts of a class still say N different things?

The training does not ask them to differ.  The cosines between their text features tell: prompts with a cosine of 1 are
one prompt, and a plan between image features and equal prompts cannot do more than its uniform part.
"""
from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

DIGITS = 4  # of what is recorded


def prompt_cosines(text: Tensor) -> Tensor:
    """Text features (N, C, D) -> (N, N), symmetric: the cosine of prompts n and m of a class, mean over classes."""
    unit = F.normalize(text, dim=-1)
    return torch.einsum("ncd,mcd->nm", unit, unit) / text.shape[1]


def as_rows(cosines: Tensor) -> list[list[float]]:
    """(N, N) as plain data, rounded."""
    return [[round(value, DIGITS) for value in row] for row in cosines.tolist()]


def as_pairs(cosines: Tensor) -> list[float]:
    """(N, N) -> the pairs (1, 2), (1, 3), ..., (N - 1, N), rounded; none where N = 1."""
    rows = as_rows(cosines)
    return [rows[n][m] for n, m in combinations(range(len(rows)), 2)]
