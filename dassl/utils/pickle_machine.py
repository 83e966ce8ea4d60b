"""Read a pickle without calling anything that it names.

A pickle is a little program: it names functions and classes, calls them, and sets attributes of what lies on its stack.
Here a name becomes a `Name`, which is a pair of strings; what a call of it makes is looked up in the caller's list; and
only objects that were made on the way are ever changed. No function, class or module lies where the pickle could reach
it, so a file that is refused half-way leaves this process as it was.
"""
from __future__ import annotations

import collections
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

Maker = Callable[..., Any]

_CONSTANTS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_DICTS = (dict, collections.OrderedDict, collections.Counter)
_MARK = object()


class Refused(pickle.UnpicklingError):
    """A pickle that names, calls or changes something other than plain data; the message is what it asks for."""


class Name(NamedTuple):
    """A function or class that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert:
    """Stands where an object of the class `pickled_as` was: keeps its attributes, can do nothing.

    `state` is what the class would have been given to restore itself: mostly the dict of attributes.
    """

    __slots__ = ("__dict__", "pickled_as", "state")

    def __init__(self, pickled_as: Name) -> None:
        self.pickled_as = pickled_as
        self.state: Any = None


class Machine:
    """Runs pickles that name nothing but what is listed here.

    Parameters
    ----------
    makers : mapping
        Name -> what makes the value of the pickled arguments; None for a name that may stand there, and not be called.
        Those of plain data (`PLAIN`) are known anyway.
    values : mapping
        Name -> the value itself.
    stand_ins : tuple of str
        Modules, with all below them, whose objects become `Inert`.
    storage : callable, optional
        Persistent id -> what it stands for.
    """

    def __init__(
        self,
        makers: Mapping[str, Maker | None],
        values: Mapping[str, Any],
        stand_ins: tuple[str, ...] = (),
        storage: Callable[[Any], Any] | None = None,
    ) -> None:
        self.makers = {**PLAIN, **makers}
        self.values = values
        self.stand_ins = stand_ins
        self.storage = storage

    def run(self, file: IO[bytes]) -> Any:
        """Return the value of the pickle that begins where `file` stands, and leave the file behind it.

        Raises
        ------
        Refused
            For a name that is not listed, and for calls and attributes that plain data has no need of.
        UnpicklingError, ValueError, TypeError, LookupError, AttributeError
            For damage.
        """
        self.stack: list[Any] = []
        memo: dict[int, Any] = {}
        push, pop = self.stack.append, self.stack.pop
        argument: Any
        for code, argument, _ in pickletools.genops(file):  # which only decodes: it runs nothing
            match code.name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return pop()
                case "MARK":
                    push(_MARK)
                case "POP":
                    pop()
                case "POP_MARK":
                    self._to_mark()
                case "DUP":
                    push(self.stack[-1])
                case "NONE" | "NEWTRUE" | "NEWFALSE" as name:
                    push(_FIXED[name])
                case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE" | "EMPTY_SET" as name:
                    push(_EMPTY[name]())
                case "LIST":
                    push(self._to_mark())
                case "TUPLE":
                    push(tuple(self._to_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                    push(tuple([pop() for _ in range(int(name[-1]))][::-1]))
                case "DICT":
                    push(dict(_pairs(self._to_mark())))
                case "FROZENSET":
                    push(frozenset(_keys(self._to_mark())))
                case "APPEND" | "APPENDS" as name:
                    items = self._to_mark() if name == "APPENDS" else [pop()]
                    self._top(list).extend(items)
                case "ADDITEMS":
                    items = _keys(self._to_mark())
                    self._top(set).update(items)
                case "SETITEM" | "SETITEMS" as name:
                    items = self._to_mark() if name == "SETITEMS" else [pop(), pop()][::-1]
                    target = self._top(*_DICTS)
                    for key, value in _pairs(items):
                        target[key] = value
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[argument] = self.stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = self.stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    push(memo[argument])
                case "GLOBAL":
                    push(self._named(*argument.split(" ", 1)))
                case "STACK_GLOBAL":
                    name, module = pop(), pop()
                    push(self._named(module, name))
                case "REDUCE" | "NEWOBJ":
                    arguments, name = pop(), pop()
                    push(self._made(name, arguments))
                case "NEWOBJ_EX":
                    keywords, arguments, name = pop(), pop(), pop()
                    push(self._made(name, arguments, keywords))
                case "INST":
                    push(self._made(self._named(*argument.split(" ", 1)), tuple(self._to_mark())))
                case "OBJ":
                    name, *rest = self._to_mark()
                    push(self._made(name, tuple(rest)))
                case "BUILD":
                    state = pop()
                    _restore(self.stack[-1], state)
                case "BINPERSID" if self.storage is not None:
                    push(self.storage(pop()))
                case constant if constant in _CONSTANTS:
                    push(argument)
                case other:
                    raise pickle.UnpicklingError(f"the instruction {other}, of which plain data has no need")
        raise pickle.UnpicklingError("the pickle has no end")

    def _to_mark(self) -> list[Any]:
        """Take what lies above the last mark off the stack, and the mark."""
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _top(self, *kinds: type) -> Any:
        """Return what lies on top, if it is exactly of one of these kinds: no other has methods that may be called."""
        return _exactly(self.stack[-1], *kinds)

    def _named(self, module: Any, name: Any) -> Any:
        """Return what a name stands for: its value, or the name itself, which may be called."""
        full = Name(_exactly(module, str), _exactly(name, str))
        if str(full) in self.values:
            return self.values[str(full)]
        if str(full) not in self.makers and not self._stands_in(full):
            raise Refused(str(full))
        return full

    def _stands_in(self, name: Name) -> bool:
        return any(name.module == start or name.module.startswith(f"{start}.") for start in self.stand_ins)

    def _made(self, name: Any, arguments: Any, keywords: Any = None) -> Any:
        """Return what a call of a name makes; keyword arguments are for stand-ins only."""
        if type(name) is not Name or type(arguments) is not tuple:
            raise Refused(f"a call of a {type(name).__name__}")
        maker = self.makers.get(str(name))
        if maker is None and self._stands_in(name):
            return Inert(name)
        if maker is None or keywords:
            raise Refused(f"a call of {name}")
        return maker(*arguments)


def _restore(target: Any, state: Any) -> None:
    """Give an object that this pickle has made what it kept: the instruction BUILD."""
    if type(target) is Inert:
        target.state = state
        if type(state) is dict:
            vars(target).update((key, value) for key, value in state.items() if type(key) is str)
    elif type(target) is collections.OrderedDict:  # attributes, of which those of torch's state dicts have one
        vars(target).update((key, value) for key, value in _exactly(state, dict).items() if key == "_metadata")
    elif type(target) is np.ndarray:
        _, shape, dtype, fortran, data = state
        shape = _array(data, dtype, shape).shape
        target.__setstate__((1, shape, dtype.numpy(), bool(fortran), bytes(data)))  # type: ignore[arg-type]
    elif type(target) is _DType:
        target.order = state[1]
    else:
        raise Refused(f"attributes for a {type(target).__name__}")


# --- plain data ------------------------------------------------------------------------------------------


class _DType:
    """Stands for a NumPy dtype of numbers or texts.

    NumPy's own are shared by the whole process, and a pickle would set their state (the order of bytes).
    """

    def __init__(self, name: str, *_: Any) -> None:
        if not re.fullmatch(r"\?|[biufc]\d\d?|[SU]\d{1,6}", name):
            raise Refused(f"NumPy data of type {name}")
        self.name, self.order = name, "|"

    def numpy(self) -> np.dtype:
        """Return NumPy's dtype."""
        return np.dtype(self.name).newbyteorder(self.order)  # type: ignore[arg-type]


