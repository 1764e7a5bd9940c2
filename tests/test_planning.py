import itertools
from types import SimpleNamespace

import pytest
from conftest import CONFIGS
from studies import sweep_of

from fmnist_tuning.running.events import Failed, Finished, PlanResults
from fmnist_tuning.sweeps.cost import (
    VALUE_COST,
    Estimate,
    forward_cost,
    parameter_count,
    training_macs,
)
from fmnist_tuning.sweeps.plan import make_plan
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.runs import data_of, fingerprint, joined, runs_of
from fmnist_tuning.sweeps.settings import RunConfig, label_of_value


def planned(sweeps, digest="digest", finished=()):
    """A plan of sweeps in a study that has finished runs with these fingerprints."""
    run = SimpleNamespace(
        name="r", run_id="1", sweeps=(), params={}, metrics={}, device="cpu", ended=0.0
    )
    return make_plan(sweeps, digest, finished=dict.fromkeys(finished, run), stored={})


def test_the_six_experiments():
    """Experiments 1 to 5 are 16 runs of 10 different configurations; 6 adds 3."""
    plan = planned(load_sweeps(CONFIGS))
    assert len(plan.rows) == 16
    assert len(plan.trainings) == 10
    assert [sweep.combine.top for sweep in plan.pending] == [3]


def test_after_experiment_1_the_others_train_five():
    """Eleven runs, of which six are there already."""
    sweeps = load_sweeps(CONFIGS)
    finished = {row.run.fingerprint for row in planned(sweeps[:1]).rows}
    assert len(planned(sweeps[1:5], finished=finished).trainings) == 5


def test_the_first_of_equal_runs_is_trained():
    """So that a training appears under the sweep that asked for it first."""
    plan = planned(load_sweeps(CONFIGS))
    trained = {row.run.fingerprint: row.run.sweep for row in plan.trainings}
    base = fingerprint(RunConfig(dropout_rate=0.5), "digest")
    assert trained[base] == "exp1_dropout"


def test_run_names_say_what_matters():
    """MLflow's table shows names before it shows params."""
    names = [row.run.name for row in planned(load_sweeps(CONFIGS)).rows]
    assert names[2] == "dropout_rate=0.3 seed=0"


def test_a_fingerprint_holds_everything_that_decides():
    """Every setting, and the data."""
    base = RunConfig()
    other = {
        "num_conv_layers": 3, "conv_channels": (32, 65), "kernel_size": 5, "use_pooling": False,
        "use_batch_norm": False, "dropout_rate": 0.4, "fc_units": (127,), "epochs": 11,
        "batch_size": 65, "learning_rate": 0.002, "optimizer": "AdamW", "weight_decay": 0.1,
        "precision": "bf16", "label_smoothing": 0.1, "gradient_clip": 1.0,
        "dataset": "mnist", "schedule": "cosine", "warmup_epochs": 1.0, "weight_averaging": "ema",
        "initialization": "kaiming", "augmentation": "flip_shift", "early_stopping": 3,
        "validation": "holdout", "train_size": 59_999, "val_size": 9_999, "seed": 1,
    }  # fmt: skip
    together = [
        {"optimizer": "SGD", "momentum": 0.9},
        {"validation": "holdout", "holdout_size": 9_000},
        {"schedule": "cosine", "final_learning_rate": 0.0001},
        {"schedule": "step", "step_epochs": 3},
        {"schedule": "step", "step_factor": 0.2},
        {"weight_averaging": "ema", "ema_decay": 0.99},
        {"weight_averaging": "swa", "swa_start": 0.5},
        {"augmentation": "shift", "shift_pixels": 1},
        {"augmentation": "rotate", "rotate_degrees": 5.0},
        {"augmentation": "erase", "erase_pixels": 6},
        {"early_stopping": 3, "min_delta": 0.01},
        {"dataset": "folder", "train_size": 100, "val_size": 50},
        {"dataset": "folder", "train_size": 100, "val_size": 50, "image_size": 64},
        {"dataset": "folder", "train_size": 100, "val_size": 50, "image_channels": 3},
        {"dataset": "folder", "train_size": 100, "val_size": 50, "classes": 7},
    ]
    changed = [RunConfig(**{key: value}) for key, value in other.items()]
    changed += [RunConfig(**settings) for settings in together]
    prints = {fingerprint(config, "digest") for config in [base, *changed]}
    prints.add(fingerprint(base, "another digest"))
    assert len(prints) == len(changed) + 2
    assert {*other, *itertools.chain(*together)} == set(RunConfig.model_fields)


def test_the_digest_of_one_data_set_is_not_anothers():
    """A text without a name is Fashion-MNIST's, as in older studies."""
    alone, both = joined({"mnist": "0123"}), joined({"mnist": "0123", "fashion_mnist": "4567"})
    assert joined({"fashion_mnist": "4567"}) == "4567"
    assert data_of("mnist", alone) == data_of("mnist", both) == "0123"
    assert data_of("mnist", "4567") != "4567"
    assert data_of("fashion_mnist", both) == data_of("fashion_mnist", "4567") == "4567"


