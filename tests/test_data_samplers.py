"""Samplers: what a batch and an epoch consist of."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import RandomSampler, SequentialSampler

from dassl.data.samplers import RandomClassSampler, RandomDomainSampler, SeqDomainSampler, build_sampler


def items(attribute: str, counts: list[int]) -> list[SimpleNamespace]:
    """counts[k] items with value k, interleaved."""
    values = [(position / count, k) for k, count in enumerate(counts) for position in range(count)]
    return [SimpleNamespace(**{attribute: k}) for _, k in sorted(values)]


def batches(sampler, size: int) -> list[list[int]]:
    order = list(sampler)
    assert len(order) % size == 0
    return [order[start : start + size] for start in range(0, len(order), size)]


COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, share=st.integers(1, 4), n_domain=st.integers(0, 5))
def test_random_domain_sampler(counts, share, n_domain):
    assume(n_domain <= len(counts))
    data, domains = items("domain", counts), n_domain or len(counts)
    sampler = RandomDomainSampler(data, share * domains, n_domain)
    order = list(sampler)
    assert len(set(order)) == len(order)
    for batch in batches(sampler, share * domains):
        assert sorted(Counter(data[position].domain for position in batch).values()) == [share] * domains
    assert all(len(list(sampler)) == len(sampler) for _ in range(5))
    if n_domain == 0:
        assert len(order) == min(counts) // share * share * domains


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, share=st.integers(1, 4))
def test_sequential_domain_sampler(counts, share):
    data = items("domain", counts)
    sampler = SeqDomainSampler(data, share * len(counts))
    seen = list(sampler)
    assert len(seen) == len(sampler) == min(counts) // share * share * len(counts)
    for domain in range(len(counts)):
        of_domain = [position for position in seen if data[position].domain == domain]
        assert of_domain == [p for p, item in enumerate(data) if item.domain == domain][: len(of_domain)]


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, n_ins=st.integers(1, 4), classes=st.integers(1, 5))
def test_random_class_sampler(counts, n_ins, classes):
    assume(classes <= len(counts))
    data = items("label", counts)
    sampler = RandomClassSampler(data, classes * n_ins, n_ins)
    random.seed(0)
    np.random.seed(0)
    seen = batches(sampler, classes * n_ins)
    assert len(seen) >= 1
    for batch in seen:
        labels = Counter(data[position].label for position in batch)
        assert sorted(labels.values()) == [n_ins] * classes
    assert all(len(list(sampler)) == len(sampler) for _ in range(5))
    uses = Counter(position for batch in seen for position in batch)
    assert all(count == 1 or counts[data[position].label] < n_ins for position, count in uses.items())


def test_an_epoch_repeats_with_the_random_state_and_building_draws_nothing():
    data = [SimpleNamespace(label=k % 4, domain=k % 3) for k in range(40)]
    random.seed(1)
    state = random.getstate()
    samplers = [RandomClassSampler(data, 6, 3), RandomDomainSampler(data, 6, 2)]
    assert random.getstate() == state
    for sampler in samplers:
        random.seed(2)
        first = list(sampler)
        assert list(sampler) != first
        random.seed(2)
        assert list(sampler) == first


def test_build_sampler():
    data = items("label", [3, 3])
    assert isinstance(build_sampler("RandomSampler", data_source=data), RandomSampler)
    assert list(build_sampler("SequentialSampler", data_source=data)) == list(range(6))
    assert isinstance(build_sampler("SequentialSampler", None, data), SequentialSampler)
    assert isinstance(
        build_sampler("RandomClassSampler", data_source=data, batch_size=4, n_ins=2), RandomClassSampler
    )
    with pytest.raises(ValueError, match="'Random'; known: RandomSampler"):
        build_sampler("Random", data_source=data)


def test_impossible_requests_say_why():
    domains, labels = items("domain", [3, 3]), items("label", [3, 3])
    with pytest.raises(ValueError, match="N_DOMAIN is 3, but the data has only 2"):
        RandomDomainSampler(domains, 6, 3)
    with pytest.raises(ValueError, match="not divisible"):
        RandomDomainSampler(domains, 5, 0)
    with pytest.raises(ValueError, match="not divisible"):
        SeqDomainSampler(domains, 3)
    with pytest.raises(ValueError, match="between 1 and the batch size, 4"):
        RandomClassSampler(labels, 4, 8)
    with pytest.raises(ValueError, match="needs 4 classes"):
        RandomClassSampler(labels, 8, 2)
