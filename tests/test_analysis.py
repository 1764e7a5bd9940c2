"""Sweeps' frames, made by hand: summaries, verdicts, standings, effects."""

import math

import pytest
from studies import frames_of, sweep_of

from fmnist_tuning.analysis.best import standings
from fmnist_tuning.analysis.contrasts import contrast
from fmnist_tuning.analysis.effects import confounds, factorial_effects
from fmnist_tuning.analysis.frames import Summary, summary
from fmnist_tuning.analysis.groups import compare, matching
from fmnist_tuning.analysis.pool import Pool
from fmnist_tuning.analysis.verdicts import judge_claims, told_apart
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.report.wording import outcome, spread, worded_difference

ACCURACY = "final_val_accuracy"
DROPOUT = """
sweep: one
title: One
grid: {dropout_rate: [0.0, 0.3, 0.7]}
seeds: [0, 1, 2]
claims:
  - that: some is better than much
    arm: {dropout_rate: [0.0, 0.3]}
    versus: {dropout_rate: 0.7}
    expect: higher
    margin: 0.002
"""
FACTORIAL = """
sweep: two
title: Two
grid: {dropout_rate: [0.3, 0.5], use_batch_norm: [true, false]}
seeds: [0, 1, 2]
"""
LUCK = {0: 0.0, 1: 0.0011, 2: -0.0007, 1000: 0.0002, 1001: 0.0013}


def by_dropout(levels):
    """Accuracies by dropout rate, all seeds off by their own luck and a little noise."""

    def accuracy(config):
        noise = 0.0001 * ((config.seed * 7 + round(config.dropout_rate * 10)) % 3)
        return levels[config.dropout_rate] + LUCK[config.seed] + noise

    return accuracy


def test_a_summary_over_seeds(tmp_path):
    """Mean, sample deviation, t interval."""
    frames = frames_of(sweep_of(DROPOUT, tmp_path), lambda c: 0.9 + 0.001 * c.seed)
    found = summary(frames, frames.arms[0], ACCURACY)
    assert (found.mean, found.deviation, found.seeds) == pytest.approx((0.901, 0.001, 3))
    half = 4.302653 * 0.001 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.901 - half, 0.901 + half))


def test_one_seed_has_an_unknown_spread(tmp_path):
    """NaN, not zero."""
    frames = frames_of(sweep_of(DROPOUT, tmp_path), keep=lambda run: run.config.seed == 0)
    found = summary(frames, frames.arms[0], ACCURACY)
    assert found.seeds == 1
    assert math.isnan(found.deviation)
    assert math.isnan(found.low)
    assert len(frames.missing) == 6
    assert "dropout_rate=0.0 seed=1" in frames.missing


def test_a_loss_beyond_all_numbers_is_left_out(tmp_path):
    """One seed whose validation loss overflowed does not take the others' mean with it."""
    frames = frames_of(sweep_of(DROPOUT, tmp_path))
    arm = frames.arms[0]
    frames.rows[0].metrics["final_val_loss"] = math.inf
    found = summary(frames, arm, "final_val_loss")
    assert found.seeds == 2
    assert found.mean == pytest.approx(0.25)


def test_what_stands_beside_a_value_has_its_unit():
    """A mean of minutes has a deviation in minutes, though that be seconds; intervals likewise."""
    seconds = METRICS["train_seconds"]
    assert spread(seconds, Summary(204.0, 9.0, 182.0, 226.0, 3)) == "3.4 ± 0.1 min"
    assert spread(seconds, Summary(23.25, 0.5, 22.0, 24.5, 3)) == "23.2 ± 0.5 s"
    found = contrast({0: 200.0, 1: 230.0, 2: 260.0}, {0: 100.0, 1: 170.0, 2: 150.0})
    assert worded_difference(seconds, found) == "+1.5 min (95 % interval +0.4 to +2.6, 3 seeds)"


