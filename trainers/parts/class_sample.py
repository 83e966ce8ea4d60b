"""Training on a sample of the classes: a step sees those of its batch and some others, in the place of all.

With C classes the cross-entropy of an image with scores s and class y is log Z - s_y, Z = sum over all j of exp(s_j).
Let U be the u classes of the batch, and R the n others that are drawn, uniformly and without replacement, from the
C - u that are not in U.  Every one of these is drawn with probability n / (C - u), so

    Z' = sum over j in U of exp(s_j)  +  (C - u) / n * sum over j in R of exp(s_j)

has the expectation Z, for every image of the batch.  Z' is the partition sum of the drawn classes' logits raised by
log((C - u) / n); the classes of the batch are there in any case, so theirs stay as they are.  For a batch of one class
the term is log((C - 1) / n), that of POMP; with several true classes in a batch, each is a negative of the others that
was not drawn, and counts once.  Where n = C - u nothing is left out, the term is 0, and the loss is the usual one.

The loss itself is below the usual one on average, since the logarithm is concave; by how much depends on how unequal
the exp(s_j) are, and falls with n.  A mean over classes is estimated likewise, with the weights exp(correction), which
sum to C.

The draw depends on SEED and the number of the step alone.  So it is the same in every process of a run and after every
resumption, it takes nothing from the global generator, and a run with it sees the images of one without it.

References
----------
S. Ren et al., Prompt Pre-Training with Twenty-Thousand Classes for Open-Vocabulary Visual Recognition, NeurIPS 2023.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class ClassSample(NamedTuple):
    """The c = u + n classes of a step.

    Attributes
    ----------
    classes
        (c,) int64, ascending.
    correction
        (c,) float64, what is added to the logits of each in the loss: 0 for a class of the batch.
    labels
        (B,) int64, where each image's class stands among them.
    """

    classes: Tensor
    correction: Tensor
    labels: Tensor


def draw_classes(labels: Tensor, n_classes: int, size: int, seed: int, step: int) -> ClassSample | None:
    """Draw size - 1 others to the classes of a batch; None where these are all, and nothing is left out.

    Parameters
    ----------
    labels
        (B,) int64 on the CPU.
    n_classes
        C.
    size
        K, at least 2: how many classes an image is compared with, its own among them, in a batch of one class.
    seed, step
        What decides the draw.
    """
    own = labels.unique()  # (u,)
    is_other = torch.ones(n_classes, dtype=torch.bool)
    is_other[own] = False
    others = is_other.nonzero().flatten()  # (C - u,)
    if size > len(others):
        return None
    seed = int(np.random.SeedSequence([max(seed, 0), step]).generate_state(1)[0])
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
    classes = torch.cat([own, others[order[: size - 1]]]).sort().values
    correction = math.log(len(others) / (size - 1)) * is_other[classes].double()
    return ClassSample(classes, correction, torch.searchsorted(classes, labels))
