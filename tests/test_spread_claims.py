"""Claims about how much repeats agree, and pools that leave out what repeats otherwise."""

import math
import random
import re

import numpy as np
import pytest
from scipy import stats
from studies import frames_of, sweep_of

from fmnist_tuning.analysis.groups import Groups, matching
from fmnist_tuning.analysis.pool import Pool
from fmnist_tuning.analysis.verdicts import judge_claims
from fmnist_tuning.errors import ConfigError
from fmnist_tuning.report.wording import outcome

TEXT = """
sweep: s
title: S
grid: {schedule: [constant, cosine, linear]}
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
claims:
  - that: a schedule makes repeats agree
    arm: {schedule: [cosine, linear]}
    versus: {schedule: constant}
    metric: final_val_accuracy
    compare: spread
    expect: lower
    margin: 0.0005
"""


def noisy(constant: float, others: float):
    """Accuracies whose spread is that of their schedule."""

    def accuracy(config):
        luck = random.Random(f"{config.schedule} {config.seed}")  # noqa: S311
        return 0.9 + luck.gauss(0, constant if config.schedule == "constant" else others)

    return accuracy


def accuracies(frames, arm: int) -> np.ndarray:
    values = frames.by_seed([frames.sweep.arms[arm]], "final_val_accuracy")
    return np.array([values[seed] for seed in sorted(values)])


def test_distances_from_the_median_are_compared(tmp_path):
    """Seed by seed, each from its own arm's median, and averaged over the arms of a group."""
    frames = frames_of(sweep_of(TEXT, tmp_path), noisy(0.004, 0.001))
    apart = [abs(own - np.median(own)) for own in (accuracies(frames, arm) for arm in range(3))]
    found = matching(
        frames, {"schedule": ["cosine", "linear"]}, {"schedule": "constant"}
    ).contrast_of_spreads("final_val_accuracy", 20)
    wanted = stats.ttest_rel((apart[1] + apart[2]) / 2, apart[0])
    assert found.difference == pytest.approx(((apart[1] + apart[2]) / 2 - apart[0]).mean())
    assert found.p == pytest.approx(wanted.pvalue)


@pytest.mark.parametrize(
    ("constant", "others", "word"), [(0.004, 0.001, "supported"), (0.001, 0.004, "refuted")]
)
def test_a_claim_about_the_spread_is_judged(tmp_path, constant, others, word):
    """As any claim; its line says what differs."""
    frames = frames_of(sweep_of(TEXT, tmp_path), noisy(constant, others))
    ((claim, verdict),) = judge_claims(frames, {})
    assert verdict.word == word
    sign = "−" if constant > others else "+"
    assert outcome(claim, verdict, frames).startswith(f"{word} at 20 seeds: spread {sign}0.")


@pytest.mark.parametrize("seeds", [2, 3, 5, 7])
def test_few_seeds_say_nothing_of_a_spread(tmp_path, seeds):
    """Two runs are as far from their middle, whatever they are: that is no certainty."""
    some = "seeds: [" + ", ".join(map(str, range(seeds))) + "]"
    frames = frames_of(sweep_of(re.sub(r"seeds: .*", some, TEXT), tmp_path), noisy(0.004, 0.001))
    ((claim, verdict),) = judge_claims(frames, {})
    assert verdict.word == "inconclusive"
    assert math.isnan(verdict.contrast.error)
    assert "how certain is unknown" in outcome(claim, verdict, frames)


@pytest.mark.parametrize("heavy", [False, True])
def test_equal_spreads_are_seldom_told_apart(tmp_path, heavy):
    """At 4 %, no more of 150 studies than chance allows; with heavy tails too."""
    sweep = sweep_of(re.sub(r"seeds: .*", "seeds: [0, 1, 2, 3, 4, 5, 6, 7]", TEXT), tmp_path)
    told = 0
    for study in range(150):

        def accuracy(config, study=study):
            luck = np.random.default_rng([study, config.seed, *config.schedule.encode()])
            draw = luck.standard_t(4) / math.sqrt(2) if heavy else luck.standard_normal()
            return 0.9 + 0.002 * draw

        ((_, verdict),) = judge_claims(frames_of(sweep, accuracy), {})
        told += verdict.word in {"supported", "refuted"}
        assert verdict.word != "equivalent"  # which takes more seeds
    assert told <= 13  # one study in 400 has more at a rate of 4 %


def test_the_pool_of_another_schedule_says_nothing(tmp_path):
    """Repeats with a falling learning rate agree more, so only their own spread counts."""
    frames = frames_of(sweep_of(TEXT, tmp_path), noisy(0.004, 0.001))
    constant, cosine, _ = frames.sweep.arms
    pool = Pool([frames])
    asked = Groups(frames, [cosine], [constant]).contrast("final_val_accuracy", 20, pool)
    assert asked.freedom == 19  # without the pool's share
    wanted = stats.ttest_rel(accuracies(frames, 1), accuracies(frames, 0))
    assert asked.p == pytest.approx(wanted.pvalue)


@pytest.mark.parametrize("metric", ["total_params", "epochs_to_80"])
def test_some_metrics_have_no_spread(tmp_path, metric):
    """What is the same for every seed, or compared as ratios."""
    with pytest.raises(ConfigError, match=rf"compare: found spread, allowed with {metric}: mean"):
        sweep_of(TEXT.replace("final_val_accuracy", metric), tmp_path)
