"""How foreign an image is to a model of classes, and how well such a score tells foreign images from known ones.

A model of C classes has an answer for every image, also for those of which none of the classes is right.  What gives
them away is that no class stands out: the largest share that a class has in a softmax over the classes is small.  With
cosines x_c of an image, or of a place in it, and a temperature T, that share is max_c softmax_c(x / T), and the scores
are its negatives, so that larger means more foreign:

    MCM       of the pooled feature [1]
    L-MCM     of the place where it is largest: an image is known where any part of it is [2]
    GL-MCM    the sum of both [2]

The cosines are as they are: the model's own scale of logits, which makes a softmax nearly certain of everything, is not
applied.  All places take part, also of a model that matches only some of them.

References
----------
.. [1] Y. Ming et al., Delving into Out-of-Distribution Detection with Vision-Language Representations, NeurIPS 2022.
.. [2] A. Miyai et al., GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution Detection,
   IJCV 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..numbers.ood import Separation

if TYPE_CHECKING:
    from trainers.parts.model import ClassCosines

ACCEPTED = 0.95  # share of the known images that the threshold of FPR95 lets pass
AT_ONCE = 16  # images whose places are scored together, to bound the memory: 16 x 196 places x 1000 classes are 25 MB


def ood_scores(cosines: ClassCosines, temperature: float = 1.0) -> dict[str, Tensor]:
    """Score how foreign images are; larger is more foreign.

    Parameters
    ----------
    cosines
        Of B images: pooled (B, C), and places (B, M, C) or None.
    temperature
        T > 0.  A large one makes the softmax nearly flat: the score then goes by max_c x_c - mean_c x_c.

    Returns
    -------
    dict
        {"MCM": (B,), "L-MCM": (B,), "GL-MCM": (B,)} in float64; of cosines without places MCM alone.
    """
    pooled = -_largest_share(cosines.pooled, temperature)
    if cosines.places is None:
        return {"MCM": pooled}
    parts = cosines.places.split(AT_ONCE)
    places = -torch.cat([_largest_share(part, temperature).amax(dim=1) for part in parts])  # (B, M) -> (B,)
    return {"MCM": pooled, "L-MCM": places, "GL-MCM": pooled + places}


def _largest_share(cosines: Tensor, temperature: float) -> Tensor:
    """Compute max_c softmax_c(x / T) of cosines (..., C): (...,).

    In float64, since at T = 1000 all shares are 1 / C up to a ten-thousandth, and only their order matters.
    """
    x = cosines.to(torch.float32 if cosines.device.type == "mps" else torch.float64) / temperature
    return (x.amax(dim=-1) - x.logsumexp(dim=-1)).exp()


def separate(known: np.ndarray, foreign: np.ndarray) -> Separation:
    """Measure how well scores tell foreign images from known ones.

    Parameters
    ----------
    known, foreign
        Scores of the images of either kind, at least one each.

    Returns
    -------
    Separation
        FPR95, AUROC and AUPR in %.  The foreign images are the positive ones of the last two.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve  # takes a second or two

    score, is_foreign = np.concatenate([known, foreign]), np.repeat([0, 1], [len(known), len(foreign)])
    # the threshold falls until it accepts 95 % of the known ones, which are the positive ones here
    foreign_accepted, known_accepted, _ = roc_curve(1 - is_foreign, -score, drop_intermediate=False)
    fpr95 = foreign_accepted[np.argmax(known_accepted >= ACCEPTED)]
    areas = roc_auc_score(is_foreign, score), average_precision_score(is_foreign, score)
    return Separation(*(100 * float(share) for share in (fpr95, *areas)))
