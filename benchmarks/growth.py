"""How cost grows: each size is varied alone, and seconds ~ size^b is fitted.

Classes, prompts and context are sizes of the text tower, which is measured by itself; the batch is that of the whole
training step. An exponent b near 1 means that cost is proportional; 0, that it does not depend on that size.
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from .measure import NEW, Process, in_turns
from .sizes import GROWTH, Sizes
from .subjects import text, training_step


def growth_report(sizes: Sizes, repeats: int) -> Iterator[dict[str, Any]]:
    """Measure the new side at the sizes in `GROWTH`, the others as in `sizes`.

    Yields
    ------
    dict
        For each axis: its name, the sizes, the median seconds of a step, and the exponent.
    """
    for axis, values in GROWTH.items():
        subject = training_step if axis == "batch" else text
        seconds = []
        for value in tqdm(values, axis, disable=None):
            with Process(NEW, partial(subject, sizes=Sizes(**sizes._asdict() | {axis: value}))) as process:
                process.run()
                seconds += in_turns([process], repeats)
        # log seconds = b log size + constant
        exponent = float(np.polyfit(np.log(values), np.log(seconds), 1)[0])
        yield {"axis": axis, "sizes": values, "seconds": seconds, "exponent": exponent}


def growth_sentence(report: dict[str, Any]) -> str:
    """Say what `growth_report` measured on one axis."""
    what = "training step" if report["axis"] == "batch" else "text tower"
    shown = ", ".join(f"{n}: {s:.3f} s" for n, s in zip(report["sizes"], report["seconds"], strict=True))
    return f"{what} ~ {report['axis']} ^ {report['exponent']:.2f}   ({shown})"