def _array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """Make an array of bytes, a `_DType` and a shape; ValueError where the bytes are too few or too many."""
    plain = _exactly(dtype, _DType).numpy()
    size = plain.itemsize * math.prod(lengths(shape))
    if size != len(_exactly(data, bytes, bytearray)):
        raise ValueError(f"{len(data)} bytes for an array of {size}")
    return np.ndarray(shape, plain, bytearray(data), order=order)


def _latin1(text: str, encoding: str) -> bytes:
    """Return bytes that an old protocol has written as text."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"text encoded as {encoding}")
    return text.encode("latin1")


def lengths(shape: Any) -> tuple[int, ...]:
    """Return a shape, or strides, if it is one whose product is computed in no time."""
    if len(shape) > 64 or any(type(length) is not int or not 0 <= length < 2**62 for length in shape):
        raise pickle.UnpicklingError(f"{str(shape)[:80]} where lengths belong")
    return tuple(shape)


def _exactly(value: Any, *kinds: type) -> Any:
    """Return a value if it is of one of these kinds; a subclass, which might do anything, is none of them."""
    if type(value) not in kinds:
        raise pickle.UnpicklingError(f"a {type(value).__name__} where a {kinds[0].__name__} belongs")
    return value


def _keys(items: Any) -> list[Any]:
    """Return items that are to be keys, if they are hashed in no time.

    A tuple may hold another one twice, which holds a third one twice, and so on: to hash thirty of them takes 2**30
    steps.
    """
    items = list(_exactly(items, list, tuple))
    for item in items:
        parts = item if isinstance(item, tuple) else (item,)
        if any(isinstance(part, (tuple, frozenset)) for part in parts):
            raise pickle.UnpicklingError("a key that is nested")
    return items


def _pairs(items: Any) -> list[tuple[Any, Any]]:
    """Return keys and values, from a dict or from a flat list that alternates them."""
    if type(items) in _DICTS:
        return list(items.items())
    return list(zip(_keys(items[::2]), items[1::2], strict=True))


def _ordered(pairs: Any = ()) -> collections.OrderedDict[Any, Any]:
    """Make an OrderedDict of a list of pairs."""
    return collections.OrderedDict(_pairs([part for pair in pairs for part in pair]))


# What plain data names, in all versions of Python and NumPy that have written checkpoints. A defaultdict becomes a
# dict: its factory is a function that the pickle chose.
PLAIN: dict[str, Maker | None] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda factory=None: {},
    "collections.Counter": lambda counts=(): collections.Counter(dict(_pairs(counts))),
    "_codecs.encode": _latin1,
    "numpy.dtype": _DType,
    "numpy.ndarray": None,
}
for _module in ("numpy.core", "numpy._core"):
    PLAIN |= {
        f"{_module}.multiarray._reconstruct": lambda kind, shape, code: np.empty(0),
        f"{_module}.multiarray.scalar": lambda dtype, data: _array(data, dtype, ()).item(),
        f"{_module}.numeric._frombuffer": _array,
    }
for _module in ("builtins", "__builtin__"):
    PLAIN |= {
        f"{_module}.set": lambda items=(): set(_keys(items)),
        f"{_module}.frozenset": lambda items=(): frozenset(_keys(items)),
        f"{_module}.bytes": lambda: b"",
        f"{_module}.bytearray": lambda text="", encoding="latin1": bytearray(_latin1(text, encoding)),
        f"{_module}.complex": lambda real, imaginary: complex(_exactly(real, float), _exactly(imaginary, float)),
    }
    PLAIN |= dict.fromkeys(f"{_module}.{kind}" for kind in ("dict", "list", "tuple", "int", "float", "bool", "str"))
