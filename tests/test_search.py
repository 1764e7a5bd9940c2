"""Searches: what is proposed, what is pruned, what an interruption changes, who is a finalist."""

import itertools
import json
import shutil
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from conftest import TINY, lacking
from studies import epochs_of

from fmnist_tuning.data.files import find
from fmnist_tuning.errors import ConfigError
from fmnist_tuning.report.figures.kinds import axes_by_kind
from fmnist_tuning.running.engine import execute
from fmnist_tuning.running.events import (
    Blocked,
    Chosen,
    EpochEnded,
    Finished,
    Proposed,
    Pruned,
    Resumed,
    Reused,
    Searched,
    Started,
)
from fmnist_tuning.running.planning import plan_study
from fmnist_tuning.running.pool import WorkerPool
from fmnist_tuning.running.trials import Trials
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.arms import run_config
from fmnist_tuning.sweeps.datasets import Shape
from fmnist_tuning.sweeps.proposing import Trial, importances, is_pruned, next_decision, propose
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.runs import runs_of
from fmnist_tuning.sweeps.search import Search, whole_settings
from fmnist_tuning.sweeps.settings import RunConfig

SPACE = {
    "dropout_rate": {"low": 0.0, "high": 0.6},
    "learning_rate": {"low": 0.0003, "high": 0.01, "log": True},
    "num_conv_layers": [1, 2, 3],
    "fc_units": [[64], [128], [256]],
    "batch_size": {"low": 32, "high": 256, "log": True},
}
TEXT = (
    "sweep: s\ntitle: S\nfixed: {holdout_size: 80}\nsearch:\n  space:\n"
    "    dropout_rate: {low: 0.0, high: 0.6}\n"
    "    learning_rate: {low: 0.0003, high: 0.03, log: true}\n"
    "    use_batch_norm: [true, false]\n"
    "  trials: 7\n  finalists: 2\n"
)
PRUNED = TEXT + "  prune: hyperband\n"
SETTINGS = TINY | {"val_size": 80, "epochs": 4}


def score(settings):
    return 0.9 - abs(settings["dropout_rate"] - 0.2) - 0.01 * settings["num_conv_layers"]


def searched(search, trials, fixed=None):
    """A search of a known function, one trial after another; gives the settings of its trials."""
    done, tried = [], []
    for _ in range(trials):
        settings = propose(search, fixed or {}, done, tried)
        tried.append(run_config(whole_settings(fixed or {}, settings, search.space)))
        value = score(settings)
        done.append(Trial(settings, "complete", value, (value - 0.1, value)))
    return done


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "gp"])
def test_a_sampler_is_seeded(sampler):
    """The same seed proposes the same trials, another one others; the base comes first."""
    search = Search(space=SPACE, trials=12, sampler=sampler)
    first = [trial.settings for trial in searched(search, 12)]
    assert first == [trial.settings for trial in searched(search, 12)]
    other = Search(space=SPACE, trials=12, sampler=sampler, seed=1)
    assert first[1:] != [trial.settings for trial in searched(other, 12)][1:]
    assert first[0] == {
        "dropout_rate": 0.5, "learning_rate": 0.001, "num_conv_layers": 2, "fc_units": [128],
        "batch_size": 64,
    }  # fmt: skip
    assert len({json.dumps(settings) for settings in first}) == 12


def test_tpe_learns():
    """By a known function of two settings, it comes nearer to the best than random trials do."""

    def best(sampler, seed):
        search = Search(space=SPACE, trials=40, sampler=sampler, seed=seed)
        return max(trial.value for trial in searched(search, 40))

    assert sum(best("tpe", s) for s in range(3)) > sum(best("random", s) for s in range(3))


def test_numbers_stay_in_their_ranges():
    """Integers are integers, real numbers have four digits, and no end is passed."""
    search = Search(space=SPACE | {"shift_pixels": {"low": 1, "high": 9, "step": 4},
                                   "augmentation": ["shift", "none"]}, trials=30)  # fmt: skip
    for trial in searched(search, 30):
        settings = trial.settings
        assert 0 <= settings["dropout_rate"] <= 0.6
        assert 0.0003 <= settings["learning_rate"] <= 0.01
        assert float(f"{settings['learning_rate']:.4g}") == settings["learning_rate"]
        assert settings["batch_size"] in range(32, 257)
        assert ("shift_pixels" in settings) == (settings["augmentation"] == "shift")
        assert settings.get("shift_pixels", 1) in {1, 5, 9}


