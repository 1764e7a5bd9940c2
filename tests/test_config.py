from pathlib import Path

import pytest
from conftest import CONFIGS, EXPERIMENTS, ROOT
from pydantic import ValidationError

from fmnist_tuning.errors import ConfigError
from fmnist_tuning.sweeps.arms import run_config
from fmnist_tuning.sweeps.datasets import Shape
from fmnist_tuning.sweeps.reading import load_sweeps, parse_overrides, parse_seeds
from fmnist_tuning.sweeps.settings import RunConfig, label_of_value
from fmnist_tuning.sweeps.sweep import Sweep

GOOD = "sweep: mine\ntitle: Mine\n"


def problems(path: Path, **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_sweeps([path], **options)
    return [line.removeprefix(f"{path}") for line in caught.value.problems]


def test_defaults_are_the_journals_appendix():
    """What a file does not say is what the journal's appendix says."""
    config = RunConfig()
    assert (config.epochs, config.batch_size, config.optimizer) == (10, 64, "Adam")
    assert (config.learning_rate, config.fc_units) == (0.001, (128,))
    assert (config.num_conv_layers, config.conv_channels) == (2, (32, 64))
    assert (config.train_size, config.val_size) == (60_000, 10_000)


def test_channels_follow_the_depth_unless_given():
    """32, 64, 128, ... for as many blocks as there are."""
    assert RunConfig(num_conv_layers=3).conv_channels == (32, 64, 128)
    assert RunConfig(num_conv_layers=1, conv_channels=(7,)).conv_channels == (7,)


def test_a_holdout_takes_its_images_from_the_training_set():
    """Sizes that are not given follow from the kind of validation."""
    config = RunConfig(validation="holdout", holdout_size=5_000)
    assert (config.train_size, config.val_size) == (55_000, 5_000)


def test_params_come_back_as_they_were():
    """MLflow's texts hold the whole configuration."""
    config = RunConfig(num_conv_layers=3, use_pooling=False, learning_rate=1e-4, optimizer="SGD")
    assert RunConfig.from_params(config.params()) == config
    assert config.params()["conv_channels"] == "[32, 64, 128]"
    assert RunConfig.from_params({"epochs": "many"}) is None


SHIPPED = {
    "exp1_dropout": ("dropout_impact.png", [{"dropout_rate": r} for r in (0, 0.2, 0.3, 0.5, 0.7)]),
    "exp2_batch_norm": (
        "batch_norm_comparison.png",
        [{"use_batch_norm": b} for b in (True, False)],
    ),
    "exp3_conv_depth": ("conv_depth_impact.png", [{"num_conv_layers": n} for n in (1, 2, 3)]),
    "exp4_pooling": ("pooling_comparison.png", [{"use_pooling": b} for b in (True, False)]),
    "exp5_interactions": (
        "interactions_heatmap.png",
        [{"dropout_rate": r, "use_batch_norm": b} for r in (0.3, 0.5) for b in (True, False)],
    ),
    "exp6_combined": ("top_configs.png", []),
}


def test_the_shipped_sweeps_are_the_journals_experiments():
    """The arms, titles, hypotheses and figures that the journal names."""
    journal = " ".join((ROOT / "JOURNAL.md").read_text(encoding="utf-8").split())
    sweeps = load_sweeps(CONFIGS)
    assert tuple(SHIPPED) == EXPERIMENTS
    assert [sweep.id for sweep in sweeps] == list(SHIPPED)
    for number, sweep in enumerate(sweeps, 1):
        figure, arms = SHIPPED[sweep.id]
        assert sweep.figure is not None
        assert sweep.figure.file == figure
        assert [arm.overrides for arm in sweep.arms] == arms
        assert f"Experiment {number}: {sweep.title}" in journal
        assert sweep.hypothesis in journal


def test_fixed_settings_hold_in_experiments_2_to_5():
    """Dropout 0.5 in experiments 2 to 4; batch norm and pooling wherever they are not swept."""
    for sweep in load_sweeps(CONFIGS)[1:4]:
        assert {arm.config.dropout_rate for arm in sweep.arms} == {0.5}


def test_a_grid_is_a_product_with_its_last_axis_fastest(sweep_file):
    """Any number of axes."""
    path = sweep_file(GOOD + "grid: {epochs: [1, 2], seed_is_not: [3]}\n")
    assert "there is no such setting" in problems(path)[0]
    path = sweep_file(GOOD + "grid: {epochs: [1, 2], batch_size: [8, 9], use_pooling: [true]}\n")
    labels = [arm.label for arm in load_sweeps([path])[0].arms]
    assert labels[:2] == [
        "epochs=1 batch_size=8 use_pooling=True",
        "epochs=1 batch_size=9 use_pooling=True",
    ]
    assert len(labels) == 4


def test_named_arms(sweep_file):
    """Arms may differ in anything, and carry their names."""
    text = GOOD + "arms:\n- {name: small, conv_channels: [8, 8]}\n- {name: wide, fc_units: [512]}\n"
    arms = load_sweeps([sweep_file(text)])[0].arms
    assert [arm.label for arm in arms] == ["small: conv_channels=[8, 8]", "wide: fc_units=[512]"]
    assert arms[0].config.conv_channels == (8, 8)


def test_all_mistakes_of_all_files_at_once(sweep_file, tmp_path):
    """Nobody should have to run twice to learn of two mistakes."""
    sweep_file("sweep: a b\ntitle: 3\nfixed: {epochs: -1, xyz: 1}\nseeds: [a]\n", "one.yaml")
    sweep_file("- not\n- a mapping\n", "two.yaml")
    (tmp_path / "three.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError) as caught:
        load_sweeps([tmp_path, tmp_path / "four.yaml"])
    text = str(caught.value)
    for part in ("sweep: found 'a b'", "title: found 3", "fixed.epochs: found -1", "fixed.xyz",
                 "seeds[0]: found 'a'", "two.yaml: found", "three.yaml: not UTF-8 text",
                 "four.yaml: no such file"):  # fmt: skip
        assert part in text
    assert text.startswith(f"{len(caught.value.problems)} problems; nothing was started:")


def test_two_files_of_one_name(sweep_file, tmp_path):
    """A sweep's id is its place in the study."""
    sweep_file(GOOD + "grid: {epochs: [1]}\n", "a.yaml")
    sweep_file(GOOD + "grid: {epochs: [2]}\n", "b.yaml")
    assert "mine is already the name of" in problems(tmp_path)[0]


def test_overrides_lie_over_fixed(sweep_file):
    """--set wins over the file, and is typed as YAML types it."""
    path = sweep_file(GOOD + "fixed: {epochs: 3}\ngrid: {dropout_rate: [0, 0.5]}\n")
    overrides = parse_overrides(["epochs=1", "learning_rate=1e-4", "fc_units=[64, 32]"])
    arm = load_sweeps([path], overrides)[0].arms[0]
    assert arm.config.epochs == 1
    assert arm.config.learning_rate == 0.0001
    assert arm.config.fc_units == (64, 32)


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("0,5,7", [0, 5, 7]), ("7,", [7]), ("1", [0])]
)
def test_seeds(text, seeds):
    """A number of seeds, or a list of them."""
    assert parse_seeds(text) == seeds


