"""When claims are judged, by which spread, and how often that goes wrong."""

import importlib.util
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from studies import frames_of, sweep_of

from fmnist_tuning.analysis.contrasts import contrast
from fmnist_tuning.analysis.looks import Evidence, decide, evidence, weights
from fmnist_tuning.analysis.pool import Pool
from fmnist_tuning.analysis.power import seeds_needed
from fmnist_tuning.analysis.spread import pooled
from fmnist_tuning.analysis.verdicts import judge_claims
from fmnist_tuning.report.wording import outcome
from fmnist_tuning.sweeps.looks import STANDARD_LOOKS, continued

NOTHING = contrast({0: 0.9, 1: 0.91, 2: 0.92}, {0: 0.91, 1: 0.9, 2: 0.92})
RATE = 0.05
TWO = """
sweep: two
title: Two
grid: {dropout_rate: [0.1, 0.3]}
claims:
  - {that: x, arm: {dropout_rate: 0.1}, versus: {dropout_rate: 0.3}, expect: EXPECT, margin: 0.002,
     metric: late_val_accuracy}
"""


def at(look, differs=1.0, equivalent=1.0):
    """Evidence with these p values at a standard look."""
    weight = dict(zip(STANDARD_LOOKS, weights(STANDARD_LOOKS), strict=True))[look]
    return Evidence(look, weight, NOTHING, 0.002, differs, equivalent)


def kinds(*claims):
    return [decision and decision.kind for decision in decide(claims, RATE)]


def test_the_looks_share_the_error_rate():
    """In proportion to their seeds."""
    shares = weights(STANDARD_LOOKS)
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == pytest.approx(3 / 113)


def test_a_claim_needs_its_looks_share_of_its_share():
    """Two claims: half of 5 % each, of which the first look has 3 of 113 parts."""
    bar = RATE / 2 * 3 / 113
    assert kinds([at(3, bar * 0.99)], [at(3)]) == ["differs", None]
    assert kinds([at(3, bar * 1.01)], [at(3)]) == [None, None]
    assert kinds([at(3, 1.0, bar * 0.99)], [at(3)]) == ["equivalent", None]


def test_a_difference_leaves_its_share_to_the_others():
    """As Holm's method does; equivalence leaves none."""
    bar = RATE * 3 / 113
    assert kinds([at(3, bar * 0.1)], [at(3, bar * 0.99)]) == ["differs", "differs"]
    assert kinds([at(3, 1.0, bar * 0.1)], [at(3, bar * 0.99)]) == ["equivalent", None]


def test_a_decision_is_final():
    """What later looks say does not count any more."""
    first = at(3, 1e-9)
    (decision,) = decide([[first, at(5, 1.0, 1e-12), at(8, 1.0, 1e-12)]], RATE)
    assert (decision.kind, decision.evidence) == ("differs", first)


def test_a_claim_that_cannot_be_judged_yet_counts():
    """It was asked all the same."""
    bar = RATE / 2 * 3 / 113
    assert kinds([at(3, bar * 1.01)], []) == [None, None]
    assert kinds([at(3, bar * 1.01)], [at(3, math.nan, math.nan)]) == [None, None]


@given(st.lists(st.lists(st.floats(0, 1), min_size=7, max_size=7), min_size=1, max_size=5))
def test_more_claims_never_decide_sooner(p_values):
    """One more question makes no other certain."""
    claims = [[at(n, p) for n, p in zip(STANDARD_LOOKS, ps, strict=True)] for ps in p_values]
    fewer, more = decide(claims, RATE), decide([*claims, [at(3)]], RATE)
    assert all(a.kind or not b.kind for a, b in zip(fewer, more, strict=False))