def test_impossible_combinations_are_not_proposed():
    """Five poolings leave no pixel, and five blocks need five widths."""
    space = {"num_conv_layers": [1, 4, 5, 6], "dropout_rate": {"low": 0.0, "high": 0.5}}
    search = Search(space=space, trials=20, sampler="random")
    assert {trial.settings["num_conv_layers"] for trial in searched(search, 20)} == {1, 4}


def test_a_small_space_is_used_up():
    """Every trial is a new one, down to the last; then there is no further one."""
    space = {"num_conv_layers": [1, 2, 3, 6], "dropout_rate": [0.1, 0.2]}
    search = Search(space=space, trials=6)
    trials = searched(search, 6)
    assert len({json.dumps(trial.settings) for trial in trials}) == 6
    tried = [run_config(trial.settings) for trial in trials]
    with pytest.raises(ConfigError, match="no further trial"):
        propose(search, {}, trials, tried)


@pytest.mark.parametrize(
    ("prune", "epochs", "expected"),
    [
        ("none", 10, []),
        ("median", 4, [1, 2, 3]),
        ("hyperband", 10, [1, 3]),
        ("hyperband", 30, [1, 3, 9]),
        ("hyperband", 3, [1]),
        ("hyperband", 2, []),
    ],
)
def test_when_it_is_decided(prune, epochs, expected):
    """Hyperband decides at its rungs, the median after every epoch, and nothing near the end."""
    search, done, found = Search(space=SPACE, trials=9, prune=prune), 0, []
    while (decision := next_decision(search, done, epochs)) is not None:
        found.append(decision)
        done = decision
    assert found == expected


@pytest.mark.parametrize("prune", ["median", "hyperband"])
def test_the_bad_end_early(prune):
    """Worse than all others after an epoch: pruned; better than all: not."""
    search = Search(space=SPACE, trials=40, prune=prune)
    others = {
        n: Trial({}, "complete", 0.5 + 0.01 * n, tuple(0.1 * e + 0.01 * n for e in range(1, 11)))
        for n in range(30)
    }
    decided = partial(is_pruned, search, 10)
    # Hyperband deals some of the trials to brackets that decide later, the last ones after nine.
    bad = [decided(number, (0.0,), others) for number in range(30, 38)]
    late = [decided(number, (0.0,) * 9, others) for number in range(30, 38)]
    good = [
        decided(number, (9.0,) * epochs, others) for number in range(30, 38) for epochs in (1, 9)
    ]
    assert all(late)
    assert all(bad) if prune == "median" else 0 < sum(bad) < len(bad)
    assert not any(good)
    assert not is_pruned(Search(space=SPACE, trials=40), 10, 8, (0.0,), others)


def test_losses_are_the_lower_the_better():
    """With a loss as its metric, the low ones go on."""
    search = Search(space=SPACE, trials=40, prune="median", metric="late_val_loss")
    others = {n: Trial({}, "complete", 0.5, (0.5, 0.4)) for n in range(8)}
    assert is_pruned(search, 10, 8, (0.9,), others)
    assert not is_pruned(search, 10, 8, (0.1,), others)


def test_importances_name_what_matters():
    """Of a function of dropout and a little of the depth, most is the dropout's."""
    search = Search(space=SPACE, trials=40, sampler="random")
    found = importances(search, searched(search, 40))
    assert next(iter(found)) == "dropout_rate"
    assert found["dropout_rate"] > 0.5
    assert sum(found.values()) == pytest.approx(1)
    assert importances(search, searched(search, 1)) == {}


