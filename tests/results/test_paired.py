"""The statistics of one pair of methods: against formulas of others, by simulation, and by what must hold always."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats import contingency_tables

from results.numbers.paired import (
    Difference,
    Paired,
    average_differences,
    differences_of,
    mcnemar,
    paired,
    resampled_means,
)
from tests.support.closeness import assert_close

RNG = np.random.default_rng(20)


def simulated(rng, seeds: int, images: int, image=0.5, seed=0.05, noise=0.5, accuracies=(0.75, 0.75)):
    """Two methods whose true accuracies are known: (S, n) bool each.

    An answer is right where a normal variable is positive, to which the image adds for both methods alike, and for each
    method the image, the seed, and the image under this seed.
    """
    total = math.sqrt(1 + image**2 + seed**2 + noise**2)  # the standard deviation of their sum
    both = rng.normal(size=(1, images))
    return [
        total * stats.norm.ppf(accuracy)
        + both
        + image * rng.normal(size=(1, images))
        + seed * rng.normal(size=(seeds, 1))
        + noise * rng.normal(size=(seeds, images))
        > 0
        for accuracy in accuracies
    ]


def pairs_of(rng, runs: int, *args, **options) -> list[Paired]:
    return [paired(*simulated(rng, *args, **options)) for _ in range(runs)]


# --- known answers ---------------------------------------------------------------------------------------


def test_one_seed_is_students_paired_test():
    first, second = simulated(RNG, 1, 300, accuracies=(0.8, 0.75))
    pair = paired(first, second)
    known = stats.ttest_rel(first[0].astype(float), second[0].astype(float))
    interval = known.confidence_interval(0.95)
    assert_close(pair.p, known.pvalue)
    assert_close([pair.low, pair.high], [100 * interval.low, 100 * interval.high])
    assert_close(pair.degrees, known.df)
    assert (pair.images, pair.seeds) == (300, 1)


def test_images_that_play_no_part_leave_the_paired_test_of_seeds():
    """Where all that differs is noise, the seeds' spread is a + b - e to within what b and e differ by."""
    rng = np.random.default_rng(1)
    first, second = rng.random((40, 2000)) < 0.7, rng.random((40, 2000)) < 0.7
    known = stats.ttest_rel(first.mean(axis=1), second.mean(axis=1))
    assert_close(paired(first, second).standard_error, 100 * known._standard_error, 0.05)


def test_the_variance_is_that_of_a_two_way_analysis():
    """a + b - e from the residuals themselves, rather than from sums of squares."""
    first, second = simulated(np.random.default_rng(2), 4, 50, image=2.0, seed=0.6, noise=0.3)
    D = first.astype(float) - second
    by_seed, by_image = D.mean(1, keepdims=True), D.mean(0, keepdims=True)
    e = ((D - by_seed - by_image + D.mean()) ** 2).sum() / (3 * 49) / D.size
    a, b = by_seed.var(ddof=1) / 4, by_image.var(ddof=1) / 50
    assert min(a, b) > e  # else it is not a + b - e
    assert_close(paired(first, second).standard_error, 100 * math.sqrt(a + b - e))
    assert_close(paired(first, second).degrees, (a + b - e) ** 2 / (a**2 / 3 + b**2 / 49))


def test_mcnemar_is_a_fair_coin_on_the_images_that_differ():
    first, second = np.zeros((2, 20), bool), np.zeros((2, 20), bool)
    first[0, :8], second[0, 8:10] = True, True  # 8 won, 2 lost
    pair = paired(first, second)
    assert (pair.won, pair.lost) == ((8, 0), (2, 0))
    assert_close(pair.mcnemar, [2 * (1 + 10 + 45) / 2**10, 1.0])


@pytest.mark.parametrize("counts", [(0, 0), (3, 0), (4, 4), (17, 30), (900, 1100), (30_000, 31_000)])
def test_mcnemar_is_that_of_statsmodels(counts):
    won, lost = counts
    known = contingency_tables.mcnemar([[5, won], [lost, 7]], exact=True).pvalue
    assert_close(mcnemar(won, lost), known)
    assert mcnemar(lost, won) == mcnemar(won, lost)


