"""RandAugment (Cubuk et al., NeurIPS 2020) and two relatives that draw the strength anew for each operation.

All take and return a PIL image and use torchvision's operations.
"""

from __future__ import annotations

from torchvision import transforms as T

STRENGTHS = 31  # magnitudes 0, 1, ..., 30 as in the paper


class RandAugment(T.RandAugment):
    """`n` random operations, all of strength `m` (0 to 30)."""

    def __init__(self, n: int = 2, m: int = 10) -> None:
        if not 0 <= m < STRENGTHS:
            raise ValueError(f"RandAugment strength is {m}; it must be between 0 and {STRENGTHS - 1}")
        super().__init__(num_ops=n, magnitude=m, num_magnitude_bins=STRENGTHS)


class RandAugment2(T.Compose):
    """`n` random operations of random strength, each applied with probability `p`."""

    def __init__(self, n: int = 2, p: float = 0.6) -> None:
        one_operation = T.RandomChoice([RandAugment(1, m) for m in range(STRENGTHS)])
        super().__init__([T.RandomApply([one_operation], p=p) for _ in range(n)])


class RandAugmentFixMatch(RandAugment2):
    """`n` random operations of random strength, always applied (FixMatch, Sohn et al., NeurIPS 2020)."""

    def __init__(self, n: int = 2) -> None:
        super().__init__(n, p=1.0)
