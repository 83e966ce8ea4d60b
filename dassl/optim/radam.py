"""Rectified Adam: Liu et al. (2020), On the variance of the adaptive learning rate and beyond, alg. 2."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["RAdam"]


class RAdam(torch.optim.RAdam):
    """torch's RAdam with the weight decay decoupled, as in the authors' code.

    Decoupled means that a step first multiplies the weights by (1 - lr * weight_decay), and that the gradient knows
    nothing of it. While the variance term cannot be rectified (its degree of freedom is 5 or less, in the first few
    steps), a step is one of SGD with momentum.

    Parameters
    ----------
    params : iterable
        Parameters or parameter groups.
    lr, betas, eps, weight_decay
        As for torch's RAdam.
    degenerated_to_sgd : bool
        Must be True; the authors' option to stand still instead is a ValueError.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        degenerated_to_sgd: bool = True,
    ) -> None:
        if not degenerated_to_sgd:
            raise ValueError("degenerated_to_sgd=False is not offered; leave it at True")
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)