def test_the_smallest_visible_difference():
    pair = Difference(1.0, 2.0, 10.0)
    assert_close(pair.visible, 2 * (2.2281388519649385 + 0.8790578285505887))  # of a printed table of Student's t


def test_methods_that_answer_alike_do_not_differ():
    first, _ = simulated(RNG, 3, 50)
    for pair in (paired(first, first), paired(first, first, draws=50), paired(first[:1], first[0])):
        assert (pair.difference, pair.p, pair.low, pair.high, pair.visible, pair.winner) == (0, 1, 0, 0, 0, 0)
        assert set(pair.mcnemar) == {1.0}


def test_a_method_that_is_always_right_beats_one_that_never_is():
    pair = paired(np.ones((3, 9), bool), np.zeros((3, 9), bool))
    assert (pair.difference, pair.p, pair.low, pair.high, pair.winner) == (100, 0, 100, 100, 1)


def test_one_run_stands_for_every_seed():
    first, second = simulated(RNG, 3, 60)
    assert paired(first, second[0]) == paired(first, np.repeat(second[:1], 3, axis=0))
    assert paired(second[:1], first).seeds == 3


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((3, 5), (3, 6)), r"\(3, 5\), the other \(3, 6\)"),
        (((3, 5), (2, 5)), r"\(3, 5\), the other \(2, 5\)"),
        (((3, 1), (3, 1)), "at least two images"),
        (((0, 5), (0, 5)), "at least two images and a seed"),
    ],
)
def test_what_is_no_pair_is_refused(shapes, words):
    with pytest.raises(ValueError, match=words):
        paired(*(np.ones(shape, bool) for shape in shapes))


def test_variances_of_data_sets_add():
    mean = average_differences([Difference(1.0, 3.0, 10.0), Difference(3.0, 4.0, 20.0)])
    assert_close([mean.difference, mean.standard_error], [2.0, 2.5])
    assert_close(mean.degrees, 25**2 / (9**2 / 10 + 16**2 / 20))
    still = average_differences([Difference(0.0, 0.0, math.inf)] * 2)
    assert (still.p, still.low, still.high) == (1.0, 0.0, 0.0)


# --- the bootstrap ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "images"), [(1, 200), (3, 40), (8, 200)])
def test_the_bootstrap_has_the_variance_that_its_limit_says(seeds, images):
    D = differences_of(*simulated(np.random.default_rng(3), seeds, images, seed=0.2))
    means = resampled_means(D, 20_000)
    by_seed, by_image = D.mean(1, keepdims=True), D.mean(0, keepdims=True)
    a = by_seed.var(ddof=1) / seeds if seeds > 1 else 0.0
    b = by_image.var(ddof=1) / images
    e = ((D - by_seed - by_image + D.mean()) ** 2).sum() / max(1, seeds - 1) / (images - 1) / D.size
    assert_close(means.var(), a + b + e, 0.05)  # its own error is sqrt(2 / draws) = 1 %
    assert abs(means.mean() - D.mean()) < 5 * math.sqrt((a + b + e) / len(means))


def test_drawing_patterns_is_drawing_images():
    """Against the bootstrap written out, by indices of seeds and images."""
    rng = np.random.default_rng(4)
    D = differences_of(*simulated(rng, 3, 30))
    plain = [D[np.ix_(rng.integers(0, 3, 2), rng.integers(0, 30, 29))].mean() for _ in range(10_000)]
    means = resampled_means(D, 10_000)
    assert stats.ks_2samp(*(np.round(np.multiply(drawn, 2 * 29)) for drawn in (plain, means))).pvalue > 1e-4
    assert_close(np.var(plain), means.var(), 0.08)


def test_an_interval_of_draws_is_near_the_one_of_the_limit():
    first, second = simulated(np.random.default_rng(5), 3, 500, image=1.0, seed=0.2, noise=0.3)
    limit, drawn = paired(first, second), paired(first, second, draws=4000)
    assert drawn.standard_error != limit.standard_error
    assert_close(drawn.standard_error, limit.standard_error, 0.1)
    assert_close([drawn.low, drawn.high], [limit.low, limit.high], 0.1)
    assert drawn == paired(first, second, draws=4000) != paired(first, second, draws=4000, seed=1)


