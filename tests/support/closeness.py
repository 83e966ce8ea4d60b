"""Floats are compared relative to the size of what is compared, so that a test holds on every processor.

Another instruction set or number of threads sums in another order. What that changes is a few units in the last place
of the *largest* numbers that took part, so a difference says nothing before it is divided by them.
"""
from __future__ import annotations

from tests.conformance.compare import as_array, compare


def relative_difference(ours: object, expected: object, floor: float = 0.0) -> float:
    """Largest |ours - expected| over the largest |expected|, or over `floor` if larger; NaN for other shapes.

    A number as `expected` stands for an array of it. `floor` is the size of what the compared numbers were computed
    from, where they themselves may be small or zero: 1 for cosines, say, or for sums that cancel.
    """
    ours, expected = as_array(ours), as_array(expected)
    if expected.ndim == 0:
        expected = expected + 0 * ours
    return compare("", ours, expected, least=floor).relative


def assert_close(ours: object, expected: object, tolerance: float = 1e-5, floor: float = 0.0) -> None:
    """`relative_difference` is at most `tolerance`, by default that of a float32 network; NaN is never close."""
    difference = relative_difference(ours, expected, floor)
    assert difference <= tolerance, (
        f"differs by {difference:.2e} of its size, allowed are {tolerance:.0e}\nours: {ours}\nexpected: {expected}")
