"""The arms that finished sweeps choose."""

import pytest
from studies import frames_of, sweep_of

from fmnist_tuning.analysis.verdicts import groups_of
from fmnist_tuning.errors import ConfigError
from fmnist_tuning.metrics import ACCURACY
from fmnist_tuning.sweeps.combine import choose_arms, leverages, rank_combinations
from fmnist_tuning.sweeps.finished import FinishedRun
from fmnist_tuning.sweeps.plan import make_plan
from fmnist_tuning.sweeps.runs import runs_of


def additive(run):
    return 0.9 + 0.02 * run["norm"] - 0.05 * (run["rate"] == 0.5) + 0.01 * run["depth"]


LEVELS = {"rate": [0.3, 0.5], "norm": [True, False], "depth": [1, 2]}
BASE = {"rate": 0.3, "norm": True, "depth": 2}
ONE_AT_A_TIME = [BASE, BASE | {"rate": 0.5}, BASE | {"norm": False}, BASE | {"depth": 1}]


def test_main_effects_add_up():
    """From runs that vary one setting at a time, every combination is predicted exactly."""
    ranked = rank_combinations(ONE_AT_A_TIME, [additive(r) for r in ONE_AT_A_TIME], LEVELS, [])
    assert len(ranked) == 8
    for combination, predicted in ranked:
        assert predicted == pytest.approx(additive(combination))
    assert ranked[0][0] == {"rate": 0.3, "norm": True, "depth": 2}
    values = [predicted for _, predicted in ranked]
    assert values == sorted(values, reverse=True)


def test_an_interaction_that_was_crossed_is_used():
    """0.5 is bad only without norm: the additive model would blame both."""
    runs = [*ONE_AT_A_TIME, BASE | {"rate": 0.5, "norm": False}]
    response = [additive(run) - 0.2 * (run["rate"] == 0.5 and not run["norm"]) for run in runs]
    predicted = rank_combinations(runs, response, LEVELS, [("rate", "norm")])
    for combination, value in predicted:
        worse = 0.2 * (combination["rate"] == 0.5 and not combination["norm"])
        assert value == pytest.approx(additive(combination) - worse)


def test_an_interaction_that_was_not_crossed_is_zero():
    """What no run can tell is not invented."""
    response = [additive(run) for run in ONE_AT_A_TIME]
    with_pair = rank_combinations(ONE_AT_A_TIME, response, LEVELS, [("rate", "norm")])
    without = rank_combinations(ONE_AT_A_TIME, response, LEVELS, [])
    assert [c for c, _ in with_pair] == [c for c, _ in without]
    assert [v for _, v in with_pair] == pytest.approx([v for _, v in without])


def test_several_seeds_are_averaged():
    """Each run is one observation."""
    runs = [run for run in ONE_AT_A_TIME for _ in range(2)]
    response = [additive(run) + noise for run in ONE_AT_A_TIME for noise in (-0.01, 0.01)]
    for combination, value in rank_combinations(runs, response, LEVELS, []):
        assert value == pytest.approx(additive(combination))


def test_what_a_claim_compares_with_is_trained_too(tmp_path):
    """With the fresh seeds: by its old ones, the winners were chosen."""
    one = sweep_of("sweep: one\ntitle: O\ngrid: {dropout_rate: [0.1, 0.5]}\n", tmp_path)
    six = sweep_of(
        "sweep: six\ntitle: S\ncombine: {from: [one], top: 1}\nseeds: [1000]\n"
        "claims: [{that: x, arm: {name: A}, versus_sweep: one, versus: {dropout_rate: 0.5},\n"
        "  expect: higher, margin: 0.002}]\n",
        tmp_path,
    )
    runs = {"one": runs_of(one, "d")}
    finished = {
        run.fingerprint: FinishedRun(
            run_id=run.name,
            name=run.name,
            sweeps=("one",),
            params={},
            metrics={ACCURACY: 0.9 - 0.1 * run.config.dropout_rate},
            device="cpu",
            ended=1.0,
        )
        for run in runs["one"]
    }
    chosen = choose_arms(six, [one], runs, finished)
    assert [(arm.name, arm.config.dropout_rate) for arm in chosen.arms] == [
        ("A", 0.1),
        ("base", 0.5),
    ]
    frames = {"one": frames_of(one), "six": frames_of(chosen)}
    asked = groups_of(chosen.claims[0], frames["six"], frames)
    assert asked.other is None
    assert [arm.name for arm in asked.versus] == ["base"]


def test_how_uncertain_a_prediction_is(tmp_path):
    """By hand: y1 + y2 - y0 of one run each has three times a run's variance, of two runs half."""
    one = sweep_of("sweep: one\ntitle: O\ngrid: {dropout_rate: [0.5, 0.1]}\n", tmp_path)
    two = sweep_of("sweep: two\ntitle: T\ngrid: {use_batch_norm: [true, false]}\n", tmp_path)
    arms = sweep_of(
        "sweep: six\ntitle: S\narms: [{name: both, dropout_rate: 0.1, use_batch_norm: false},\n"
        "  {name: base, dropout_rate: 0.5, use_batch_norm: true}]\n",
        tmp_path,
    ).arms
    for runs in (1, 2):
        seeds = {s.id: {arm.label: runs for arm in s.arms} for s in (one, two)}
        assert leverages([one, two], arms, seeds) == pytest.approx([3 / runs, 1 / runs])