def test_many_images_are_resampled_in_little_time_and_memory():
    first, second = simulated(np.random.default_rng(6), 3, 50_000)
    assert len(np.unique(differences_of(first, second), axis=1).T) <= 27
    assert len(resampled_means(differences_of(first, second), 2000)) == 2000


# --- what intervals promise ------------------------------------------------------------------------------


def test_permuted_copies_are_not_told_apart():
    """Five times 200 pairs whose answers were shuffled between the methods, image by image: at most 5 % differ.

    In truth 3 % do, as three seeds are not trusted more than they deserve: 5 % lie 3.7 standard deviations above.
    """
    rng = np.random.default_rng(7)
    significant = 0
    for _ in range(1000):
        first, second = simulated(rng, 3, 400, accuracies=(0.8, 0.7))
        swap = rng.random((1, 400)) < 0.5
        significant += paired(np.where(swap, second, first), np.where(swap, first, second)).winner != 0
    assert 0 < significant <= 0.05 * 1000


def test_images_in_another_order_change_no_accuracy():
    """A copy whose images were permuted has the same accuracy: the pair differs by nothing, with an interval."""
    rng = np.random.default_rng(8)
    first, _ = simulated(rng, 3, 400)
    pair = paired(first, rng.permuted(first, axis=1))
    assert pair.difference == 0 and pair.winner == 0 and pair.p == 1 and pair.low < 0 < pair.high


def test_equal_methods_differ_in_five_percent_of_tests_on_one_seed():
    """Neither more nor less often, where the test is Student's own: 2,000 pairs, 4.5 standard deviations."""
    pairs = pairs_of(np.random.default_rng(9), 2000, 1, 300, seed=0.0)
    assert abs(sum(pair.winner != 0 for pair in pairs) - 100) < 4.5 * math.sqrt(2000 * 0.05 * 0.95)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("seed_effect", [0.03, 0.1, 0.3])
def test_intervals_hold_the_truth(seeds, seed_effect):
    """True seed effects, from hardly any to dominant: 95 % at best, 92 % with three seeds."""
    pairs = pairs_of(np.random.default_rng(10), 500, seeds, 300, seed=seed_effect)
    share = sum(pair.winner == 0 for pair in pairs) / len(pairs)
    assert 0.9 <= share <= 0.99
    error = math.sqrt(np.mean([pair.standard_error**2 for pair in pairs]))
    assert_close(error, np.std([pair.difference for pair in pairs]), 0.15)  # each known to about 4 %


@pytest.mark.parametrize(("seeds", "images"), [(1, 400), (10, 200)])
def test_a_shift_is_found_with_the_power_that_the_formula_says(seeds, images):
    rng = np.random.default_rng(11)
    visible = np.mean([pair.visible for pair in pairs_of(rng, 200, seeds, images)])
    shifted = pairs_of(rng, 800, seeds, images, accuracies=(0.75 + visible / 100, 0.75))
    assert abs(sum(pair.winner == 1 for pair in shifted) / 800 - 0.8) < 4.5 * math.sqrt(0.8 * 0.2 / 800)


# --- what must hold always -------------------------------------------------------------------------------


@st.composite
def answers(draw):
    """Two methods' answers, and an order of the images."""
    shape = draw(st.integers(1, 4)), draw(st.integers(2, 12))
    first, second = (draw(arrays(bool, shape)) for _ in range(2))
    return first, second, draw(st.permutations(range(shape[1])))


@settings(deadline=None, max_examples=60)
@given(answers())
def test_what_must_hold_of_any_pair(answers):
    first, second, order = answers
    pair = paired(first, second)
    assert pair.low <= pair.difference <= pair.high and 0 <= pair.p <= 1
    assert_close(pair.difference, 100 * (first.mean() - second.mean()), floor=100)
    assert (pair.winner != 0) == (pair.p < 0.05)

    turned = paired(second, first)
    assert (turned.difference, turned.winner) == (-pair.difference, -pair.winner)
    assert (turned.standard_error, turned.p, turned.won) == (pair.standard_error, pair.p, pair.lost)

    reordered = paired(first[::-1, order], second[::-1, order])
    assert_close(reordered.difference, pair.difference, floor=100)
    assert_close(reordered.standard_error, pair.standard_error, floor=1)
