"""What may be concluded from groups of runs."""

import importlib.util
import itertools
import math

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fmnist_tuning.analysis.contrasts import contrast, holm, interval
from fmnist_tuning.analysis.verdicts import judge, seeds_needed

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


def test_other_seeds_are_compared_by_welch():
    """As SciPy does it, with groups of different sizes."""
    other = {seed + 1000: value for seed, value in list(SECOND.items())[:3]}
    found = contrast(FIRST, other)
    expected = stats.ttest_ind([*FIRST.values()], [*other.values()], equal_var=False)
    assert found.method == "Welch t"
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.seeds == 3


def test_one_seed_has_no_spread():
    """Unknown, and not zero."""
    found = contrast({0: 0.92}, {0: 0.91})
    assert found.difference == pytest.approx(0.01)
    assert all(math.isnan(value) for value in (found.low, found.high, found.p, found.deviation))
    assert all(math.isnan(end) for end in interval([0.92]))
    assert judge([found], ["higher"], [0.002])[0].word == "inconclusive"


def test_equal_differences_are_not_certainty():
    """Two pairs that agree to the last image may do so by chance."""
    found = contrast({0: 0.5, 1: 0.25}, {0: 0.25, 1: 0.0})
    assert found.difference == 0.25
    assert math.isnan(found.p)
    assert judge([found], ["higher"], [0.002])[0].word == "inconclusive"


def test_parameter_counts_are_exact():
    """One run tells all."""
    found = contrast({0: 421_834.0}, {0: 6_442_954.0}, exact=True)
    assert judge([found], ["lower"], [0])[0].word == "supported"
    assert judge([found], ["higher"], [0])[0].word == "refuted"


def test_a_group_without_runs():
    """Nothing to compare."""
    with pytest.raises(ValueError, match="both sides"):
        contrast({}, FIRST)


def test_holm_by_hand():
    """The example: 0.01, 0.04, 0.03 becomes 0.03, 0.06, 0.06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_helps(p_values):
    """Adjusted values are no smaller, no larger than 1, and keep their order."""
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert all(adjusted[a] <= adjusted[b] for a, b in itertools.pairwise(order))


def test_unknown_counts_among_the_tests():
    """A claim that cannot be judged yet still was asked."""
    assert holm([math.nan, 0.02])[1] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("low_noise", "shift", "expect", "word"),
    [
        (0.0001, 0.010, "higher", "supported"),
        (0.0001, -0.010, "higher", "refuted"),
        (0.0001, 0.0003, "higher", "equivalent"),
        (0.0001, 0.0003, "equal", "supported"),
        (0.0001, 0.010, "equal", "refuted"),
        (0.0100, 0.003, "higher", "inconclusive"),
    ],
)
def test_the_verdicts(low_noise, shift, expect, word):
    """Each of the words, for a margin of 0.2 points."""
    noise = [low_noise * step for step in (-2, 1, 0, 2, -1)]
    arm = {seed: 0.9 + shift + noise[seed] for seed in range(5)}
    versus = dict.fromkeys(range(5), 0.9)
    (verdict,) = judge([contrast(arm, versus)], [expect], [0.002])
    assert verdict.word == word


def test_the_seeds_that_an_answer_needs():
    """As many as give 80 % power, checked by SciPy's noncentral t."""
    found = contrast({0: 0.905, 1: 0.899, 2: 0.906}, {0: 0.9, 1: 0.9, 2: 0.9})
    needed = seeds_needed(found, margin=0.0)
    assert needed is not None

    def power(seeds):
        shift = abs(found.difference) / found.deviation * math.sqrt(seeds)
        return stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, shift)

    assert power(needed) == pytest.approx(0.8, abs=0.05)
    assert power(needed - 2) < 0.8


def _simulation():
    spec = importlib.util.spec_from_file_location("simulation", ROOT / "docs/simulation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SIMULATION = _simulation()


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SIMULATION.SEEDS)
@pytest.mark.parametrize("design", SIMULATION.DESIGNS)
def test_at_most_one_study_in_twenty_goes_wrong(design, seeds):
    """Equal arms, 2,000 studies of four claims: a false finding in at most 5 % of them."""
    assert SIMULATION.wrong(design, seeds) <= 0.05


@pytest.mark.slow
def test_what_is_there_is_seen():
    """A point, with ten seeds: nearly always."""
    assert SIMULATION.power(SIMULATION.DESIGNS[1], 10, 0.010, studies=300) > 0.95


def test_the_document_holds_the_simulations_table():
    """One row for each design and number of seeds."""
    text = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    for design in SIMULATION.DESIGNS:
        for seeds in SIMULATION.SEEDS:
            assert f"| {design} | {seeds} | " in text
