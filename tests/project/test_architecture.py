"""The shape of the house: what may import what, no cycles, and folders that show what they hold.

docs/architecture.md draws it and gives the reasons.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.programs import REPOSITORY

FLOORS = [  # a package imports from floors below its own, and nothing else of ours
    {"dassl"},
    {"clip"},
    {"trainers", "demo"},
    {"datasets"},
    {"runs"},
    {"results"},
    {"predict"},
    {"plot", "train", "scripts"},
    {"benchmarks", "study"},
]
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}
APART = {("datasets", "trainers")}  # neighbours that do not know each other, although one stands higher
MOST_MODULES = 15  # of a folder; two of them are usually __init__ and __main__
MOST_LEVELS = 5  # of inheritance, from the engine's first trainer class to PLOT


@cache
def modules() -> dict[str, Path]:
    """All modules but the tests', by their dotted names; a package by its own."""
    found = {}
    for path in sorted(REPOSITORY.glob("**/*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        if parts[0] in FLOOR:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str) -> Iterator[str]:
    """The modules of ours that a module imports, within its functions as well."""
    path = modules()[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{source}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            while target and target not in modules():
                target = target.rpartition(".")[0]
            if target and target != name:
                yield target


def top(name: str) -> str:
    return name.partition(".")[0]


def test_imports_point_down():
    wrong = [
        f"{name} imports {target}"
        for name in modules()
        for target in imports_of(name)
        if top(name) != top(target) and (FLOOR[top(target)] >= FLOOR[top(name)] or (top(name), top(target)) in APART)
    ]
    assert not wrong


def is_program(name: str) -> bool:
    """Whether a module is started by a user, and so stands above the package that it lies in."""
    return '__name__ == "__main__"' in modules()[name].read_text(encoding="utf-8")


def test_sub_packages_have_no_cycle():
    """Programs and the `__init__` of a package may import its sub-packages; its other modules stand below them."""
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, path in modules().items():
        if is_program(name):
            continue
        folder = name if path.name == "__init__.py" else name.rpartition(".")[0] or name
        for target in imports_of(name):
            other = target if modules()[target].name == "__init__.py" else target.rpartition(".")[0] or target
            if other != folder and not (path.name == "__init__.py" and other.startswith(f"{folder}.")):
                arrows[folder].add(other)

    def reached(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for other in arrows[waiting.pop()] - seen:
                seen.add(other)
                waiting.append(other)
        return seen

    cycles = sorted(folder for folder in list(arrows) if folder in reached(folder))
    assert not cycles


@pytest.mark.parametrize("package", sorted(FLOOR))
def test_a_folder_shows_what_it_holds(package):
    count: dict[Path, int] = defaultdict(int)
    for name, path in modules().items():
        if top(name) == package:
            count[path.parent.relative_to(REPOSITORY)] += 1
    full = {str(folder): number for folder, number in count.items() if number > MOST_MODULES}
    assert not full, f"at most {MOST_MODULES} modules"


def test_plot_stands_on_few_levels():
    from dassl.engine import TRAINER_REGISTRY, TrainerBase
    from trainers import plot

    assert TRAINER_REGISTRY.get("PLOT") is plot.PLOT
    levels = [kind for kind in plot.PLOT.__mro__ if issubclass(kind, TrainerBase)]
    assert len(levels) <= MOST_LEVELS, levels


def test_the_engine_knows_no_method():
    """dassl/ names no trainer of ours: it could train any classifier."""
    from trainers import plot  # noqa: F401  (registers them)

    for name, path in modules().items():
        if top(name) == "dassl":
            strings = {
                node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }  # fmt: skip
            assert not strings & {"PLOT", "PLOTPP", "TipAdapter", "TipAdapterF", "PLOTAdapter"}, name
