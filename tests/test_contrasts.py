"""What may be concluded from groups of runs."""

import math
from statistics import variance

import pytest
from scipy import stats

from fmnist_tuning.analysis.contrasts import contrast, interval
from fmnist_tuning.analysis.spread import Spread

FIRST = {0: 0.921, 1: 0.919, 2: 0.924, 3: 0.920}
SECOND = {0: 0.917, 1: 0.918, 2: 0.919, 3: 0.915}


def test_the_same_seeds_are_compared_in_pairs():
    """As SciPy's paired t test does."""
    found = contrast(FIRST, SECOND)
    expected = stats.ttest_rel([*FIRST.values()], [*SECOND.values()])
    low, high = expected.confidence_interval()
    assert found.method == "paired t"
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.seeds == 4


def test_pairs_are_matched_by_seed_and_not_by_order():
    """However the runs happened to be listed."""
    assert contrast(FIRST, dict(reversed(SECOND.items()))).p == pytest.approx(
        contrast(FIRST, SECOND).p
    )


def test_other_seeds_are_compared_group_by_group():
    """Each group with its own spread, and the degrees of freedom of the smaller one."""
    other = {seed + 1000: value for seed, value in list(SECOND.items())[:3]}
    found = contrast(FIRST, other)
    assert found.method == "unpaired t"
    error = math.sqrt(variance([*FIRST.values()]) / 4 + variance([*other.values()]) / 3)
    assert (found.error, found.freedom, found.seeds) == pytest.approx((error, 2, 3))
    assert found.p == pytest.approx(2 * stats.t.sf(found.difference / error, 2))


def test_the_pool_counts_for_four_degrees_of_freedom():
    """By hand: s̃² = (4 κ s0² + 3 s²) / 7, κ being 1/2 + 1 for a mean of two arms against one."""
    spread = Spread(paired=4e-6, freedom=20, within=6e-6, within_freedom=24)
    pairs = [FIRST[seed] - SECOND[seed] for seed in FIRST]
    found = contrast(FIRST, SECOND, arms=(2, 1), spread=spread)
    expected = math.sqrt((4 * 1.5 * 4e-6 + 3 * variance(pairs)) / 7 / 4)
    assert (found.error, found.freedom) == pytest.approx((expected, 7))
    other = {seed + 1000: value for seed, value in SECOND.items()}
    unpaired = contrast(FIRST, other, spread=spread)
    sides = [(4 * 6e-6 + 3 * variance([*side.values()])) / 7 / 4 for side in (FIRST, other)]
    assert (unpaired.error, unpaired.freedom) == pytest.approx((math.sqrt(sum(sides)), 7))


def test_where_a_difference_may_lie():
    """The t distribution around it, cut at the margins."""
    found = contrast(FIRST, SECOND)
    below, within, above = found.shares(0.002)
    posterior = stats.t(found.freedom, found.difference, found.error)
    assert below == pytest.approx(posterior.cdf(-0.002))
    assert above == pytest.approx(posterior.sf(0.002))
    assert below + within + above == pytest.approx(1)


def test_a_pool_of_few_runs_does_not_count():
    """Below eight degrees of freedom it is as uncertain as the arms themselves."""
    few = Spread(paired=4e-6, freedom=7, within=6e-6, within_freedom=9)
    assert contrast(FIRST, SECOND, spread=few) == contrast(FIRST, SECOND)


def test_one_seed_has_no_spread():
    """Unknown, and not zero."""
    found = contrast({0: 0.92}, {0: 0.91})
    assert found.difference == pytest.approx(0.01)
    assert all(math.isnan(value) for value in (found.low, found.high, found.p, found.deviation))
    assert all(math.isnan(end) for end in interval([0.92]))


def test_equal_differences_are_not_certainty():
    """Two pairs that agree to the last image may do so by chance."""
    found = contrast({0: 0.5, 1: 0.25}, {0: 0.25, 1: 0.0})
    assert found.difference == 0.25
    assert math.isnan(found.p)


def test_parameter_counts_are_exact():
    """One run tells all."""
    found = contrast({0: 421_834.0}, {0: 6_442_954.0}, exact=True)
    assert (found.low, found.difference, found.high, found.p) == (-6_021_120,) * 3 + (0.0,)


def test_a_group_without_runs():
    """Nothing to compare."""
    with pytest.raises(ValueError, match="both sides"):
        contrast({}, FIRST)
