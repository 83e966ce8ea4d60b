"""Accuracy of a batch, and distances between feature vectors.

What a whole test reports is the evaluators' (`dassl.evaluation`).
"""
from __future__ import annotations

from .accuracy import compute_accuracy
from .distance import compute_distance_matrix, cosine_distance, euclidean_squared_distance

__all__ = ["compute_accuracy", "compute_distance_matrix", "cosine_distance", "euclidean_squared_distance"]