WRONG = {
    "space: {}": ("space", {}),
    "reversed": ("space", {"dropout_rate": {"low": 0.6, "high": 0.1}}),
    "log of zero": ("space", {"learning_rate": {"low": 0.0, "high": 0.1, "log": True}}),
    "out of bounds": ("space", {"dropout_rate": {"low": 0.0, "high": 1.5}}),
    "no number": ("space", {"optimizer": {"low": 0, "high": 1}}),
    "one value": ("space", {"kernel_size": [3]}),
    "wrong value": ("space", {"kernel_size": [3, "x"]}),
    "unknown setting": ("space", {"dropout": [0.1, 0.2]}),
    "no list": ("space", {"kernel_size": 3}),
    "other images": ("space", {"validation": ["test", "holdout"]}),
    "finalists": ("finalists", 8),
    "sampler": ("sampler", "tpee"),
    "metric": ("metric", "test_accuracy"),
    "too small": ("space", {"num_conv_layers": [1, 2, 3]}),
}
SAID = {
    "space: {}": "search.space: found {}, allowed: at least one entry",
    "reversed": "search.space.dropout_rate.high: found 0.1, allowed: more than low = 0.6",
    "log of zero": "search.space.learning_rate.low: found 0, allowed … more than 0",
    "out of bounds": "search.space.dropout_rate.high: found 1.5, allowed: at least 0 and less",
    "no number": "search.space.optimizer: found … allowed: a list of values; it is no number",
    "one value": "search.space.kernel_size: found [3], allowed: two different values or more",
    "wrong value": "search.space.kernel_size: found 'x', allowed: an integer",
    "unknown setting": "search.space.dropout: unknown key; did you mean dropout_rate?",
    "no list": "search.space.kernel_size: found 3, allowed: a list of values, or a range",
    "other images": "search.space.validation: trials are judged by the same images",
    "finalists": "search.finalists: found 8, allowed: at most trials = 7",
    "sampler": "search.sampler: found 'tpee'; did you mean tpe?",
    "metric": "search.metric: found 'test_accuracy'",
    "too small": "search.trials: found 7, allowed: at most 3, as many as the space has",
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_told_with_their_place(case, sweep_file):
    """One line, with the file's line, the key, what was found and what is allowed."""
    key, value = WRONG[case]
    section = {"space": {"dropout_rate": [0.1, 0.2]} | SPACE, "trials": 7} | {key: value}
    path = sweep_file(f"sweep: s\ntitle: S\nsearch: {json.dumps(section)}\n")
    with pytest.raises(ConfigError) as caught:
        load_sweeps([path], figures=axes_by_kind())
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:3: ")
    assert not lacking(problem, SAID[case]), problem


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("fixed: {dropout_rate: 0.1}", "search.space.dropout_rate: `fixed` has it too"),
        ("grid: {kernel_size: [3, 5]}", "found grid and search"),
        ("seeds: [0, 1]", "seeds: found 0, allowed: more than 0"),
        ("fixed: {step_epochs: 3}", "fixed.step_epochs: has no effect"),
        (
            "claims: [{that: x, arm: {}, versus: {}, expect: higher, margin: 0}]",
            "claims: its finalists are judged",
        ),
    ],
)
def test_what_does_not_go_with_a_search(more, said, sweep_file):
    """Each with the key that is too much."""
    text = f"sweep: s\ntitle: S\nsearch: {json.dumps({'space': SPACE, 'trials': 7})}\n{more}\n"
    with pytest.raises(ConfigError) as caught:
        load_sweeps([sweep_file(text)])
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_a_search_holds_images_out(sweep_file):
    """A search chooses, so the test set must not; a file may say otherwise."""
    search, finalists = load_sweeps([sweep_file(TEXT)], SETTINGS)
    assert search.fixed["validation"] == finalists.fixed["validation"] == "holdout"
    assert finalists.seeds == (1000, 1001, 1002)
    search, _ = load_sweeps([sweep_file(TEXT)], {"validation": "test", "holdout_size": 10_000})
    assert search.fixed["validation"] == "test"
    _, finalists = load_sweeps([sweep_file(TEXT)], SETTINGS, [0, 1])
    assert finalists.seeds == (1000, 1001)


@pytest.fixture
def study(migrated):
    return Study.open("study", f"sqlite:///{migrated}")


def events_of(study, data, path, *, jobs=1, settings=SETTINGS):
    """What happens when a file is run."""
    files = find(data)
    plan = plan_study(load_sweeps([path], settings), study, files.digest)
    with closing(WorkerPool([files], "cpu", jobs)) as pool:
        yield from execute(plan, study, files.digest, pool)


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def told(study):
    """The trials of a search as its study has them: what decides, and nothing of the machine."""
    (search,) = (sweep for sweep in study.sweeps() if sweep.sweep == "s")
    finished, pruned = study.finished_runs(), study.pruned_runs()
    found = []
    for run in runs_of(search.definition.get(), search.data_digest):
        there = finished.get(run.fingerprint) or pruned["s", run.fingerprint]
        kept = {k: v for k, v in there.metrics.items() if "second" not in k}
        found.append((run.arm.label, run.fingerprint in finished, kept))
    return found


