"""Running averages of the numbers that a training step reports.

Trainers of plugins return anything that is a number: Python's, NumPy's, or a tensor of one element.
"""
from __future__ import annotations

from collections import defaultdict
from typing import Any

__all__ = ["AverageMeter", "MetricMeter"]


def _number(value: Any) -> Any:
    """Return the Python number that a tensor or a NumPy number holds."""
    return value.item() if hasattr(value, "item") else value


class AverageMeter:
    """The last value and the average of all values.

    Parameters
    ----------
    ema : bool
        The average is exponential, 0.9 old + 0.1 new, and starts at 0.

    Attributes
    ----------
    val, avg, sum : number
        The last value, the average, and the sum of all.
    count : int
        How many values there were.
    """

    def __init__(self, ema: bool = False) -> None:
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.val: Any = 0
        self.avg: Any = 0
        self.sum: Any = 0
        self.count = 0

    def update(self, val: Any, n: int = 1) -> None:
        """Take in `val` (a number or a tensor of one element), counted `n` times."""
        self.val = _number(val)
        self.sum += self.val * n
        self.count += n
        if self.ema:
            self.avg = self.avg * 0.9 + self.val * 0.1
        else:
            self.avg = self.sum / self.count


class MetricMeter:
    """One AverageMeter for each name, in the order in which names first appear.

    `str(meter)` is the middle part of a training line: "loss 1.2345 (1.2000) acc 50.0000 (48.0000)".

    Parameters
    ----------
    delimiter : str
        Stands between two of them.
    """

    def __init__(self, delimiter: str = " ") -> None:
        self.meters: dict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: dict[str, Any] | None) -> None:
        """Take in a summary {name: number}; None is ignored, anything else is a TypeError."""
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError(f"a summary must be a dict of numbers or None, got {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
