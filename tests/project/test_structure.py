"""No list of names: what there is of trainers and data sets is asked of the registries, and of nothing else."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainers  # noqa: F401  (registers them)
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from datasets.catalogue import declared
from tests.support.programs import REPOSITORY

OWN_PLACES = ("trainers/", "datasets/loaders/", "tests/", "benchmarks/")  # benchmarks measure chosen methods
TRAINERS = frozenset(name for name in TRAINER_REGISTRY.registered_names())
DATASETS = frozenset(DATASET_REGISTRY.registered_names()) | {kind.config for kind in declared()}


def sources() -> list[Path]:
    """Every Python file of the repository that may know no names."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in listed.stdout.splitlines() if not name.startswith(OWN_PLACES)]


def lists_of_names(text: str) -> Iterator[tuple[int, list[str]]]:
    """The line of every list in Python source that has two names of trainers or of data sets, and which.

    A list is a literal list, tuple, set or dict with whatever is nested in it, a call with names for arguments, or text
    that is split into words.  Prose, as in docstrings, is none.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            constants = {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)}
        elif isinstance(node, ast.Call):
            words = node.func.value if isinstance(node.func, ast.Attribute) and "split" in node.func.attr else None
            constants = {inner.value for inner in node.args if isinstance(inner, ast.Constant)}
            if isinstance(words, ast.Constant) and isinstance(words.value, str):
                constants = set(words.value.split())
        else:
            continue
        for registered in (TRAINERS, DATASETS):
            if len(names := constants & registered) > 1:
                yield node.lineno, sorted(names)


@pytest.mark.parametrize(("text", "count"), [
    ('["PLOT", "CoOp"]', 1),
    ('("PLOT", "Demo")', 0),  # one of each kind
    ('{"dtd": 1, "eurosat": 2}', 1),
    ('{"first": {"trainer": "PLOT"}, "second": {"trainer": "CoOp"}}', 1),
    ('"dtd eurosat".split()', 1),
    ('frozenset({"ImageNet", "ImageNetV2"})', 1),
    ('one_of("PLOT", "PLOTPP")', 1),
    ('"""Of PLOT and CoOp."""', 0),
    ('print("PLOT or CoOp")', 0),
])
def test_lists_are_recognised(text, count):
    assert len(list(lists_of_names(text))) == count


def test_nothing_lists_trainers_or_data_sets():
    lists = [
        f"{path.relative_to(REPOSITORY)}:{line}: {', '.join(names)}"
        for path in sources()
        for line, names in lists_of_names(path.read_text(encoding="utf-8"))
    ]
    assert not lists, "ask the registry, or let the class declare what is asked for"