def test_a_search_from_trials_to_finalists(study, tiny_data, sweep_file):
    """Trials are ordinary runs; the best of them are trained again beside the base."""
    events = list(events_of(study, tiny_data, sweep_file(PRUNED)))
    definition = study.definitions(["s"])["s"]
    assert [arm.name for arm in definition.arms] == [f"trial {n}" for n in range(1, 8)]
    assert len(of(Proposed, events)) == 6  # the first is there when training begins
    pruned = of(Pruned, events)
    assert pruned
    assert all(0 < event.epochs < 4 for event in pruned)
    finished = [event.run for event in of(Finished, events)]
    assert len(pruned) + sum(run.sweep == "s" for run in finished) == 7
    (chosen,) = of(Chosen, events)
    seeds = {run.config.seed for run in finished if run.sweep == "s_finalists"}
    assert seeds == {1000, 1001, 1002}
    # The base configuration, which is the first trial, stands beside them anyway.
    scores = sorted(
        study.finished_runs()[run.fingerprint].metrics["late_val_accuracy"]
        for run in finished
        if run.sweep == "s" and run.arm.name != "trial 1"
    )[-1:-3:-1]
    *finalists, base = chosen.sweep.arms
    assert [arm.predicted for arm in finalists] == pytest.approx(scores, abs=1e-6)
    assert [arm.name for arm in chosen.sweep.arms] == [*"AB"[: len(scores)], "base"]
    assert base.config == definition.arms[0].config


