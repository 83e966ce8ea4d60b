"""A table from names to classes or functions."""
from __future__ import annotations

from typing import Any

from .tools import did_you_mean

__all__ = ["Registry"]


class Registry:
    """Objects filed under their own `__name__`; names are case-sensitive.

    Parameters
    ----------
    name : str
        What the objects are, for messages.

    Examples
    --------
    >>> SHAPES = Registry("SHAPE")
    >>> @SHAPES.register()
    ... class Circle: ...
    >>> SHAPES.get("Circle") is Circle
    True
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """File `obj`, or return a decorator that does. `force` replaces an object of the same name.

        Raises KeyError when the name is taken and `force` is off.
        """
        if obj is None:
            return lambda decorated: self._file(decorated, force)
        self._file(obj, force)
        return None

    def _file(self, obj: Any, force: bool) -> Any:
        name = obj.__name__
        if name in self._obj_map and not force:
            raise KeyError(
                f'An object named "{name}" was already registered in "{self._name}" registry; '
                "give it another name, or register with force=True to replace the old one"
            )
        self._obj_map[name] = obj
        return obj

    def get(self, name: str) -> Any:
        """Return the object filed under `name`; KeyError, with the nearest known name, when there is none."""
        if name not in self._obj_map:
            raise KeyError(
                f'Object name "{name}" does not exist in "{self._name}" registry'
                + did_you_mean(name, self._obj_map)
            )
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        """All names, in the order of their registration."""
        return list(self._obj_map)

    def __contains__(self, name: object) -> bool:
        return name in self._obj_map