def test_values_are_said_as_people_say_them():
    """What figures show beside a setting's label; a setting of None says none, as it is written."""
    values = (True, False, None, 0.0, 0.3, (32, 64), (64,))
    shown = ["on", "off", "none", "0.0", "0.3", "[32, 64]", "64"]
    assert [label_of_value(value) for value in values] == shown


def test_a_fingerprint_is_the_same_everywhere():
    """Other machines and later versions must find the runs again."""
    assert fingerprint(RunConfig(), "d1fd84a877f3b78f") == "964d45e0b6a13536"


VARIANTS = [
    {"num_conv_layers": depth, "use_pooling": pooling, "use_batch_norm": norm, **rest}
    for depth, pooling, norm in itertools.product((1, 2, 3), (True, False), (True, False))
    for rest in ({}, {"kernel_size": 5, "fc_units": (32, 16)}, {"fc_units": ()})
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_parameters_are_counted_without_the_network(settings):
    """The plan's figure is the network's own, for every kind of network."""
    from fmnist_tuning.training.model import FashionCNN

    config = RunConfig(**settings)
    network = FashionCNN(
        conv_channels=config.conv_channels,
        kernel_size=config.kernel_size,
        use_pooling=config.use_pooling,
        use_batch_norm=config.use_batch_norm,
        fc_units=config.fc_units,
    )
    assert parameter_count(config) == sum(p.numel() for p in network.parameters())


def test_averages_take_multiplications():
    """A pass of the convolutions after each epoch that has an average, for batch norm alone."""

    def macs(**settings):
        return training_macs(RunConfig(epochs=4, **settings))

    one_pass = 60_000 * (28**2 * 32 * 9 + 14**2 * 64 * 32 * 9)
    assert macs(weight_averaging="ema") - macs() == 4 * one_pass
    assert macs(weight_averaging="swa", swa_start=0.5) - macs() == 2 * one_pass
    plain = {"use_batch_norm": False}
    assert macs(weight_averaging="ema", **plain) == macs(**plain)


def test_published_parameter_counts():
    """421,834 for the base; dropping the pooling layers makes 6.4 million of it."""
    assert parameter_count(RunConfig()) == 421_834
    assert parameter_count(RunConfig(use_pooling=False)) == 6_442_954


def test_what_an_image_costs():
    """28²·9·32 and 14²·9·32·64 in the convolutions, whose values weigh, and the linear layers."""
    arithmetic = 28**2 * 9 * 32 + 14**2 * 9 * 32 * 64 + 3136 * 128 + 1280
    assert forward_cost(RunConfig()) == arithmetic + VALUE_COST * (28**2 * 32 + 14**2 * 64)


@pytest.mark.parametrize(("depth", "measured"), [(1, 0.59), (3, 1.40)])
def test_costs_are_in_proportion_to_measured_times(depth, measured):
    """Within 15 %: a network that is taken for less work than it is would be begun too late."""
    ratio = forward_cost(RunConfig(num_conv_layers=depth)) / forward_cost(RunConfig())
    assert ratio == pytest.approx(measured, rel=0.15)


def test_estimates_scale_with_the_work():
    """Half the epochs, about half the time; nothing is guessed without a history."""
    history = [(RunConfig(), 100.0)]
    assert Estimate(history).seconds(RunConfig(seed=3)) == pytest.approx(100)
    assert Estimate(history).seconds(RunConfig(epochs=5)) == pytest.approx(50, rel=0.05)
    assert Estimate(history).seconds(RunConfig(num_conv_layers=3)) > 100
    assert Estimate([]).seconds(RunConfig()) is None


def test_estimates_prefer_the_same_network():
    """Networks differ in how fast they multiply."""
    history = [(RunConfig(use_pooling=False), 1.0), (RunConfig(), 100.0)]
    assert Estimate(history).seconds(RunConfig(seed=1)) == pytest.approx(100)


def test_a_plans_records_are_in_the_order_of_its_arms(tmp_path):
    """Whatever ended first; what failed stands behind the finished runs of its sweep."""
    text = "sweep: s\ntitle: T\nhypothesis: H\nseeds: [0, 1]\ngrid: {dropout_rate: [0.0, 0.5]}\n"
    sweep = sweep_of(text, tmp_path)
    first, second, third, fourth = runs_of(sweep, "d" * 16)
    results = PlanResults([sweep])
    for event in (Failed(first, "why"), *(Finished(run, {}) for run in (fourth, third, second))):
        results.add(event)
    found = [(entry["fingerprint"], entry["status"]) for entry in results.as_json()]
    assert found == [
        *((run.fingerprint, "finished") for run in (second, third, fourth)),
        (first.fingerprint, "failed"),
    ]