def test_a_combination_gets_fresh_seeds(sweep_file):
    """--seeds 2 gives seeds 0 and 1 to a sweep, and 1000 and 1001 to what combines it."""
    first = sweep_file(GOOD + "grid: {epochs: [1, 2]}\n", "a.yaml")
    second = sweep_file("sweep: best\ntitle: B\ncombine: {from: [mine]}\n", "b.yaml")
    plain, combined = load_sweeps([first, second], seeds=[0, 1])
    assert plain.seeds == (0, 1)
    assert combined.seeds == (1000, 1001)


def test_a_sweep_survives_its_own_json():
    """What a study keeps of a sweep is the sweep."""
    for sweep in load_sweeps([ROOT / "configs"]):
        text = sweep.model_dump_json(by_alias=True, exclude_defaults=True)
        assert Sweep.model_validate_json(text) == sweep


def test_configurations_cannot_be_changed():
    """A run's settings are settled when the run is planned."""
    with pytest.raises(ValidationError):
        RunConfig().epochs = 3


OTHER_NAMES = {
    "lr": "unknown key; did you mean learning_rate?",
    "dropout": "unknown key; did you mean dropout_rate?",
    "Batch-Norm": "unknown key; did you mean use_batch_norm?",
    "bs": "unknown key; did you mean batch_size?",
    "filters": "unknown key; did you mean conv_channels?",
    "scheduler": "unknown key; did you mean schedule?",
    "activation": "there is no such setting: the activation is ReLU; docs/sweep-files.md",
    "zzz": "there is no such setting; docs/sweep-files.md lists the settings, and CONTRIBUTING.md",
}