def test_a_claim_over_several_arms(tmp_path):
    """Their mean counts, seed by seed."""
    levels = {0.0: 0.91, 0.3: 0.92, 0.7: 0.89}
    frames = frames_of(sweep_of(DROPOUT, tmp_path), by_dropout(levels))
    ((claim, verdict),) = judge_claims(frames, {})
    assert claim.that == "some is better than much"
    assert verdict.word == "supported"
    assert verdict.contrast.difference == pytest.approx(0.025, abs=2e-4)
    assert verdict.contrast.method == "paired t"


def test_a_claim_without_its_runs_is_not_judged(tmp_path):
    """Half a sweep makes no verdict."""
    sweep = sweep_of(DROPOUT, tmp_path)
    frames = frames_of(sweep, keep=lambda run: run.config.dropout_rate < 0.5)
    assert judge_claims(frames, {})[0][1] is None


def test_only_seeds_that_every_arm_of_a_side_has(tmp_path):
    """A mean over two arms needs both of them; pairs are not dropped for one that lacks."""
    sweep = sweep_of(DROPOUT, tmp_path)
    frames = frames_of(
        sweep, keep=lambda run: not (run.config.seed == 2 and run.config.dropout_rate == 0.3)
    )
    asked = matching(frames, {"dropout_rate": [0.0, 0.3]}, {"dropout_rate": 0.7})
    found = compare(asked, ACCURACY, Pool([frames]))
    assert found.seeds == 2
    assert found.method == "paired t"


def test_a_claim_against_another_sweep(tmp_path):
    """Fresh seeds against the old ones: no pairs."""
    one = frames_of(sweep_of(DROPOUT, tmp_path), by_dropout({0.0: 0.91, 0.3: 0.92, 0.7: 0.89}))
    text = (
        "sweep: six\ntitle: Six\narms: [{name: A, dropout_rate: 0.3}]\nseeds: [1000, 1001]\n"
        "claims: [{that: A is better, arm: {name: A}, versus_sweep: one,\n"
        "  versus: {dropout_rate: 0.7}, expect: higher, margin: 0.002}]\n"
    )
    six = frames_of(sweep_of(text, tmp_path), by_dropout({0.3: 0.92}))
    ((_, verdict),) = judge_claims(six, {"one": one, "six": six})
    assert verdict.word == "supported"
    assert verdict.contrast.method == "unpaired t"
    assert judge_claims(six, {"six": six})[0][1] is None


def test_the_best_arm_and_its_equals(tmp_path):
    """Marked apart from what is certainly worse."""
    levels = {0.0: 0.9190, 0.3: 0.9191, 0.7: 0.89}
    frames = frames_of(sweep_of(DROPOUT, tmp_path), by_dropout(levels))
    places = standings(frames, ACCURACY, {})
    assert places["dropout_rate=0.3"].best
    assert places["dropout_rate=0.0"].tied
    assert not places["dropout_rate=0.7"].tied


def test_with_one_seed_all_are_equals(tmp_path):
    """Nothing can be told apart from the best."""
    frames = frames_of(sweep_of(DROPOUT, tmp_path), keep=lambda run: run.config.seed == 0)
    assert [place.tied for place in standings(frames, ACCURACY, {}).values()].count(True) == 2


def test_smaller_is_better_for_losses(tmp_path):
    """The metric knows its direction."""
    frames = frames_of(sweep_of(DROPOUT, tmp_path))
    assert standings(frames, "overfitting_gap", {})["dropout_rate=0.7"].best


def test_answers_agree_with_the_claims(tmp_path):
    """A difference that a claim is about is certain exactly when the claim's verdict says so."""
    text = FACTORIAL.replace("two", "t") + (
        "claims:\n"
        "  - {that: a, arm: {dropout_rate: 0.3}, versus: {dropout_rate: 0.5}, expect: higher,\n"
        "     margin: 0.0}\n"
        "  - {that: b, arm: {use_batch_norm: true}, versus: {use_batch_norm: false},\n"
        "     expect: higher, margin: 0.0}\n"
    )
    for scale in (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008):

        def accuracy(config, scale=scale):
            noise = 0.0004 * ((config.seed * 5 + round(config.dropout_rate * 10)) % 3)
            return 0.9 - scale * config.dropout_rate + LUCK[config.seed] * 0.3 + noise

        frames = frames_of(sweep_of(text, tmp_path), accuracy)
        for claim, verdict in judge_claims(frames, {}):
            certain = told_apart(frames, [matching(frames, claim.versus, claim.arm)], {})[0]
            assert certain == (verdict.word in {"supported", "refuted"})