def test_pruned_trials_are_marked(study, tiny_data, sweep_file):
    """With a status, a tag that says after how many epochs, and a reason; nothing is kept."""
    list(events_of(study, tiny_data, sweep_file(PRUNED)))
    found = [
        run
        for run in study.client.search_runs([study.experiment_id])
        if "fmnist.pruned" in run.data.tags
    ]
    assert found
    for run in found:
        assert run.info.status == "KILLED"
        epochs = run.data.tags["fmnist.pruned"]
        assert f"pruned by hyperband after epoch {epochs}" in run.data.tags["mlflow.note.content"]
    assert not list(study.state_folder.glob("*.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("text", [TEXT, PRUNED], ids=["whole", "pruned"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_search_is_an_unbroken_one(
    text, jobs, migrated_twice, tiny_data, sweep_file
):
    """Broken off again and again, it asks for the same trials and gets the same numbers."""
    whole, broken = migrated_twice
    path = sweep_file(text)
    list(events_of(whole, tiny_data, path, jobs=jobs))
    for epochs in (2, 5, 3, 9):
        happening = events_of(broken, tiny_data, path, jobs=jobs)
        ends = (event for event in happening if isinstance(event, EpochEnded))
        next(itertools.islice(ends, epochs - 1, None))
        happening.close()
    last = list(events_of(broken, tiny_data, path, jobs=jobs))
    assert of(Resumed, last) or of(Reused, last)
    assert told(broken) == told(whole)
    assert not of(Started, events_of(broken, tiny_data, path, jobs=jobs))


@pytest.fixture
def migrated_twice(migrated, tmp_path):
    other = tmp_path / "other.db"
    shutil.copy(migrated, other)
    return [Study.open("study", f"sqlite:///{place}") for place in (migrated, other)]


def test_more_trials_go_on(study, tiny_data, sweep_file):
    """A search with more trials keeps those that it has; with fewer it needs a word."""
    list(events_of(study, tiny_data, sweep_file(TEXT)))
    before = study.definitions(["s"])["s"].arms
    longer = sweep_file(TEXT.replace("trials: 7", "trials: 9"))
    events = list(events_of(study, tiny_data, longer))
    after = study.definitions(["s"])["s"].arms
    assert after[:7] == before
    assert len(after) == 9
    assert len([e for e in of(Started, events) if e.run.sweep == "s"]) == 2
    with pytest.raises(ConfigError, match=r"search\.trials: 9 → 7"):
        list(events_of(study, tiny_data, sweep_file(TEXT)))


def test_another_space_is_another_search(study, tiny_data, sweep_file):
    """It would lose the trials that the study has, so it is refused with what differs."""
    list(events_of(study, tiny_data, sweep_file(TEXT)))
    other = sweep_file(TEXT.replace("high: 0.6", "high: 0.5"))
    with pytest.raises(ConfigError, match=r"search.space.dropout_rate: .*0.6.* → .*0.5"):
        list(events_of(study, tiny_data, other))


def test_force_is_no_way_to_search_again(study, tiny_data, sweep_file):
    """Its trials follow from its results; without them there would be others."""
    sweeps = load_sweeps([sweep_file(TEXT)], SETTINGS)
    with pytest.raises(ConfigError, match="--force: found with the search s"):
        plan_study(sweeps, study, find(tiny_data).digest, force=True)


def test_a_trial_that_diverges_is_one_that_was_pruned(study, tiny_data, sweep_file):
    """It says something about its settings; the search goes on, and the sweep has not failed."""
    text = (
        "sweep: s\ntitle: S\nfixed: {holdout_size: 80, optimizer: SGD, use_batch_norm: false}\n"
        "search:\n  space:\n    learning_rate: [0.01, 1.0e+15]\n    dropout_rate: [0.1, 0.2]\n"
        "  trials: 4\n  finalists: 1\n"
    )
    events = list(events_of(study, tiny_data, sweep_file(text)))
    ended = of(Pruned, events)
    assert len(ended) == 2
    assert all("not a finite number" in event.reason for event in ended)
    statuses = {sweep.sweep: sweep.status for sweep in study.sweeps()}
    assert statuses == {"s": "FINISHED", "s_finalists": "FINISHED"}


def test_a_grid_may_finish_what_a_search_has_pruned(study, tiny_data, sweep_file):
    """Pruned says that a search has no use for it, and nothing about the run itself."""
    list(events_of(study, tiny_data, sweep_file(PRUNED)))
    pruned = next(iter(study.pruned_runs().values()))
    config = RunConfig.from_params(pruned.params)
    fixed = {k: v for k, v in config.model_dump(mode="json").items() if k in SETTINGS | {
        "dropout_rate": 0, "learning_rate": 0, "use_batch_norm": 0, "validation": 0,
        "holdout_size": 0}}  # fmt: skip
    grid = sweep_file(
        f"sweep: g\ntitle: G\nfixed: {json.dumps(fixed)}\narms: [{{name: one}}]\n", "grid.yaml"
    )
    events = list(events_of(study, tiny_data, grid, settings={}))
    assert [event.run.fingerprint for event in of(Finished, events)] == [pruned.fingerprint]
    assert ("s", pruned.fingerprint) not in study.pruned_runs()


def test_a_trial_waits_for_those_that_are_a_window_before_it(sweep_file):
    """And for no other: which of the rest is done by then depends on the machine."""
    search, _ = load_sweeps([sweep_file(TEXT)], SETTINGS)
    trials = Trials(search, "digest", 2)
    first = trials.adopt(trials.proposal())
    second = trials.adopt(trials.proposal())
    assert trials.proposal() is None
    trials.learn(*second, {"late_val_accuracy": 0.8}, (0.7, 0.8))
    assert trials.proposal() is None
    trials.learn(*first, {"late_val_accuracy": 0.7}, (0.6, 0.7))
    third = trials.proposal()
    # What the second has found makes no difference yet.
    other = Trials(search, "digest", 2)
    other.adopt(other.proposal())
    other.adopt(other.proposal())
    other.learn(*first, {"late_val_accuracy": 0.7}, (0.6, 0.7))
    assert other.proposal() == third


@pytest.mark.slow
def test_a_search_travels(fmnist_here, sweep_file, tmp_path):
    """Exported and imported, it is the same search: nothing is trained again, pruned or not."""
    tiny = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    path = sweep_file(PRUNED)
    run = ["run", path, "--jobs=1", "--tracking-uri"]
    assert fmnist_here(*run, "sqlite:///a.db", *tiny).returncode == 0
    assert fmnist_here("export", "a.jsonl.gz", "--tracking-uri", "sqlite:///a.db").returncode == 0
    done = fmnist_here("import", "a.jsonl.gz", "--tracking-uri", "sqlite:///b.db")
    assert done.returncode == 0, done.stderr
    again = fmnist_here("import", "a.jsonl.gz", "--tracking-uri", "sqlite:///b.db")
    assert "0 runs added" in again.stdout
    name = "fashion_mnist_cnn_tuning"
    one, other = (Study.existing(name, f"sqlite:///{place}.db") for place in "ab")
    assert told(other) == told(one)
    assert one.pruned_runs().keys() == other.pruned_runs().keys() != set()
    assert fmnist_here("export", "b.jsonl.gz", "--tracking-uri", "sqlite:///b.db").returncode == 0
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert "started" not in fmnist_here(*run, "sqlite:///b.db", *tiny).stderr
    figures = [
        fmnist_here("results", "--tracking-uri", f"sqlite:///{place}.db").stdout for place in "ab"
    ]
    assert figures[0] == figures[1]
    assert "pruned; the best is trial" in figures[0]


def test_momentum_is_searched_where_an_optimizer_has_it():
    """Adam has none, and is tried all the same."""
    space = {"optimizer": ["Adam", "SGD"], "momentum": {"low": 0.1, "high": 0.9}}
    search = Search(space=space, trials=12, sampler="random")
    trials, tried = [], []
    for _ in range(12):
        settings = propose(search, {}, trials, tried)
        tried.append(run_config(whole_settings({}, settings, search.space)))
        trials.append(Trial(settings, "running"))
    with_momentum = {config.optimizer: config.momentum > 0 for config in tried}
    assert with_momentum == {"Adam": False, "SGD": True}
    assert sum(config.optimizer == "Adam" for config in tried) == 1  # it is one configuration


@pytest.mark.parametrize("values", [[0, 0.0001], [0.0001, 0]])
def test_a_zero_in_a_file_is_that_of_a_setting(values):
    """`0` for a real number is 0.0, as the base configuration has it."""
    search = Search(space={"weight_decay": values, "dropout_rate": [0, 0.5]}, trials=4)
    trials, tried = [], []
    for _ in range(4):
        settings = propose(search, {}, trials, tried)
        tried.append(run_config(whole_settings({}, settings, search.space)))
        trials.append(Trial(settings, "complete", 0.5))
    assert len(set(tried)) == 4


@pytest.mark.parametrize(
    ("level", "allowed"),
    [
        ({"low": 0, "high": 0.6, "step": 0.1}, {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}),
        ({"low": 0.1, "high": 0.55, "step": 0.2}, {0.1, 0.3, 0.5}),
    ],
)
def test_real_numbers_in_steps(level, allowed, recwarn):
    """They are counted, the base is one of them where it is, and the last step may end early."""
    search = Search(space={"dropout_rate": level}, trials=len(allowed), finalists=1)
    trials, tried = [], []
    for _ in allowed:
        settings = propose(search, {}, trials, tried)
        tried.append(run_config(settings))
        trials.append(Trial(settings, "complete", 0.5))
    assert tried[0].dropout_rate == 0.5
    assert {config.dropout_rate for config in tried} == allowed
    assert not recwarn.list


def test_fine_steps_keep_their_digits():
    """Rounding to four digits would leave the grid."""
    search = Search(
        space={"learning_rate": {"low": 0.00001, "high": 0.2, "step": 0.001}}, trials=30,
        sampler="random",
    )  # fmt: skip
    trials, tried = [], []
    for _ in range(30):
        settings = propose(search, {}, trials, tried)
        tried.append(run_config(settings))
        trials.append(Trial(settings, "complete", 0.5))
    steps = [(config.learning_rate - 0.00001) / 0.001 for config in tried]
    assert steps == pytest.approx([round(step) for step in steps])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("space: {dropout_rate: {low: 0, high: 0.5, step: 0.1}}, trials: 8", "trials: found 8"),
        ("space: {dropout_rate: {low: 0, high: 0.5, step: 0.9}}, trials: 2", "step: found 0.9"),
        ("space: {dropout_rate: [0, 0.0]}, trials: 2", "two different values"),
        ("space: {shift_pixels: [1, 2], dropout_rate: [0.1, 0.2]}, trials: 2", "no effect without"),
        ("space: {momentum: {low: 0.1, high: 0.9}}, trials: 3", "no effect without `optimizer"),
        (
            "space: {conv_channels: [[8, 16, 32], [4, 8, 16]]}, trials: 1",
            "at most 0, as many as the space has",
        ),
        ("space: {num_conv_layers: [2, 3, 4]}, trials: 3, finalists: 3", "the first is the base"),
        ("space: {dropout_rate: {low: a, high: 0.5}}, trials: 3", "dropout_rate.low: found 'a'"),
        ("space: {kernel_size: {low: 3, high: 9.5}}, trials: 3", "high: found 9.5"),
        ("space: {dropout_rate: [0.1, 0.2, 0.3]}, trials: 3, seed: 1001", "more than 1001"),
    ],
)
def test_more_mistakes_of_spaces(text, said, sweep_file):
    """Each is told before anything is trained."""
    with pytest.raises(ConfigError) as caught:
        load_sweeps([sweep_file(f"sweep: s\ntitle: S\nsearch: {{finalists: 1, {text}}}\n"
                                if "finalists" not in text
                                else f"sweep: s\ntitle: S\nsearch: {{{text}}}\n")])  # fmt: skip
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_what_only_the_study_writes(sweep_file):
    """Trials and their number are no keys of a file, and a search is no source of combinations."""
    for text, said in (
        (f"{TEXT}arms: [{{name: trial 1, dropout_rate: 0.1}}]\n", "arms: found with search"),
        ("sweep: c\ntitle: C\ncombine: {from: [s], trials: 3}\nseeds: [1]\n", "combine.trials"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_sweeps([sweep_file(text)])
        assert any(said in problem for problem in caught.value.problems)


def test_too_few_images_are_noticed(sweep_file):
    """Before the first trial: the base configuration tells."""
    path = sweep_file(TEXT.replace("{holdout_size: 80}", "{holdout_size: 80, train_size: 5000}"))
    shape = Shape(size=28, channels=1, classes=10, train_images=300, test_images=100)
    with pytest.raises(ConfigError, match="train_size: found 5,000, allowed: at most 220"):
        load_sweeps([path], shapes={"fashion_mnist": shape})


def test_a_whole_training_is_not_pruned(sweep_file):
    """After its last epoch nothing is decided, also if it was interrupted there."""
    for prune in ("median", "hyperband"):
        path = sweep_file(TEXT + f"  prune: {prune}\n")
        search, _ = load_sweeps([path], SETTINGS | {"epochs": 3})
        trials = Trials(search, "digest", 1)
        for value in (0.9, 0.91, 0.92, 0.93, 0.94, 0.95):
            (run,) = trials.adopt(trials.proposal())
            trials.learn(run, {"late_val_accuracy": value}, (value, value, value))
        (last,) = trials.adopt(trials.proposal())
        epochs = tuple(epochs_of(0.1))
        assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
        assert isinstance(trials.judged(Resumed(last, epochs)), Resumed)


def test_an_exhausted_space_ends_the_search(sweep_file, study, tiny_data):
    """It goes on to its finalists; the other sweeps of the command are trained too."""
    text = (
        "sweep: s\ntitle: S\nfixed: {holdout_size: 80}\nsearch:\n  space:\n"
        "    dropout_rate: {low: 0.1, high: 0.10004}\n    use_batch_norm: [true, false]\n"
        "  trials: 9\n  finalists: 1\n"
    )
    events = list(events_of(study, tiny_data, sweep_file(text)))
    (searched,) = of(Searched, events)
    assert searched.exhausted
    assert 2 <= len(searched.sweep.arms) < 9
    assert of(Chosen, events)
    again = list(events_of(study, tiny_data, sweep_file(text)))
    assert not of(Started, again)


@pytest.mark.slow
def test_two_searches_share_no_pruning(study, tiny_data, sweep_file):
    """What one has pruned, another one without pruning trains to its end."""
    pruned = PRUNED.replace("hyperband", "median").replace("trials: 7", "trials: 9")
    pruned += "  sampler: qmc\n"
    list(events_of(study, tiny_data, sweep_file(pruned)))
    ended = {mark for _, mark in study.pruned_runs()}
    assert ended
    whole = pruned.replace("sweep: s", "sweep: t").replace("  prune: median\n", "")
    events = list(events_of(study, tiny_data, sweep_file(whole)))
    trained = {event.run.fingerprint for event in of(Finished, events)}
    assert ended <= trained


def test_nothing_but_pruned_trials_blocks_nobody_else(study, tiny_data, sweep_file):
    """There is nothing to judge, which is said; the command's other sweeps are trained."""
    text = (
        "sweep: s\ntitle: S\nfixed: {holdout_size: 80, optimizer: SGD, use_batch_norm: false}\n"
        "search: {space: {learning_rate: [1.0e+15, 1.0e+16]}, trials: 2, finalists: 1}\n"
    )
    search = sweep_file(text)
    grid = sweep_file(
        "sweep: g\ntitle: G\nfixed: {val_size: 100}\ngrid: {dropout_rate: [0.1]}\n", "g.yaml"
    )
    for expected in (1, 0):
        files = find(tiny_data)
        settings = {k: v for k, v in SETTINGS.items() if k != "val_size"}
        sweeps = load_sweeps([search, grid], settings)
        plan = plan_study(sweeps, study, files.digest)
        with closing(WorkerPool([files], "cpu", 1)) as pool:
            events = list(execute(plan, study, files.digest, pool))
        (blocked,) = of(Blocked, events)
        assert "no complete trial beside the base configuration" in blocked.reason
        assert len([e for e in of(Finished, events) if e.run.sweep == "g"]) == expected


@pytest.mark.slow
def test_deciding_obeys_the_file(fmnist_here, sweep_file):
    """More trials are tried, another space is refused, and a second time nothing is new."""
    tiny = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    decide = ["--decide", "--max-seeds=3", "--jobs=1", *tiny]
    short = TEXT.replace("trials: 7", "trials: 3")
    assert fmnist_here("run", sweep_file(short), *decide).returncode == 0
    longer = fmnist_here("run", sweep_file(TEXT.replace("trials: 7", "trials: 4")), *decide)
    assert longer.returncode == 0
    assert "s: 4 trials\n" in longer.stderr
    again = fmnist_here("run", sweep_file(TEXT.replace("trials: 7", "trials: 4")), *decide)
    assert again.returncode == 0, again.stderr
    assert "started" not in again.stderr
    other = TEXT.replace("trials: 7", "trials: 4").replace("high: 0.6", "high: 0.5")
    refused = fmnist_here("run", sweep_file(other), *decide)
    assert refused.returncode == 2
    assert "search.space.dropout_rate: {low: 0.0, high: 0.6}" in refused.stderr
    fewer = fmnist_here("run", sweep_file(short), *decide)
    assert fewer.returncode == 2
    assert "search.trials: 4 → 3" in fewer.stderr


def test_deciding_with_fewer_finalists_than_were_asked_for(fmnist_here, sweep_file):
    """Heavy pruning leaves few complete trials; the second command goes on with those."""
    tiny = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    text = PRUNED.replace("finalists: 2", "finalists: 5")
    for _ in range(2):
        done = fmnist_here("run", sweep_file(text), "--decide", "--max-seeds=3", "--jobs=1", *tiny)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_search_that_went_on_elsewhere_comes_back(fmnist_here, sweep_file):
    """The study with fewer trials takes the further ones, and the finalists that they chose."""
    tiny = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    stores = ["--tracking-uri=sqlite:///a.db", "--tracking-uri=sqlite:///b.db"]
    for store, trials, name in ((stores[0], 3, "a"), (stores[1], 5, "b")):
        text = TEXT.replace("trials: 7", f"trials: {trials}")
        if name == "b":
            assert fmnist_here("import", "a.jsonl", store).returncode == 0
        assert fmnist_here("run", sweep_file(text), "--jobs=1", store, *tiny).returncode == 0
        assert fmnist_here("export", f"{name}.jsonl", store).returncode == 0
    done = fmnist_here("import", "b.jsonl", stores[0])
    assert done.returncode == 0, done.stderr
    results = [fmnist_here("results", store).stdout for store in stores]
    assert results[0] == results[1]
    assert "5 trials: 5 complete" in results[0]


def test_a_search_alone_has_no_champion(fmnist_here, study, tiny_data, sweep_file):
    """Without finalists there is nothing that fresh seeds have judged."""
    happening = events_of(study, tiny_data, sweep_file(TEXT))
    next(event for event in happening if isinstance(event, Searched))
    happening.close()
    place = ["--study=study", f"--tracking-uri={study.uri}"]
    done = fmnist_here("champion", *place)
    assert done.returncode == 2
    assert "has only trials of s" in done.stderr
    written = fmnist_here("journal", *place, "--output", "J.md")
    assert written.returncode == 0, written.stderr
    assert "no fresh seed has judged yet" in Path("J.md").read_text()
