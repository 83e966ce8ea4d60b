"""Reading JSON and YAML that others may have written, or torn: all that can be wrong with a file is a ValueError.

What is read nests at most MOST_LEVELS deep, so that whoever walks it down does not fall off the stack, and a small file
of aliases of aliases cannot unfold into a huge tree. A shape says, as data, what a tree must hold (see `wrong`):

    {"name": TEXT, "rows": Maybe([{"count": COUNT}])}

TEXT, NUMBER, WHOLE, COUNT and PERCENT are tests of one value, spelled as the constants that they are in a shape.
"""
from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

__all__ = [
    "COUNT", "Each", "Maybe", "NUMBER", "PERCENT", "TEXT", "WHOLE", "load_json", "load_yaml", "parse_json", "wrong",
]  # fmt: skip

MOST_LEVELS = 50
TOO_DEEP = f"it nests more than {MOST_LEVELS} levels deep"
MOST_NODES = 100_000  # of YAML, where aliases multiply
MOST_BYTES = 1_000_000  # of YAML, which is read slowly: a config has 10 kB
LARGEST = 10**15  # no number of a record is as large
CONTAINERS = {dict, list, tuple, set}  # what files are read into, and no sub-classes of these

# --- files -----------------------------------------------------------------------------------------------


def load_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file in UTF-8.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where it is not JSON, or nests too deep.
    """
    return parse_json(Path(path).read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Read JSON; ValueError where it is none, or nests too deep."""
    try:
        tree = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _measure(tree, len(text))
    return tree


def load_yaml(path: str | os.PathLike[str]) -> Any:
    """Read a YAML file of plain data, with the limits above.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where it is not YAML, asks for other objects than plain data, or is too large or too deep.
    """
    if os.path.getsize(path) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
    text = Path(path).read_text(encoding="utf-8")
    try:
        tree = yaml.load(text, _Loader)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # not only its own: a scalar that is not of the type it claims (!!bool x) is a KeyError
        raise ValueError(" ".join(str(error).split())) from error
    _measure(tree, MOST_NODES)
    return tree


class _Loader(yaml.SafeLoader):
    """Gives up at the level that is too deep, not at the end of the stack, which takes seconds."""

    levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.levels += 1
        if self.levels > MOST_LEVELS:
            raise ValueError(TOO_DEEP)
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


def _measure(tree: Any, most: int) -> None:
    """Raise ValueError for a tree of more than `most` values, or of too many levels; it is walked level by level."""
    level, nodes = [tree] if type(tree) in CONTAINERS else [], 0
    for _ in range(MOST_LEVELS):
        if not level:
            return
        nodes += sum(map(len, level))
        if nodes > most:
            raise ValueError(f"its aliases unfold to more than {most:,} values")
        children = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for values in children for child in values if type(child) in CONTAINERS]
    raise ValueError(TOO_DEEP)


# --- shapes ----------------------------------------------------------------------------------------------


class Maybe(NamedTuple):
    """A value of this shape, or null, or none at all."""

    shape: Any


class Each(NamedTuple):
    """An object with any keys, whose values have this shape."""

    shape: Any


def TEXT(value: Any) -> bool:
    """Accept a string."""
    return isinstance(value, str)


def NUMBER(value: Any) -> bool:
    """Accept a finite number; a truth value is none."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST  # NaN is not


def WHOLE(value: Any) -> bool:
    """Accept a whole number."""
    return type(value) is int and -LARGEST <= value <= LARGEST


def COUNT(value: Any) -> bool:
    """Accept a whole number from 0."""
    return type(value) is int and 0 <= value <= LARGEST


def PERCENT(value: Any) -> bool:
    """Accept a number from 0 to 100."""
    return type(value) in (int, float) and 0 <= value <= 100


def wrong(value: Any, shape: Any, at: str = "") -> str:
    """Find the first place where a tree is not of a shape.

    Parameters
    ----------
    value : object
        A tree as `load_json` returns it.
    shape : object
        A test of a value; a list of one shape, for lists; a dict {key: shape}, for objects, which may have other keys;
        Each; or Maybe.
    at : str
        Where the value lies in the whole tree.

    Returns
    -------
    str
        The place and what is there, "'rows[3].count' (it has -1)"; empty where all is well.
    """
    if _all_fit([value], shape):
        return ""
    if isinstance(shape, Maybe):
        return wrong(value, shape.shape, at)
    test: Callable[[Any], bool] = shape if callable(shape) else lambda node: isinstance(node, kind)
    kind = list if isinstance(shape, list) else dict
    if not test(value):
        return f"{at.lstrip('.')!r} (it has {reprlib.repr(value)})"
    parts: Any = ()
    if isinstance(shape, list):
        parts = ((item, shape[0], f"{at}[{index}]") for index, item in enumerate(value))
    elif isinstance(shape, Each):
        parts = ((item, shape.shape, f"{at}.{key}") for key, item in value.items())
    elif isinstance(shape, dict):
        parts = ((value.get(key), of_key, f"{at}.{key}") for key, of_key in shape.items())
    return next(filter(None, (wrong(*part) for part in parts)), "")


def _all_fit(values: list[Any], shape: Any) -> bool:
    """Tell at once that `wrong` finds nothing in any of these; all rows of a list are asked for one key at a time."""
    if callable(shape):
        return all(map(shape, values))
    if isinstance(shape, Maybe):
        return _all_fit([value for value in values if value is not None], shape.shape)
    kind = list if isinstance(shape, list) else dict
    if not {*map(type, values)} <= {kind}:  # sub-classes are for `wrong` to look at, one by one
        return False
    if isinstance(shape, list):
        return _all_fit([item for value in values for item in value], shape[0])
    if isinstance(shape, Each):
        return _all_fit([item for value in values for item in value.values()], shape.shape)
    return all(_all_fit([value.get(key) for value in values], of_key) for key, of_key in shape.items())