def test_main_effects_and_interaction(tmp_path):
    """Recovered from cell means that were made of them."""

    def accuracy(config):
        high, off = config.dropout_rate == 0.5, not config.use_batch_norm
        return 0.92 - 0.01 * high - 0.02 * off - 0.004 * (high and off) + LUCK[config.seed]

    frames = frames_of(sweep_of(FACTORIAL, tmp_path), accuracy)
    effects = factorial_effects(frames, ACCURACY, Pool([frames]))
    found = {effect.name: effect.contrast.difference for effect in effects}
    assert found == pytest.approx(
        {
            "dropout rate: 0.5 − 0.3": -0.012,
            "batch norm: off − on": -0.022,
            "dropout rate × batch norm": -0.004,
        }
    )
    assert [effect.interaction for effect in effects] == [False, False, True]


def test_no_effects_of_half_a_factorial(tmp_path):
    """Without one cell nothing is said."""
    sweep = sweep_of(FACTORIAL, tmp_path)
    frames = frames_of(sweep, keep=lambda r: r.config.use_batch_norm or r.config.dropout_rate < 0.5)
    assert factorial_effects(frames, ACCURACY, Pool([frames])) == []


def test_pooling_is_confounded_with_size(tmp_path):
    """Dropping it multiplies the parameters by 15."""
    sweep = sweep_of("sweep: p\ntitle: P\ngrid: {use_pooling: [true, false]}\n", tmp_path)
    (note,) = confounds(frames_of(sweep))
    assert "6,442,954 parameters, 15.3 times the 421,834" in note
    assert confounds(frames_of(sweep_of(DROPOUT, tmp_path))) == []


def test_what_all_arms_share_confounds_nothing(tmp_path):
    """Arms with names go by them, and only what differs between them is named."""
    arms = "[{name: A, use_pooling: true, epochs: 3}, {name: B, use_pooling: false, epochs: 3}]"
    (note,) = confounds(frames_of(sweep_of(f"sweep: p\ntitle: P\narms: {arms}\n", tmp_path)))
    assert note.startswith("The arms differ in size too: B has 6,442,954 parameters")
    assert note.endswith("A difference may come of size as well as of max pooling.")


def test_epochs_to_80_on_whole_epochs(tmp_path):
    """The first epoch that ended at 80 % or more; unknown where none did."""
    levels = {0.0: 0.85, 0.3: 0.81, 0.7: 0.5}
    frames = frames_of(sweep_of(DROPOUT, tmp_path), lambda c: levels[c.dropout_rate])
    means = frames.epochs_to_80.groupby("arm")["epoch"].mean()
    assert means["dropout_rate=0.0"] == 2
    assert means["dropout_rate=0.3"] == 3
    assert math.isnan(means["dropout_rate=0.7"])


def test_why_a_claim_is_not_judged(tmp_path):
    """Runs that are missing are one thing; finished ones that never reached 80 % are another."""
    text = (
        "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.1, 0.3]}\nseeds: [0, 1]\n"
        "claims: [{that: x, arm: {dropout_rate: 0.1}, versus: {dropout_rate: 0.3}, "
        "metric: epochs_to_80, expect: lower, margin: 0.1}]\n"
    )
    sweep = sweep_of(text, tmp_path)
    claim = sweep.claims[0]
    missing = frames_of(sweep, keep=lambda run: run.config.dropout_rate < 0.2)
    assert outcome(claim, None, missing) == "not judged: runs are missing"
    slow = frames_of(sweep)
    for row in slow.rows:
        if row.arm.config.dropout_rate == 0.3:
            row.metrics["epochs_to_80"] = math.nan
    ((_, verdict),) = judge_claims(slow, {})
    expected = "not judged: with dropout_rate=0.3, the finished runs never reached 80 %"
    assert outcome(claim, verdict, slow) == expected
