"""Trainers without data: what is left of one when only class names are known, which is all that predictions need."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

__all__ = ["ClassList", "without_data"]

T = TypeVar("T")


class ClassList:
    """Stands where a data manager and its data set do: it knows the classes, and holds no image."""

    train_loader_x = train_loader_u = val_loader = test_loader = None
    num_source_domains = 0

    def __init__(self, classnames: Sequence[str]) -> None:
        if not classnames:
            raise ValueError("no class names given: at least one class is needed")
        self.classnames = [str(name) for name in classnames]
        self.num_classes = len(self.classnames)
        self.lab2cname = dict(enumerate(self.classnames))
        self.train_x: list[Any] = []
        self.val: list[Any] = []
        self.test: list[Any] = []

    @property
    def dataset(self) -> ClassList:
        return self


def without_data(kind: type[T], classnames: Sequence[str]) -> type[T]:
    """A trainer class like `kind`, a SimpleTrainer, that reads no data set: it builds its model for these classes.

    Its `dm` is a ClassList.  It can load what a run has learned and make predictions; it can neither train nor test.
    """

    def build_data_loader(self: Any) -> None:
        self.dm = ClassList(classnames)
        self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
        self.num_classes, self.lab2cname = self.dm.num_classes, self.dm.lab2cname
        self.num_source_domains = self.dm.num_source_domains

    return type(kind.__name__, (kind,), {"build_data_loader": build_data_loader, "__module__": kind.__module__})
