"""What a training step costs at least on this machine: its operations over the rates that were measured beside it.

The operations are those that no exact method gets around: the image tower forwards, and for every prompt the prefix
tokens once and the suffix tokens of every class, forwards and backwards to the input. What the step takes beyond that
is layers without products (normalisation, activations, sums), the transport's loop, and the price of being Python.
"""
from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from clip.packed import FrozenLinear
from clip.prompt_text import TextEncoder

from .measure import NEW, Process, Step, wait_for
from .sizes import RESOLUTION, Sizes
from .subjects import clip_model, learner_of, training_step

PRODUCT = (2048, 2048, 2048)  # rows, inputs, outputs
CONVOLUTIONS = ((64, 56, 3), (128, 28, 3), (256, 14, 3), (1024, 14, 1))  # channels, size, kernel: as in RN50
TRIES = 3


class Operations(NamedTuple):
    """Multiplications and additions of one step: in convolutions, and in products of matrices."""

    convolutions: float
    products: float


def operations(sizes: Sizes) -> Operations:
    """Count the operations of a training step.

    Notes
    -----
    Counted on weights in float64: those are not packed, and so every product is one that torch's counter knows. The
    image tower is counted for one image; only the text tower goes backwards.
    """
    model = clip_model(sizes.backbone).double()
    learner, tower = learner_of(model, sizes), TextEncoder(model)
    with torch.no_grad(), FlopCounterMode(display=False) as of_image:
        image = model.visual.forward_dense(torch.zeros(1, 3, RESOLUTION, RESOLUTION, dtype=torch.float64))
    with FlopCounterMode(display=False) as of_text:
        torch.autograd.grad(tower(learner()).sum(), learner.ctx)
    counts = of_image.get_flop_counts()["Global"].items()
    convolutions = sizes.batch * sum(count for operator, count in counts if "convolution" in str(operator))
    # every local feature (M * D numbers an image) with every prompt, once forwards, once backwards
    similarities = 2 * sizes.batch * image.local[0].numel() * sizes.prompts * sizes.classes
    products = sizes.batch * of_image.get_total_flops() - convolutions + of_text.get_total_flops() + 2 * similarities
    return Operations(convolutions, products)


def rates(side: str, device: str) -> Step:
    """Operations per second of large products and convolutions: a step that returns the best of each."""
    rows, inputs, outputs = PRODUCT
    frozen = FrozenLinear(torch.randn(outputs, inputs, device=device))
    x = torch.randn(rows, inputs, device=device)
    layers: list[Any] = [
        (torch.nn.Conv2d(c, c, k, padding=k // 2), torch.randn(32, c, size, size)) for c, size, k in CONVOLUTIONS
    ]
    layers = [[part.to(device, memory_format=torch.channels_last) for part in pair] for pair in layers]

    @torch.no_grad()
    def step() -> Sequence[float]:
        count = 2.0 * rows * inputs * outputs
        products = [_rate(count, product, x) for product in (frozen, partial(F.linear, weight=frozen.weight))]
        convolutions = [_rate(2.0 * y.numel() * layer.weight[0].numel(), layer, y) for layer, y in layers]
        return [max(products), max(convolutions)]

    return step


def _rate(operations: float, run: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Return operations per second of the fastest of some tries."""
    return operations / min(timeit.repeat(lambda: wait_for([run(x)]), number=1, repeat=TRIES))


def floor_report(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Measure how near a training step comes to the time of its operations alone.

    The rates are measured in turns with the step, so that both see the same machine.

    Returns
    -------
    dict
        Numbers of operations, rates (operations per second), `floor` and `achieved` (seconds of a step), `ratio`.
    """
    counted = operations(sizes)
    measured = partial(training_step, sizes=sizes), partial(rates, device=sizes.device)
    with Process(NEW, measured[0]) as step, Process(NEW, measured[1]) as machine:
        step.run(), machine.run()
        turns = [(machine.run().arrays, step.run().seconds) for _ in range(repeats)]
    product_rate, convolution_rate = (float(max(rate)) for rate in zip(*(fast for fast, _ in turns), strict=True))
    least = counted.products / product_rate + counted.convolutions / convolution_rate
    achieved = statistics.median(seconds for _, seconds in turns)
    return {
        "classes": sizes.classes, **counted._asdict(), "product_rate": product_rate,
        "convolution_rate": convolution_rate, "floor": least, "achieved": achieved, "ratio": achieved / least,
    }  # fmt: skip


def floor_sentence(report: dict[str, Any]) -> str:
    """Say what `floor_report` measured."""
    operations = ", ".join(
        f"{report[kind + 's'] / 1e9:.0f} G of {kind}s at {report[kind + '_rate'] / 1e9:.0f} G/s"
        for kind in ("convolution", "product")
    )
    return (f"floor of a training step, C = {report['classes']}: operations, {operations}: "
            f"{report['floor']:.3f} s; achieved {report['achieved']:.3f} s, {report['ratio']:.2f} times that")
