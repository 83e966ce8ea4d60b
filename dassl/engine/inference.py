"""Trainers without data: what is left of one when only class names are known, which is all that predictions need.

And what a trainer has learned as plain tensors, to be carried elsewhere than in its checkpoints.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from dassl.utils.checkpoint import restore_training
from dassl.utils.tools import StrPath

__all__ = ["ClassList", "learned_state", "load_learned_state", "without_data"]

T = TypeVar("T")


class ClassList:
    """Stands where a data manager and its data set do: it knows the classes, and holds no image.

    Parameters
    ----------
    classnames : sequence of str
        Class names by label; fewer than two are a ValueError.
    """

    train_loader_x = train_loader_u = val_loader = test_loader = None
    num_source_domains = 0

    def __init__(self, classnames: Sequence[str]) -> None:
        if len(classnames) < 2:
            given = f"the only class is {classnames[0]!r}" if classnames else "no class names given"
            raise ValueError(f"{given}: at least two classes are needed, or every prediction is the same")
        self.classnames = [str(name) for name in classnames]
        self.num_classes = len(self.classnames)
        self.lab2cname = dict(enumerate(self.classnames))
        self.train_x: list[Any] = []
        self.val: list[Any] = []
        self.test: list[Any] = []

    @property
    def dataset(self) -> ClassList:
        """Itself: it is data manager and data set in one."""
        return self


def without_data(kind: type[T], classnames: Sequence[str]) -> type[T]:
    """Make a trainer class that reads no data set.

    Its `dm` is a ClassList. It can load what a run has learned and make predictions; it can neither train nor test.

    Parameters
    ----------
    kind : type
        A subclass of SimpleTrainer.
    classnames : sequence of str
        The classes that it builds its model for, by label.

    Returns
    -------
    type
        A subclass of `kind` under the same name.
    """

    def build_data_loader(self: Any) -> None:
        self._use_data(ClassList(classnames))

    return type(kind.__name__, (kind,), {"build_data_loader": build_data_loader, "__module__": kind.__module__})


def learned_state(trainer: Any) -> dict[str, Tensor]:
    """Return the state of all registered models as {"<model>.<entry>": tensor}.

    It is empty for a trainer that learns nothing.
    """
    return {
        f"{name}.{key}": value
        for name in trainer.get_model_names()
        for key, value in trainer._models[name].state_dict().items()
    }


def load_learned_state(trainer: Any, state: Mapping[str, Tensor], source: StrPath) -> None:
    """Give a trainer what `learned_state` took from one of its kind.

    Parameters
    ----------
    trainer : SimpleTrainer
        Its registered models are changed in place.
    state : mapping
        As `learned_state` returns it.
    source : path
        Where the state is from, for messages.

    Raises
    ------
    RuntimeError
        Where the entries are not those that its models need, or not of their shapes.
    ValueError
        For NaN or infinite numbers.
    """
    strange = [key for key in state if not key.startswith(tuple(f"{name}." for name in trainer.get_model_names()))]
    if strange:
        raise RuntimeError(f"{source} holds {strange[0]!r}, which {trainer.cfg.TRAINER.NAME} does not learn")
    if broken := [key for key, value in state.items() if not value.isfinite().all()]:
        raise ValueError(f"{source} holds NaN or infinite numbers in {broken[0]!r}")
    for name in trainer.get_model_names():
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        restore_training({"state_dict": own}, trainer._models[name], source=str(source))
