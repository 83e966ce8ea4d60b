"""The state dict of a TorchScript archive, as OpenAI's releases are, without TorchScript.

`torch.jit.load` runs the archive's own code: a class may bring a `__setstate__`. All that is wanted is in the pickle
`data.pkl`, which holds each module as a dict of its attributes, and in the head of each class in the code, which is
searched as text for the attributes that are parameters and those that are buffers:

    class Linear(Module):
      __parameters__ = ["weight", "bias", ]
      __buffers__ = []
"""
from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dassl.utils.pickle_machine import Refused
from dassl.utils.safe_load import Archive, Inert, reading

CODE_LIMIT = 2**24  # bytes of a file of code, which is compressed
MODULES, DEPTH = 100_000, 100  # OpenAI's largest release has some 400, in 8 levels

LISTS = [f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")]
MAKERS = {name: lambda values: values for name in LISTS}
MAKERS["torch.jit._pickle.restore_type_tag"] = lambda value, kind: value  # type: ignore[assignment,misc]


class _Class(NamedTuple):
    """What the code says of a class."""

    is_module: bool
    parameters: frozenset[str]
    buffers: frozenset[str]
    restores_itself: bool


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """Read what `torch.jit.load(path).state_dict()` gives, on the CPU: the same names, order and number formats.

    Raises
    ------
    dassl.utils.UnsafeCheckpointError
        As `dassl.utils.safe_load.load_file`, and where a module restores itself by code.
    """
    with reading(path) as file:
        archive = Archive(file, stand_ins=("__torch__",))
        return dict(_Walk(archive).entries(archive.unpickle(makers=MAKERS)))


class _Walk:
    """A walk through the tree of modules, in which one may lie in several places."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.code: dict[str, dict[str, _Class]] = {}  # by module, by name
        self.modules = 0

    def entries(self, module: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
        """Yield names and tensors: a module's parameters, its buffers, then those of its parts."""
        kind = self.class_of(module)
        self.modules += 1
        if self.modules > MODULES or depth > DEPTH:
            raise pickle.UnpicklingError("a tree of modules that does not end")
        if kind.restores_itself or type(module.state) is not dict:
            raise Refused(f"its own code to restore {module.pickled_as}")
        for chosen in (kind.parameters, kind.buffers):
            for name, value in module.state.items():
                if name in chosen and isinstance(value, Tensor):
                    yield prefix + name, value.detach()
        for name, value in module.state.items():
            if type(value) is Inert and self.class_of(value).is_module:
                yield from self.entries(value, f"{prefix}{name}.", depth + 1)

    def class_of(self, value: Any) -> _Class:
        """Look up what the archive's code says of the class of a pickled module."""
        if type(value) is not Inert:
            raise pickle.UnpicklingError(f"a {type(value).__name__} where a module belongs")
        module, name = value.pickled_as
        if module not in self.code:
            code = self.archive.read(f"code/{module.replace('.', '/')}.py", CODE_LIMIT).decode()
            self.code[module] = {_name(text): _class(text) for text in re.split(r"^class ", code, flags=re.M)[1:]}
        return self.code[module][name]


def _name(text: str) -> str:
    """Read the name of a class off its code behind the word `class`."""
    return re.match(r"\w*", text)[0]  # type: ignore[index]


def _class(text: str) -> _Class:
    """From the code of a class, behind the word `class`."""

    def listed(what: str) -> frozenset[str]:
        listing = re.search(rf"^  __{what}__ = \[(.*)\]$", text, re.M)
        return frozenset(re.findall(r'"([^"]*)"', listing[1])) if listing else frozenset()

    restores = re.search(r"^  def __setstate__\(", text, re.M) is not None
    return _Class(text.partition(":")[0].endswith("(Module)"), listed("parameters"), listed("buffers"), restores)
