"""What CONTRIBUTING.md says of adding a setting, a metric or a figure is how the code is."""

import inspect
from dataclasses import fields

import pytest

from fmnist_tuning.data.images import ImageSet
from fmnist_tuning.metrics import METRICS, DerivedMetrics, EpochMetrics, RunOutcome
from fmnist_tuning.report.figures.kinds import KINDS
from fmnist_tuning.sweeps.marks import For, Later
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.training.augmentation import Augmenter
from fmnist_tuning.training.averaging import Average
from fmnist_tuning.training.building import build_model, build_optimizer
from fmnist_tuning.training.early_stopping import is_enough
from fmnist_tuning.training.learning_rate import learning_rates
from fmnist_tuning.training.loop import train
from fmnist_tuning.training.model import FashionCNN

COMPONENTS = {
    "network": FashionCNN.__init__,
    "weights": build_model,
    "optimizer": build_optimizer,
    "schedule": learning_rates,
    "averaging": Average.__init__,
    "augmentation": Augmenter.__init__,
    "early stopping": is_enough,
    "loop": train,
    "images": ImageSet.select,
}


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_takes_the_settings_that_name_it(component):
    """By the names of its arguments: no file in between lists them."""
    given = set(RunConfig().arguments(component))
    assert given
    assert given <= set(inspect.signature(COMPONENTS[component]).parameters)


def test_every_setting_reaches_a_component():
    """But for seed and data set, which choose these, and the depth, which the channels say."""
    alone = {
        name
        for name, field in RunConfig.model_fields.items()
        if not any(isinstance(mark, For) for mark in field.metadata)
    }
    assert alone == {"dataset", "num_conv_layers", "seed"}


def test_a_later_setting_counts_only_where_it_differs():
    """Its field says what older runs had, and their fingerprints stay what they were."""
    later = {
        name: mark.before
        for name, field in RunConfig.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Later)
    }
    assert later["precision"] == "float32"
    plain = RunConfig(**{name: value for name, value in later.items() if value is not None})
    assert not set(later) & set(plain.decisive())
    assert RunConfig(precision="bf16").decisive()["precision"] == "bf16"


def test_every_measured_value_is_a_row_of_the_table():
    """A field without its label and unit would be logged and never be shown."""
    for record in (EpochMetrics, RunOutcome, DerivedMetrics):
        bare = {field.name for field in fields(record) if "row" not in field.metadata}
        assert bare == ({"epoch"} if record is EpochMetrics else set())
    final = {field.name for record in (RunOutcome, DerivedMetrics) for field in fields(record)}
    assert set(METRICS) == final


def test_a_figure_says_what_axes_it_needs():
    """In the order in which its drawing takes them."""
    assert {"trend", "comparison", "heatmap", "ranking"} <= set(KINDS)
    for kind in KINDS.values():
        assert tuple(inspect.signature(kind.draw).parameters) == ("frames", "others", *kind.axes)
