"""What a setting may be: one rule a setting, written once beside the setting and enforced wherever it comes in.

A rule knows neither the name under which a value was given nor what the value is for, so a config key and the argument
of a function can share it: the key's message names the key, the function's the argument.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A condition on a value, and how to say it.

    Parameters
    ----------
    holds
        Whether a value is allowed.
    wording
        What stands behind "must be" in the message.
    remedy
        What else helps whoever meets the message; begins with its own punctuation.
    """

    holds: Callable[[Any], bool]
    wording: str
    remedy: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError, calling the value `name`, unless it is allowed."""
        if not self.holds(value):
            raise ValueError(f"{name} must be {self.wording}, got {value!r}{self.remedy}")


def check_all(rules: Mapping[str, Rule], **values: Any) -> None:
    """Check arguments by the rules of the same names."""
    for name, value in values.items():
        rules[name].check(name, value)


def at_least(least: float) -> Rule:
    """Allow finite numbers from `least` upwards."""
    return Rule(lambda value: least <= value < math.inf, f"at least {least}")


def between(least: int, most: int, remedy: str = "") -> Rule:
    """Allow numbers from `least` to `most`, both included."""
    return Rule(lambda value: least <= value <= most, f"from {least} to {most}", remedy)


def above_zero(original: float) -> Rule:
    """Allow positive finite numbers; the message recommends the original's value."""
    return Rule(lambda value: 0 < value < math.inf, "above 0", f"; the original uses {original}")


def one_of(allowed: Iterable[Any], remedy: str = "") -> Rule:
    """Allow the members of a collection, which the message lists."""
    allowed = tuple(allowed)
    return Rule(lambda value: value in allowed, f"one of {', '.join(map(str, allowed))}", remedy)


def two_numbers(least: float) -> Rule:
    """Allow pairs of finite numbers from `least` upwards."""

    def holds(pair: Any) -> bool:
        return len(pair) == 2 and all(isinstance(n, int | float) and least <= n < math.inf for n in pair)

    return Rule(holds, f"two numbers of at least {least}, for beta and for alpha")