def test_the_two_tests_of_a_contrast():
    """Of no difference: the t test. Of the margin or more: two one-sided tests, doubled."""
    found = contrast({0: 0.901, 1: 0.902, 2: 0.900}, {0: 0.900, 1: 0.9015, 2: 0.8995})
    seen = evidence(3, 1.0, found, 0.002)
    assert seen.differs == found.p
    beyond = (0.002 - found.difference) / found.error
    assert seen.equivalent == pytest.approx(2 * stats.t.sf(beyond, found.freedom))
    assert evidence(3, 1.0, found, found.difference / 2).equivalent == 1.0
    assert evidence(3, 1.0, found, 0.002, beyond=True).differs == 1.0


def test_the_pooled_spread_is_that_of_least_squares():
    """On indicators of arm and seed, whatever runs are missing."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        table = [(a, s) for a in range(6) for s in range(5) if rng.random() < 0.6 or s == 0]
        arms, seeds = (np.array(column) for column in zip(*table, strict=True))
        values = rng.normal(size=len(table))
        found = pooled(arms, seeds, values)
        design = np.hstack([np.eye(6)[arms], np.eye(5)[seeds]])
        fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
        freedom = len(table) - np.linalg.matrix_rank(design)
        assert found.freedom == freedom
        assert found.paired * freedom == pytest.approx(((values - fitted) ** 2).sum())


def test_what_the_pool_holds(tmp_path):
    """Every run once, of arms that are trained alike, with the first seeds of each."""
    text = "sweep: S\ntitle: S\ngrid: {dropout_rate: [0.1, 0.2, 0.3]EXTRA}\nseeds: [0, 1, 2, 3]\n"
    one = frames_of(sweep_of(text.replace("S", "a", 1).replace("EXTRA", ""), tmp_path))
    same = frames_of(sweep_of(text.replace("S", "b", 1).replace("EXTRA", ""), tmp_path))
    other = frames_of(
        sweep_of(text.replace("S", "c", 1).replace("EXTRA", ", epochs: [3]"), tmp_path)
    )
    like = one.arms[0].config
    spread = Pool([one, same, other]).spread("final_val_accuracy", [like])
    assert spread == Pool([one]).spread("final_val_accuracy", [like])
    assert spread.freedom == 3 * 4 - 3 - 3
    assert Pool([one]).spread("final_val_accuracy", [like], 2).freedom == 3 * 2 - 3 - 1
    moved = replace(one, rows=tuple(row._replace(device="cuda") for row in one.rows))
    assert Pool([moved, other]).spread("final_val_accuracy", [other.arms[0].config]).freedom == 6


def noisy(shift, scale=0.001):
    """Accuracies with a difference between the two arms, and noise by seed and arm."""

    def accuracy(config):
        luck = random.Random(repr((config.seed, config.dropout_rate))).gauss(0, scale)  # noqa: S311
        return 0.9 + shift * (config.dropout_rate < 0.2) + luck

    return accuracy


@pytest.mark.parametrize(
    ("shift", "scale", "expect", "word"),
    [
        (0.02, 0.0002, "higher", "supported"),
        (-0.02, 0.0002, "higher", "refuted"),
        (0.0, 0.0002, "higher", "equivalent"),
        (0.0, 0.0002, "equal", "supported"),
        (0.02, 0.0002, "equal", "refuted"),
        (0.003, 0.01, "higher", "inconclusive"),
        (0.0018, 0.0002, "equal", "inconclusive"),
    ],
)
def test_the_verdicts(tmp_path, shift, scale, expect, word):
    """Each of the words, for a margin of 0.2 points and eight seeds."""
    sweep = sweep_of(TWO.replace("EXPECT", expect), tmp_path).changed(seeds=(*range(8),))
    ((_, verdict),) = judge_claims(frames_of(sweep, noisy(shift, scale)), {})
    assert verdict.word == word
    assert verdict.look == 8
    assert verdict.seeds_needed is None or word == "inconclusive"


def test_further_seeds_change_no_decision(tmp_path):
    """Judged at three seeds of a plan, and still so at twelve that say the opposite."""
    sweep = sweep_of(TWO.replace("EXPECT", "higher"), tmp_path)

    def accuracy(config):
        early = config.seed < 3
        return noisy(0.02 if early else -0.02, 0.00002)(config)

    verdicts = []
    for seeds in (3, 12):
        planned = sweep.changed(seeds=(*range(seeds),), looks=STANDARD_LOOKS)
        ((_, verdict),) = judge_claims(frames_of(planned, accuracy), {})
        verdicts.append(verdict)
    assert verdicts[0] == verdicts[1]
    assert (verdicts[0].word, verdicts[0].look) == ("supported", 3)


def test_seeds_between_two_looks_wait(tmp_path):
    """Seven seeds are judged at three and five; so no number of seeds is picked afterwards."""
    sweep = sweep_of(TWO.replace("EXPECT", "higher"), tmp_path)
    planned = sweep.changed(seeds=(*range(7),), looks=STANDARD_LOOKS)
    ((_, verdict),) = judge_claims(frames_of(planned, noisy(0.0, 0.004)), {})
    assert (verdict.look, verdict.contrast.seeds) == (5, 5)


def test_the_standard_looks_take_over(tmp_path):
    """When a sweep that was judged gets more seeds; then its looks stay."""
    sweep = sweep_of(TWO.replace("EXPECT", "higher"), tmp_path)
    one, three, five = (sweep.changed(seeds=(*range(n),)) for n in (1, 3, 5))
    assert continued(three, None).looks == ()
    assert continued(three, one).looks == ()  # one seed judges nothing
    assert continued(three, three).looks == ()
    assert continued(five, three).looks == STANDARD_LOOKS
    fewer = continued(three, five)
    assert fewer.looks == (5,)  # what was judged at five is not judged at three
    assert continued(five, fewer).looks == (5,)
    assert continued(five.changed(seeds=(*range(8),)), fewer).looks == STANDARD_LOOKS
    own = five.changed(looks=(5,))
    assert continued(own.changed(seeds=(*range(9),)), own).looks == (5,)
    assert continued(five, three.changed(looks=(3, 9))).looks == (3, 9)
    longer = three.changed(arm_seeds={"dropout_rate=0.1": 8})
    assert continued(three, longer).seeds_of(three.arms[0]) == tuple(range(8))


def test_another_experiment_of_the_same_id_starts_anew(tmp_path):
    """With `--replace`: neither looks nor extended arms are those of other settings."""
    sweep = sweep_of(TWO.replace("EXPECT", "higher"), tmp_path)
    before = sweep.changed(
        seeds=(0, 1, 2), looks=STANDARD_LOOKS, arm_seeds={"dropout_rate=0.1": 12}
    )
    other = sweep.changed(fixed={"epochs": 1})
    assert continued(other, before) == other
    more = sweep.changed(grid={"dropout_rate": [0.1, 0.3, 0.5]})
    assert continued(more, before).looks == STANDARD_LOOKS


def test_before_the_first_look(tmp_path):
    """The difference is shown, and when it is judged."""
    sweep = sweep_of(TWO.replace("EXPECT", "higher"), tmp_path)
    frames = frames_of(sweep.changed(seeds=(0, 1), looks=STANDARD_LOOKS), noisy(0.02))
    ((claim, verdict),) = judge_claims(frames, {})
    assert verdict.word == "inconclusive"
    assert outcome(claim, verdict, frames).endswith(", 2 seeds); its first look is at 3 seeds")


def test_times_are_not_judged(tmp_path):
    """Seeds do not repeat the machine's load."""
    text = TWO.replace("EXPECT", "higher").replace("late_val_accuracy", "train_seconds")
    sweep = sweep_of(text, tmp_path).changed(seeds=(*range(3),))
    assert [verdict for _, verdict in judge_claims(frames_of(sweep), {})] == [None]