@pytest.mark.parametrize("key", OTHER_NAMES)
@pytest.mark.parametrize("place", ["fixed", "grid", "--set"])
def test_what_other_programs_call_a_setting(tmp_path, key, place):
    """The right name, or what there is instead; not a list of all settings."""
    path = tmp_path / "s.yaml"
    text = {"fixed": f"fixed: {{{key}: 1}}\n", "grid": f"grid: {{{key}: [1, 2]}}\n"}.get(place, "")
    path.write_text(f"sweep: s\ntitle: S\ngrid: {{epochs: [1, 2]}}\n{text}")
    if place == "grid":
        path.write_text(f"sweep: s\ntitle: S\n{text}")
    with pytest.raises(ConfigError) as caught:
        parse_overrides([f"{key}=1"]) if place == "--set" else load_sweeps([path])
    assert f": {OTHER_NAMES[key]}" in str(caught.value)
    assert "num_conv_layers" not in str(caught.value)


def test_an_arm_by_its_name(tmp_path):
    """A claim selects arms by a mapping."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "sweep: s\ntitle: S\narms: [{name: sgd, optimizer: SGD}, {name: adam}]\n"
        "claims: [{that: x, arm: sgd, versus: adam, expect: higher, margin: 0.002}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_sweeps([path])
    said = str(caught.value)
    assert "claims[0].arm: found 'sgd', allowed: a mapping, such as {name: sgd}" in said
    assert "such as {name: adam}" in said


MARGINS = {
    ("final_val_accuracy", 0.2): "found 0.2, allowed: less than 0.1, in the metric's own unit: "
    "0.2 percentage points are 0.002",
    ("overfitting_gap", 0.1): "0.1 percentage points are 0.001",
    ("final_val_loss", 0.5): "found 0.5, allowed: less than 0.23, in the metric's own unit",
}


@pytest.mark.parametrize("metric", [name for name, _ in MARGINS])
def test_a_margin_that_cannot_be_meant(tmp_path, metric):
    """Points instead of fractions; the message has the right value."""
    margin, message = next((m, text) for (name, m), text in MARGINS.items() if name == metric)
    path = tmp_path / "s.yaml"
    text = (
        "sweep: s\ntitle: S\ngrid: {{epochs: [1, 2]}}\nclaims: [{{that: x, arm: {{epochs: 1}}, "
        "versus: {{epochs: 2}}, metric: {}, expect: higher, margin: {}}}]\n"
    )
    path.write_text(text.format(metric, margin))
    with pytest.raises(ConfigError) as caught:
        load_sweeps([path])
    assert f"claims[0].margin: {message}" in str(caught.value) or message in str(caught.value)
    path.write_text(text.format(metric, margin / 10))
    assert load_sweeps([path])


@pytest.mark.parametrize("versus", ["{epochs: 1}", "{epochs: 1, use_batch_norm: true}", "{}"])
def test_a_claim_about_arms_and_themselves(tmp_path, versus):
    """Copied and not changed: no seeds could decide it."""
    arms = (
        "{epochs: [1], use_batch_norm: [true]}" if versus != "{epochs: 1}" else "{epochs: [1, 2]}"
    )
    path = tmp_path / "s.yaml"
    path.write_text(
        f"sweep: s\ntitle: S\ngrid: {arms}\nclaims: [{{that: x, arm: {{epochs: 1}}, "
        f"versus: {versus}, expect: higher, margin: 0.002}}]\n"
    )
    with pytest.raises(ConfigError, match=r"claims\[0\]\.versus: these are the arms of `arm`"):
        load_sweeps([path])


def test_a_folder_as_editors_leave_it(tmp_path):
    """Hidden files are no sweeps; the suffix may be in capitals."""
    good = "sweep: {}\ntitle: S\ngrid: {{epochs: [1, 2]}}\n"
    for name in ("a.yaml", "b.yml", "c.YAML"):
        (tmp_path / name).write_text(good.format(name[0]))
    for name in ("._a.yaml", ".#a.yaml", ".a.yaml.swp", "a.yaml~", "notes.txt"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert [sweep.id for sweep in load_sweeps([tmp_path])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("configs/exp1_dropot.yaml", "did you mean exp1_dropout.yaml?"),
        ("config", "did you mean configs?"),
        ("confgs/exp1_dropout.yaml", "did you mean configs?"),
    ],
)
def test_a_file_that_is_not_there(tmp_path, monkeypatch, wrong, hint):
    """The name that was meant, of the file or of its folder."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/exp1_dropout.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no such file") as caught:
        load_sweeps([Path(wrong)])
    assert hint in str(caught.value)


