"""Packages whose names are imported when they are first used, so that importing the package costs nothing.

Loading torch takes seconds and hundreds of megabytes; most of what `dassl.utils` and its neighbours offer needs none
of it. Their `__init__` lists what they offer in `__all__`, shows the imports to type checkers and editors under
TYPE_CHECKING, and leaves the rest to `lazy_imports` (PEP 562).
"""
from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["lazy_imports"]


def lazy_imports(package: str, *modules: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package that imports `modules` only when one of their names is used.

    Parameters
    ----------
    package : str
        The package's `__name__`. Its `__all__` must list every name that may be looked up.
    modules : str
        Modules of the package, the cheapest to import first: they are searched in this order.

    Examples
    --------
    >>> if TYPE_CHECKING:
    ...     from .checkpoint import load_checkpoint
    ... else:
    ...     __getattr__, __dir__ = lazy_imports(__name__, "checkpoint")
    """

    def __getattr__(name: str) -> Any:
        namespace = vars(sys.modules[package])
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name in namespace["__all__"]:
            for module in modules:
                if name in (defined := vars(importlib.import_module(f"{package}.{module}"))):
                    return namespace.setdefault(name, defined[name])
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        namespace = vars(sys.modules[package])
        return sorted({*namespace, *namespace["__all__"]})

    return __getattr__, __dir__
