"""Distances between all rows of two matrices."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["compute_distance_matrix", "cosine_distance", "euclidean_squared_distance"]


def compute_distance_matrix(input1: Tensor, input2: Tensor, metric: str = "euclidean") -> Tensor:
    """Return the distances between all rows of two matrices.

    Parameters
    ----------
    input1, input2 : Tensor
        (m, D) and (n, D).
    metric : str
        "euclidean", which is the *squared* distance, or "cosine", 1 - the cosine of the angle.

    Returns
    -------
    Tensor
        (m, n).

    Raises
    ------
    ValueError
        For another metric.
    AssertionError
        For inputs of other shapes.
    """
    for name, matrix in (("input1", input1), ("input2", input2)):
        if matrix.dim() != 2:
            raise AssertionError(f"{name} must be a matrix, got shape {tuple(matrix.shape)}")
    if input1.size(1) != input2.size(1):
        raise AssertionError(f"rows differ in length: {input1.size(1)} and {input2.size(1)}")
    if metric == "euclidean":
        return euclidean_squared_distance(input1, input2)
    if metric == "cosine":
        return cosine_distance(input1, input2)
    raise ValueError(f"unknown distance metric {metric!r}; choose 'euclidean' or 'cosine'")


def euclidean_squared_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """Return |a|^2 + |b|^2 - 2 a.b for all rows a of (m, D) and b of (n, D), as (m, n)."""
    squares = input1.pow(2).sum(dim=1, keepdim=True) + input2.pow(2).sum(dim=1)  # (m, n)
    return squares.addmm(input1, input2.t(), beta=1, alpha=-2)


def cosine_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """Return 1 - cosine of the angle between all rows of (m, D) and (n, D), as (m, n)."""
    return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).t()