def test_a_ratio_is_compared_by_its_logarithm(tmp_path):
    """Twice as fast is as far from equal as half as fast."""
    text = TWO.replace("EXPECT", "lower").replace("late_val_accuracy", "epochs_to_80")
    sweep = sweep_of(text, tmp_path).changed(seeds=(*range(5),))
    frames = frames_of(sweep)
    times = [0.5, 0.52, 0.49, 0.51, 0.5, 1.0, 1.01, 1.02, 0.98, 1.0]
    for row, time in zip(frames.rows, times, strict=True):
        row.metrics["epochs_to_80"] = time
    ((_, verdict),) = judge_claims(frames, {})
    assert verdict.word == "supported"
    assert verdict.contrast.difference == pytest.approx(math.log(0.504 / 1.002), abs=2e-3)


def test_the_seeds_that_an_answer_needs():
    """The looks at which SciPy's noncentral t sees such a difference with 80 % power."""
    found = contrast({0: 0.905, 1: 0.899, 2: 0.906}, {0: 0.9, 1: 0.9, 2: 0.9})
    low, high = seeds_needed(found, 0.0, STANDARD_LOOKS, RATE)
    assert low in STANDARD_LOOKS
    assert high is None or high >= low

    def power(seeds, size):
        level = RATE * weights(STANDARD_LOOKS)[STANDARD_LOOKS.index(seeds)]
        shift = size / found.deviation * math.sqrt(seeds)
        return stats.nct.sf(stats.t.ppf(1 - level / 2, seeds - 1), seeds - 1, shift)

    largest = found.difference + stats.t.ppf(0.75, found.freedom) * found.error
    assert power(low, largest) > 0.75
    earlier = STANDARD_LOOKS[STANDARD_LOOKS.index(low) - 1]
    assert power(earlier, largest) < 0.8
    assert seeds_needed(contrast({0: 0.9}, {0: 0.8}), 0.0, STANDARD_LOOKS, RATE) is None


