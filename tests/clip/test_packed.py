"""Frozen weights in the library's own layout give the products of the plain ones, and follow their weights."""
import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from clip.packed import FrozenLinear, PackedLinear, can_pack, pairwise
from tests.support.closeness import assert_close


def made(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linear(inputs, outputs, dtype=torch.float32, bias=True):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias).to(dtype).requires_grad_(False)


@settings(max_examples=30, deadline=None)
@given(
    leading=st.lists(st.integers(1, 5), min_size=1, max_size=3), inputs=st.integers(1, 70), outputs=st.integers(1, 70),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), bias=st.booleans(),
)
def test_products_and_gradients_of_the_plain_layer(leading, inputs, outputs, dtype, bias):
    layer = linear(inputs, outputs, dtype, bias)
    frozen = FrozenLinear(layer.weight, layer.bias)
    x = made(*leading, inputs, dtype=dtype).requires_grad_()
    y, expected = frozen(x), layer(x)
    assert y.shape == expected.shape and y.dtype == expected.dtype
    weights = made(*y.shape, seed=1, dtype=dtype)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (y, expected)]
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    assert_close(y, expected, tolerance, floor=1)
    assert_close(*gradients, tolerance, floor=1)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), width=st.integers(1, 40))
def test_pairwise(rows, columns, width):
    x, y = made(rows, width).requires_grad_(), made(columns, width, seed=1).requires_grad_()
    weights = made(rows, columns, seed=2)
    for ours, plain in zip(
        torch.autograd.grad((pairwise(x, y) * weights).sum(), (x, y)),
        torch.autograd.grad(((x @ y.t()) * weights).sum(), (x, y)), strict=True,
    ):
        assert_close(ours, plain, 1e-5, floor=1)
    assert_close(pairwise(x, y), x @ y.t(), 1e-5, floor=1)


def test_empty_input():
    assert FrozenLinear(linear(4, 3).weight)(torch.ones(0, 4)).shape == (0, 3)
    assert pairwise(torch.ones(0, 4), torch.ones(2, 4)).shape == (0, 2)


def test_only_frozen_float32_weights_are_packed():
    layer = linear(4, 3)
    assert not can_pack(layer.weight.double()) and not can_pack(layer.weight.clone().requires_grad_())
    trained = nn.Linear(4, 3)
    PackedLinear(trained)(torch.ones(2, 4)).sum().backward()
    assert trained.weight.grad is not None


@pytest.mark.parametrize("change", ["in place", "replaced", "converted", "loaded"])
def test_a_changed_weight_is_noticed(change):
    layer = PackedLinear(linear(8, 5))
    x = made(3, 8)
    layer(x)
    if change == "in place":
        layer.weight.mul_(2.0)
    elif change == "replaced":
        layer.weight = nn.Parameter(made(5, 8, seed=3), requires_grad=False)
    elif change == "converted":
        layer.double()
        x = x.double()
    else:
        layer.load_state_dict({"weight": made(5, 8, seed=4), "bias": made(5, seed=5)})
    assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_keeps_names_and_can_be_copied():
    plain = linear(8, 5)
    packed = PackedLinear(plain)
    assert packed.weight is plain.weight and list(packed.state_dict()) == ["weight", "bias"]
    x = made(3, 8)
    before = packed(x)
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        other.weight.zero_()
        assert not torch.equal(other(x), before)
    assert_close(packed(x), before)


def test_in_inference_mode():
    with torch.inference_mode():
        assert_close(PackedLinear(linear(8, 5))(made(3, 8)), linear(8, 5)(made(3, 8)))
