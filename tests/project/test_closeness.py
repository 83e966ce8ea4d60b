import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.closeness import assert_close, relative_difference


@given(st.floats(1e-6, 1e6), st.floats(1e-9, 1e-2))
def test_differences_are_relative_to_the_size(size, part):
    expected = np.array([size, 0.0, -size / 2])
    found = relative_difference(expected + np.array([0.0, part * size, 0.0]), expected)
    assert found == pytest.approx(part) and relative_difference(expected, expected) == 0
    assert relative_difference(expected * (1 + part), expected, floor=2 * size) == pytest.approx(part / 2, rel=1e-6)


@pytest.mark.parametrize("wrong", [[1.0, float("nan")], [1.0], [1.0, 2.1], float("inf")])
def test_what_is_not_close(wrong):
    assert_close(torch.tensor([1.0, 2.0]), [1.0, 2.0])
    with pytest.raises(AssertionError):
        assert_close(wrong, [1.0, 2.0])


def test_no_test_has_a_tolerance_that_was_fitted_to_one_processor():
    """A constant absolute tolerance holds for numbers of one size only."""
    for path in Path(__file__).parents[1].glob("**/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in ("atol", "abs") and isinstance(node.value, ast.Constant):
                assert node.value.value == 0, f"{path}:{node.value.lineno}: use assert_close(ours, expected)"