def test_none_is_the_word_for_nothing():
    """In YAML and in tables, whatever the setting."""
    config = run_config({"early_stopping": "none", "gradient_clip": None, "augmentation": "none"})
    assert config == RunConfig()
    assert label_of_value(config.early_stopping) == label_of_value(config.augmentation) == "none"
    # Studies have it in Python's notation, and their runs are exported by it.
    assert config.params()["gradient_clip"] == "None"
    assert RunConfig.from_params(config.params()) == config


def test_none_in_a_grid_is_none(tmp_path):
    """What has an effect with a number has none with it."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "sweep: s\ntitle: S\nfixed: {min_delta: 0.01}\ngrid: {early_stopping: [none, 3]}\n"
    )
    plain, stopping = load_sweeps([path])[0].arms
    assert plain.config == RunConfig()
    assert (stopping.config.early_stopping, stopping.config.min_delta) == (3, 0.01)


def test_a_short_cycle_of_a_folder_is_judged_when_it_is_read(tmp_path):
    """How many steps there are is not known before."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "sweep: s\ntitle: S\nfixed: {dataset: folder, epochs: 2}\ngrid: {schedule: [one_cycle]}\n"
    )
    assert load_sweeps([path])
    with pytest.raises(ConfigError, match="found one_cycle for 2 steps"):
        load_sweeps([path], shapes={"folder": Shape(60, 30, 12, 1, 2)})


def test_a_fixed_setting_holds_where_it_has_an_effect(tmp_path):
    """The other arms are the plain ones, which may be trained already; elsewhere it is refused."""
    path = tmp_path / "s.yaml"
    text = "sweep: s\ntitle: S\nfixed: {step_epochs: 2}\ngrid: {schedule: [constant, step]}\n"
    path.write_text(text)
    plain, falling = load_sweeps([path])[0].arms
    assert plain.config == RunConfig()
    assert falling.config.step_epochs == 2
    path.write_text(text.replace("step]", "cosine]"))
    with pytest.raises(ConfigError, match=r"step_epochs: has no effect without `schedule: step`"):
        load_sweeps([path])
    path.write_text(text.replace("fixed: {step_epochs: 2}", "fixed: {shift_pixels: 1}"))
    with pytest.raises(ConfigError, match=r"has no effect without `augmentation: shift` \(or flip"):
        load_sweeps([path])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"warmup_epochs": 10.0}, "warmup_epochs: found 10, allowed: less than epochs = 10"),
        ({"schedule": "one_cycle", "warmup_epochs": 0.0}, "leave it out for 0.3 x epochs"),
        (
            {"schedule": "one_cycle", "epochs": 1, "train_size": 100},
            "schedule: found one_cycle for 2 steps, allowed: at least 3",
        ),
        (
            {"schedule": "step", "epochs": 4, "step_epochs": 5},
            "allowed: less than 4, or the learning rate never",
        ),
        (
            {"weight_averaging": "swa", "early_stopping": 3},
            "early_stopping: found 3 with `weight_averaging: swa`, whose averages come last",
        ),
        ({"early_stopping": "off"}, "found false, allowed: an integer, or none"),
        ({"gradient_clip": 0}, "found 0, allowed: greater than 0, or none"),
        (
            {"schedule": "linear", "final_learning_rate": 0.001},
            "final_learning_rate: found 0.001, allowed: less than learning_rate = 0.001",
        ),
        ({"final_learning_rate": 0.1}, "has no effect without `schedule: cosine` (or linear,"),
        ({"ema_decay": 0.9}, "ema_decay: has no effect without `weight_averaging: ema`"),
        ({"swa_start": 0.5}, "swa_start: has no effect without `weight_averaging: swa`"),
        ({"min_delta": 0.1}, "min_delta: has no effect without `early_stopping`"),
        ({"rotate_degrees": 5.0}, "has no effect without `augmentation: rotate`"),
        ({"erase_pixels": 5}, "has no effect without `augmentation: erase`"),
        ({"augmentation": "shift_flip"}, "found 'shift_flip'; did you mean flip_shift?"),
        ({"augmentation": "[shift, flip]"}, "did you mean flip_shift?"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_one_problem(tmp_path, settings, problem):
    """With its place, what was found and what is allowed."""
    path = tmp_path / "s.yaml"
    fixed = ", ".join(f"{key}: {value}" for key, value in settings.items())
    path.write_text(f"sweep: s\ntitle: S\nfixed: {{{fixed}}}\ngrid: {{dropout_rate: [0.1, 0.2]}}\n")
    with pytest.raises(ConfigError) as caught:
        load_sweeps([path])
    assert str(caught.value).startswith("1 problem;")
    assert problem in str(caught.value)