def source_and_runs(tmp_path):
    """A finished sweep in which no pooling is better, and costs fifteen times the parameters."""
    source = sweep_of("sweep: one\ntitle: O\ngrid: {use_pooling: [true, false]}\n", tmp_path)
    accuracies = {
        run.fingerprint: FinishedRun(
            run_id="1",
            name=run.name,
            sweeps=("one",),
            params=run.config.params(),
            metrics={"final_val_accuracy": 0.92 - 0.01 * run.config.use_pooling},
            device="cpu",
            ended=1.0,
        )
        for run in runs_of(source, "data")
    }
    return source, accuracies


@pytest.mark.parametrize(("bound", "pooling"), [("", False), ("max_params: 1000000", True)])
def test_a_bound_on_the_parameters(tmp_path, bound, pooling):
    """What is larger is not chosen, however much it promises."""
    source, finished = source_and_runs(tmp_path)
    text = f"sweep: two\ntitle: T\ncombine: {{from: [one], top: 1, {bound}}}\nseeds: [7]\n"
    chosen = choose_arms(
        sweep_of(text, tmp_path), [source], {"one": runs_of(source, "data")}, finished
    )
    (arm,) = chosen.arms
    assert arm.config.use_pooling is pooling


def test_a_bound_that_nothing_meets(tmp_path):
    """Said, before anything is trained."""
    source, finished = source_and_runs(tmp_path)
    text = "sweep: two\ntitle: T\ncombine: {from: [one], max_params: 9}\nseeds: [7]\n"
    with pytest.raises(ConfigError, match="max_params: found 9, and no combination"):
        choose_arms(sweep_of(text, tmp_path), [source], {"one": runs_of(source, "data")}, finished)


def test_a_fixed_setting_that_the_sources_vary(tmp_path):
    """It could not be both; said with the key that is to go."""
    source, finished = source_and_runs(tmp_path)
    text = "sweep: two\ntitle: T\nfixed: {use_pooling: true}\ncombine: {from: [one]}\nseeds: [7]\n"
    with pytest.raises(ConfigError, match=r"two: fixed\.use_pooling: the combined sweeps vary it"):
        choose_arms(sweep_of(text, tmp_path), [source], {"one": runs_of(source, "data")}, finished)


def planned(sweeps, finished, **options):
    return make_plan(sweeps, "data", finished=finished, stored={}, **options)


def test_a_combination_before_its_source(tmp_path):
    """By name a combination may come first; what it combines has its runs all the same."""
    source, finished = source_and_runs(tmp_path)
    text = "sweep: {}\ntitle: T\ncombine: {{from: [{}], top: 1}}\nseeds: [{}]\n"
    second = sweep_of(text.format("a_second", "b_first", 8), tmp_path)
    first = sweep_of(text.format("b_first", "one", 7), tmp_path)
    plan = planned([source, second, first], finished)
    assert [sweep.id for sweep in plan.chosen] == ["b_first"]
    assert [sweep.id for sweep in plan.pending] == ["a_second"]
    assert [row.run.sweep for row in plan.rows] == ["one", "one", "b_first"]


def test_force_chooses_by_the_new_results(tmp_path):
    """What is trained again beside a combination decides it only afterwards."""
    source, finished = source_and_runs(tmp_path)
    best = sweep_of("sweep: two\ntitle: T\ncombine: {from: [one]}\nseeds: [7]\n", tmp_path)
    assert planned([source, best], finished).chosen
    assert planned([source, best], finished, force=True).pending == [best]


def test_a_claim_about_an_arm_that_is_not_chosen(tmp_path):
    """A mistake of the file, in one line."""
    source, finished = source_and_runs(tmp_path)
    text = (
        "sweep: two\ntitle: T\ncombine: {from: [one], top: 1}\nseeds: [7]\n"
        "claims: [{that: t, arm: {name: Z}, versus: {name: A}, expect: higher, margin: 0.01}]\n"
    )
    with pytest.raises(ConfigError, match=r"two: claims\[0\]\.arm: found .*matches no arm"):
        planned([source, sweep_of(text, tmp_path)], finished)


def test_all_combinations_that_cannot_be_planned_are_told(tmp_path):
    """Not the first alone."""
    text = "sweep: {}\ntitle: T\ncombine: {{from: [{}]}}\nseeds: [7]\n"
    both = [sweep_of(text.format(name, f"none_{name}"), tmp_path) for name in ("a", "b")]
    with pytest.raises(ConfigError) as caught:
        planned(both, {})
    assert [problem[:26] for problem in caught.value.problems] == [
        "a: combines none_a, not ru",
        "b: combines none_b, not ru",
    ]
