"""The code that decides what image features are, and a digest of that and of no other.

It begins where features do, at some classes and functions, and follows every name that they mention through our own
packages, and through other code that no package manager has installed, such as a plugin's: functions and constants,
classes with those of their methods that are mentioned somewhere along the way.
Compared is what computes: comments, docstrings, annotations, and what is only said (printed, warned of, raised) are
left out, so a better message leaves the features valid that are kept on disk.
"""
from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("clip", "dassl", "trainers")
INSTALLED = {"site-packages", "dist-packages"}  # folders of packages, which count by their versions
CALLED_BY_TORCH = ("forward", "backward")
SAYING = ("print", "warnings.warn", "tqdm.write")

Place = tuple[str, str]  # module, and a name in it: "function", "Class" or "Class.method"


def code_digest(starts: Iterable[Callable[..., Any]]) -> str:
    """Digest the code that `starts` lead to, as SHA-256 (hex); what of them is not ours is passed over."""
    text = "\n".join(f"{name}\n{code}" for (_, name), code in sorted(code_of(starts).items()))
    return hashlib.sha256(text.encode()).hexdigest()


def code_of(starts: Iterable[Callable[..., Any]]) -> dict[Place, str]:
    """Collect everything that some classes and functions lead to, without what does not compute.

    Returns
    -------
    dict
        {(module, name): code without comments and messages}; a class without its methods, which stand for themselves.
    """
    return dict(_code_of(frozenset((start.__module__, start.__qualname__) for start in starts)))


@lru_cache(maxsize=64)
def _code_of(starts: frozenset[Place]) -> dict[Place, str]:
    """Follow names breadth-first from `starts`.

    A method counts when its class was reached and its name is mentioned anywhere on the way: what object a name is an
    attribute of is not known, so rather one method too many is followed.
    """
    collected: dict[Place, str] = {}
    methods: dict[str, list[tuple[Place, ast.stmt]]] = {}  # of classes that were reached, by name, not yet mentioned
    mentioned = set(CALLED_BY_TORCH)
    waiting: list[tuple[Place, list[ast.stmt]]] = []

    def find(place: Place | None) -> None:
        if place is not None and place not in collected and place[1] in _module(place[0]).definitions:
            collected[place] = ""
            waiting.append((place, _module(place[0]).definitions[place[1]]))

    for module, name in starts:
        if _is_ours(module):
            whole = name in _module(module).definitions  # a method is; what is defined in a function comes with that
            find((module, name if whole else name.partition(".")[0]))
    while waiting:
        (module, name), statements = waiting.pop()
        for statement in statements:
            if isinstance(statement, ast.ClassDef):
                statement, own = _without_methods(statement)  # type: ignore[assignment]
                for method in own:
                    methods.setdefault(method.name, []).append(((module, f"{name}.{method.name}"), method))
            collected[module, name] += ast.unparse(statement) + "\n"
            for node in ast.walk(statement):
                if isinstance(node, ast.Attribute):
                    mentioned.add(node.attr)
                    if isinstance(node.value, ast.Name):
                        find(_resolve(module, node.value.id, node.attr))
                elif isinstance(node, ast.Name):
                    find(_resolve(module, node.id))
        for known in [key for key in methods if key in mentioned or key.startswith("__")]:
            for place, code in methods.pop(known):
                if place not in collected:
                    collected[place] = ""
                    waiting.append((place, [code]))
    return collected


class _Module(NamedTuple):
    """A module's source as far as it is followed.

    Attributes
    ----------
    definitions
        By name: the statements that make it, at the top level.
    imports
        By name: the module, and the name in it ("" for the module itself).
    """

    definitions: dict[str, list[ast.stmt]]  # by name: what makes it, at the top level
    imports: dict[str, tuple[str, str]]  # by name: the module, and the name in it ("" for the module itself)


@cache
def _module(name: str) -> _Module:
    """Parse the source of an imported module, once for a process."""
    tree = _Computing().visit(ast.parse(inspect.getsource(sys.modules[name])))
    module = _Module({}, {})
    for statement in _top_level(tree.body):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                module.imports[alias.asname or alias.name.partition(".")[0]] = (alias.name, "")
        elif isinstance(statement, ast.ImportFrom):
            package = sys.modules[name].__package__ or ""
            above = package.rsplit(".", statement.level - 1)[0] if statement.level else ""
            source = ".".join(part for part in (above, statement.module) if part)
            for alias in statement.names:
                inner = f"{source}.{alias.name}"
                target = (inner, "") if inner in sys.modules else (source, alias.name)
                module.imports[alias.asname or alias.name] = target
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            module.definitions.setdefault(statement.name, []).append(statement)
            for method in _without_methods(statement)[1] if isinstance(statement, ast.ClassDef) else ():
                module.definitions.setdefault(f"{statement.name}.{method.name}", []).append(method)
        else:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    module.definitions.setdefault(node.id, []).append(statement)
    return module


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those of its `try` and `if` blocks too."""
    for statement in body:
        if isinstance(statement, ast.Try | ast.If):
            parts = [*statement.body, *statement.orelse]
            for handler in getattr(statement, "handlers", []):
                parts += handler.body
            yield from _top_level([*parts, *getattr(statement, "finalbody", [])])
        else:
            yield statement


def _resolve(module: str, name: str, attribute: str = "") -> Place | None:
    """Find where `name`, or an `attribute` of the module of that name, is defined; None outside of our code."""
    if not _is_ours(module):
        return None
    if name in _module(module).definitions:
        return None if attribute else (module, name)
    if name not in _module(module).imports:
        return None
    source, original = _module(module).imports[name]
    if not original:
        return _resolve(source, attribute) if attribute else None
    return None if attribute else _resolve(source, original)


def _is_ours(module: str) -> bool:
    """Whether a module is imported, and of one of our packages or not installed by a package manager."""
    return module in sys.modules and (module.partition(".")[0] in PACKAGES or _is_plain_code(module))


@cache
def _is_plain_code(module: str) -> bool:
    """Whether a module is a Python file that belongs to no installed package, so that no version stands for it."""
    file = Path(getattr(sys.modules[module], "__file__", None) or "")
    if file.suffix != ".py" or not file.is_file() or INSTALLED & set(file.parts):
        return False
    return not file.resolve().is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())


def _without_methods(node: ast.ClassDef) -> tuple[ast.ClassDef, list[ast.FunctionDef]]:
    """Split a class into what it is without its methods, and those."""
    own = [statement for statement in node.body if isinstance(statement, ast.FunctionDef)]
    rest = [statement for statement in node.body if statement not in own] or [ast.Pass()]
    return ast.ClassDef(**{**{field: getattr(node, field) for field in node._fields}, "body": rest}), own


class _Computing(ast.NodeTransformer):
    """Takes away what computes nothing: docstrings, annotations, and what is only said, warned of or raised."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        value = node.value
        says = isinstance(value, ast.Call) and ast.unparse(value.func) in SAYING
        return ast.Pass() if says or isinstance(value, ast.Constant) else self.generic_visit(node)  # type: ignore[return-value]

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        return ast.Raise()

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return ast.Assert(test=node.test)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(arg=node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)  # the field of a named tuple is more than an annotation
        return self.generic_visit(node)
