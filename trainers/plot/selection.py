"""Which places of an image take part in the matching with a class: all of them, or the few that fit it best.

Most places of a photograph show no part of what it is a picture of, and a mean, or a transport, over all of them is
mostly about the background.  GalLoP and SOT-GLP look at the best k only, each in its own way:

- by class: the k places whose mean cosine with the N prompts of the class is largest, the same for all its prompts
  (SOT-GLP), so that there is one set of places to be matched with one set of prompts;
- by prompt: for each prompt its own k_n best ones (GalLoP).  Prompts with different k look at an object at different
  scales; as there is no common set of places, every prompt just averages its own.

Axes as in transport.py: N prompts, C classes, B images, M places, K selected ones, best first.

References
----------
M. Lafon, E. Ramzi, C. Rambour, N. Audebert, N. Thome, GalLoP: Learning Global and Local Prompts for Vision-Language
Models, ECCV 2024, section 3.1.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..parts.rules import Rule

SELECTIONS = ("class", "prompt")
TOP_K = Rule(
    lambda ks: all(isinstance(k, int) and k >= 1 for k in ks),
    "a list of whole numbers of at least 1, or empty for all places",
)


class Places(NamedTuple):
    """The places that take part.

    Attributes
    ----------
    similarity
        (N, C, B, K) cosines of the selected places; differentiable in those that they were selected from.
    chosen
        (C, B, K), or (N, C, B, K) where each prompt has its own; None where all M take part, in their order.
    share
        (N, 1, 1, K) how much of a prompt's mass a place has where they are equal; None for 1 / K.
    """

    similarity: Tensor
    chosen: Tensor | None = None
    share: Tensor | None = None

    def spread(self, values: Tensor, places: int) -> Tensor:
        """Put values (N, C, B, K) of the selected places where those lie among all, (N, C, B, M); 0 elsewhere."""
        if self.chosen is None:
            return values
        whole = values.new_zeros(*values.shape[:-1], places)
        return whole.scatter_(-1, self.chosen.expand(len(values), -1, -1, -1), values)


def select_places(similarity: Tensor, top_k: Sequence[int], by: str) -> Places:
    """Select places by their similarity.

    Parameters
    ----------
    similarity
        (N, C, B, M).
    top_k
        Empty for all places; else one number, or for `by` "prompt" also N of them.  Where there are fewer places, all
        are taken.
    by
        One of SELECTIONS.

    Returns
    -------
    Places
        K is the largest number of `top_k`.
    """
    if not top_k:
        return Places(similarity)
    prompts, places = len(similarity), similarity.shape[-1]
    counts = [min(k, places) for k in top_k]
    most = max(counts)
    if by == "class":
        index = similarity.detach().mean(dim=0).topk(most, dim=-1).indices  # (C, B, K)
        return Places(similarity.gather(-1, index.expand(prompts, -1, -1, -1)), index)
    best, index = similarity.topk(most, dim=-1)  # (N, C, B, K)
    k = torch.tensor(counts)[:, None]  # (N or 1, 1)
    share = ((torch.arange(most) < k) / k).expand(prompts, -1)  # (N, K); a GPU goes on while it is sent there
    return Places(best, index, share.to(best, non_blocking=True)[:, None, None])
