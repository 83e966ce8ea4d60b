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
    data = items("domain", counts)[::-1]  # where the domains are not met in their order
    sampler = SeqDomainSampler(data, share * len(counts))
    seen = list(sampler)
    assert len(seen) == len(set(seen)) == len(sampler) == min(counts) // share * share * len(counts)
    assert [data[p].domain for p in seen] == [d for d in range(len(counts)) for _ in range(share)] * (
        len(seen) // (share * len(counts))
    )


def test_sequential_domain_sampler_draws_within_the_domains():
    data = items("domain", [20, 20])
    sampler = SeqDomainSampler(data, 8)
    assert list(sampler) != list(sampler) and list(sampler)[:4] != [0, 2, 4, 6]


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


def test_an_epoch_repeats_with_the_random_state():
    data = [SimpleNamespace(label=k % 4, domain=k % 3) for k in range(40)]
    for sampler in (RandomClassSampler(data, 6, 3), RandomDomainSampler(data, 6, 2), SeqDomainSampler(data, 6)):
        random.seed(2)
        first = list(sampler)
        assert list(sampler) != first
        random.seed(2)
        assert list(sampler) == first


# of the public code of Dassl 0.6.3, on the data below: its first epoch, and the next number of `random`
ORDERS = [
    (lambda data: RandomDomainSampler(data, 6, 0), 1, 0.438962,
     [12, 0, 20, 23, 4, 22, 17, 8, 19, 16, 15, 18, 11, 14, 21, 9, 13, 10, 6, 3, 1, 7, 5, 2]),
    (lambda data: RandomDomainSampler(data, 4, 2), 2, 0.353787,
     [19, 13, 8, 14, 9, 0, 5, 11, 18, 21, 20, 23, 17, 2, 12, 15]),
    (lambda data: SeqDomainSampler(data, 6), 1, 0.12089,
     [0, 21, 2, 11, 10, 22, 18, 3, 20, 8, 13, 19, 9, 15, 14, 17, 4, 16, 12, 6, 23, 5, 1, 7]),
    (lambda data: RandomClassSampler(data, 6, 3), 1, 0.507717,
     [17, 9, 21, 10, 2, 14, 8, 12, 4, 11, 3, 19, 5, 1, 13, 23, 22, 23]),
]  # fmt: skip


@pytest.mark.parametrize(("build", "seed", "following", "order"), ORDERS)
def test_the_order_for_a_seed_is_the_originals(build, seed, following, order):
    data = [SimpleNamespace(label=k * 7 % 4 if k < 22 else 4, domain=k * 5 % 3) for k in range(24)]
    random.seed(seed)
    np.random.seed(seed)
    sampler = build(data)  # draws an epoch, too
    assert list(sampler) == order and round(random.random(), 6) == following


def test_build_sampler():
    data = items("label", [3, 3])
    assert isinstance(build_sampler("RandomSampler", data_source=data), RandomSampler)
    assert list(build_sampler("SequentialSampler", data_source=data)) == list(range(6))
    assert isinstance(build_sampler("SequentialSampler", None, data), SequentialSampler)
    assert isinstance(
        build_sampler("RandomClassSampler", data_source=data, batch_size=4, n_ins=2), RandomClassSampler
    )
    with pytest.raises(ValueError, match="sampler .DATALOADER.*'Random'; did you mean '.*known: RandomSampler"):
        build_sampler("Random", data_source=data)


def test_impossible_requests_say_why():
    domains, labels = items("domain", [3, 3]), items("label", [3, 3])
    with pytest.raises(ValueError, match="N_DOMAIN is 3, but the data has only 2"):
        RandomDomainSampler(domains, 6, 3)
    with pytest.raises(ValueError, match="5 cannot be divided evenly among 2 domains; set it to a multiple of 2"):
        RandomDomainSampler(domains, 5, 0)
    with pytest.raises(ValueError, match="multiple of 2"):
        SeqDomainSampler(domains, 3)
    with pytest.raises(ValueError, match="between 1 and the batch size, 4"):
        RandomClassSampler(labels, 4, 8)
    with pytest.raises(ValueError, match="needs 4 classes"):
        RandomClassSampler(labels, 8, 2)