def _simulation():
    spec = importlib.util.spec_from_file_location("simulation", ROOT / "docs/simulation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SIMULATION = _simulation()
STUDIES = 300
CHANCE = 2 * math.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.slow
@pytest.mark.parametrize("looks", SIMULATION.LOOKS.values(), ids=SIMULATION.LOOKS)
@pytest.mark.parametrize("spread", SIMULATION.SPREADS)
@pytest.mark.parametrize("truth", SIMULATION.TRUTHS)
def test_at_most_one_sweep_in_twenty_goes_wrong(truth, spread, looks):
    """At one look and over all, whatever is true, and whatever the arms' spreads are."""
    draw = SIMULATION.SPREADS[spread]
    assert SIMULATION.wrong(truth, draw, looks, STUDIES) <= 0.05 + CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("looks", SIMULATION.LOOKS.values(), ids=SIMULATION.LOOKS)
def test_all_that_is_said_of_a_sweep_is_one_family(looks):
    """Claims and every pair of arms together."""
    assert SIMULATION.anything_wrong(looks, STUDIES) <= 0.05 + CHANCE


@pytest.mark.slow
def test_the_first_editions_way_went_wrong():
    """The simulation would see it: judging again at each look by one look's rule."""
    shares = SIMULATION.SPREADS["all equal"]
    assert SIMULATION.wrong("all zero", shares, STANDARD_LOOKS, STUDIES, old=True) > 0.1


@pytest.mark.slow
def test_what_is_there_is_seen():
    """A point, with eight seeds: nearly always."""
    assert SIMULATION.power(0.010, 100)[2] > 0.95


def test_the_document_holds_the_simulations_tables():
    """A row for each truth and spread, each true difference and each method."""
    text = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    for truth in SIMULATION.TRUTHS:
        for spread in SIMULATION.SPREADS:
            assert f"| {truth} | {spread} | " in text
    for method in SIMULATION.METHODS:
        assert f"| {method} | " in text
