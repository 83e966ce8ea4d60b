"""What a training step costs at least on this machine: its operations over the rates that were measured beside it.

The operations are those that no exact method gets around: the image tower forwards, and for every prompt the prefix
tokens once and the suffix tokens of every class, forwards and backwards to the input.  What the step takes beyond that
is layers without products (normalisation, activations, sums), the transport's loop, and the price of being Python.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from clip.packed import FrozenLinear
from clip.prompt_text import TextEncoder

from .measure import Step
from .subjects import RESOLUTION, clip_model, learner_of

PRODUCT = (2048, 2048, 2048)  # rows, inputs, outputs
CONVOLUTIONS = ((64, 56, 3), (128, 28, 3), (256, 14, 3), (1024, 14, 1))  # channels, size, kernel: as in RN50
TRIES = 3


class Operations(NamedTuple):
    """Multiplications and additions of one step."""

    convolutions: float
    products: float


def operations(backbone: str, classes: int, prompts: int, context: int, batch: int) -> Operations:
    """Counted on weights in float64: those are not packed, and so every product is one that the counter knows."""
    model = clip_model(backbone).double()
    learner, tower = learner_of(model, classes, prompts, context), TextEncoder(model)
    with torch.no_grad(), FlopCounterMode(display=False) as of_image:
        image = model.visual.forward_dense(torch.zeros(1, 3, RESOLUTION, RESOLUTION, dtype=torch.float64))
    with FlopCounterMode(display=False) as of_text:
        torch.autograd.grad(tower(learner()).sum(), learner.ctx)
    counts = of_image.get_flop_counts()["Global"].items()
    convolutions = batch * sum(count for operator, count in counts if "convolution" in str(operator))
    similarities = 2 * batch * image.local[0].numel() * prompts * classes  # once forwards, once backwards
    products = batch * of_image.get_total_flops() - convolutions + of_text.get_total_flops() + 2 * similarities
    return Operations(convolutions, products)


def rates(side: str, **settings: Any) -> Step:
    """Operations per second of large products and convolutions, the best of each."""
    rows, inputs, outputs = PRODUCT
    with torch.no_grad():
        frozen, x = FrozenLinear(torch.randn(outputs, inputs)), torch.randn(rows, inputs)
        layers = [
            (
                torch.nn.Conv2d(c, c, k, padding=k // 2).requires_grad_(False).to(memory_format=torch.channels_last),
                torch.randn(32, c, size, size).to(memory_format=torch.channels_last),
            )
            for c, size, k in CONVOLUTIONS
        ]

    def step() -> Sequence[float]:
        with torch.no_grad():
            products = [
                _rate(2.0 * rows * inputs * outputs, product, x)
                for product in (frozen, partial(F.linear, weight=frozen.weight))
            ]
            convolutions = [_rate(2.0 * x.numel() * layer.weight[0].numel(), layer, x) for layer, x in layers]
        return [max(products), max(convolutions)]

    return step


def _rate(operations: float, run: Callable[[Tensor], Tensor], x: Tensor) -> float:
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return operations / min(times)


def floor_seconds(counted: Operations, product_rate: float, convolution_rate: float) -> float:
    return counted.products / product_rate + counted.convolutions / convolution_rate
