"""Settings of a training beside its step: averages, first weights, early ends, and all together."""

import dataclasses
import math

import pytest
import torch
from torch.optim.swa_utils import update_bn

from fmnist_tuning.data.files import verify
from fmnist_tuning.data.images import Images, ImageSet
from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.running import events
from fmnist_tuning.running.trainer import Trainer
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.training.building import build
from fmnist_tuning.training.early_stopping import is_enough
from fmnist_tuning.training.loop import evaluate, train

CPU = torch.device("cpu")
SMALL = {
    "num_conv_layers": 2, "conv_channels": (4, 8), "fc_units": (16,), "batch_size": 32,
    "train_size": 300, "val_size": 100, "learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def arrays(tiny_data):
    return verify(tiny_data).arrays


@pytest.fixture(scope="module")
def images(arrays):
    data = ImageSet.load(arrays, CPU)
    return Images(data.train, data.test)


def config(**settings) -> RunConfig:
    return RunConfig(**{**SMALL, "epochs": 4, **settings})


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def all_news(trainer, settings, saved=None, turn=None):
    run = PlannedRun.__new__(PlannedRun)
    object.__setattr__(run, "config", settings)
    return [*trainer.train(run, saved, turn)]


def epochs_of(news) -> list[tuple[float, ...]]:
    """What does not depend on the clock, epoch by epoch."""
    return [
        (m.train_loss, m.train_accuracy, m.val_loss, m.val_accuracy, m.epoch_learning_rate)
        for m in (one.event.metrics for one in news if isinstance(one.event, events.EpochEnded))
    ]


EVERYTHING = {
    "schedule": "cosine", "warmup_epochs": 0.5, "weight_averaging": "ema", "ema_decay": 0.9,
    "augmentation": "flip_shift_rotate_erase", "initialization": "orthogonal",
    "early_stopping": 3, "label_smoothing": 0.1, "gradient_clip": 1.0,
}  # fmt: skip


SEVERAL = [
    *({key: value} for key, value in EVERYTHING.items() if key in {"schedule", "augmentation"}),
    {"weight_averaging": "ema"},
    {"weight_averaging": "swa", "swa_start": 0.3},
    {"schedule": "one_cycle", "optimizer": "SGD", "momentum": 0.9},
    EVERYTHING,
]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("settings", SEVERAL, ids=str)
def test_a_run_that_continues_on_a_gpu(arrays, settings):
    """The same there, where steps are replayed with a learning rate in its place."""
    assert_it_continues(Trainer({"fashion_mnist": arrays}, "cuda"), settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("settings", SEVERAL, ids=str)
def test_a_gpu_learns_as_a_cpu_does(arrays, settings):
    """The same learning rates and changes of images, so nearly the same losses."""
    losses = [
        [epoch[0] for epoch in epochs_of(all_news(Trainer({"fashion_mnist": arrays}, kind),
                                                  config(dropout_rate=0.0, **settings)))]
        for kind in ("cpu", "cuda")
    ]  # fmt: skip
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("settings", SEVERAL, ids=str)
def test_a_run_that_continues_is_the_same_run(arrays, settings):
    """From each epoch's checkpoint, to the last bit, the network that is kept too."""
    assert_it_continues(Trainer({"fashion_mnist": arrays}, "cpu"), settings)


def assert_it_continues(trainer, settings):
    whole = all_news(trainer, config(**settings))
    assert len(epochs_of(whole)) == 4
    for epoch in range(1, 4):
        rest = all_news(trainer, config(**settings), saved=whole[epoch - 1].content)
        assert isinstance(rest[0].event, events.Resumed)
        assert epochs_of(rest) == epochs_of(whole)[epoch:]
        assert rest[-1].content == whole[-1].content
    again = all_news(trainer, config(**settings))
    assert epochs_of(again) == epochs_of(whole)
    plain = all_news(trainer, config())
    assert epochs_of(plain) != epochs_of(whole)


def test_the_learning_rate_is_measured(arrays):
    """That of an epoch's last step; without a schedule, the setting itself."""
    trainer = Trainer({"fashion_mnist": arrays}, "cpu")
    plain = [epoch[-1] for epoch in epochs_of(all_news(trainer, config()))]
    assert plain == [0.01] * 4
    falling = [epoch[-1] for epoch in epochs_of(all_news(trainer, config(schedule="linear")))]
    steps = 10  # of 32 images, but for the last
    wanted = [0.01 * (1 - (epoch * steps - 1) / (4 * steps)) for epoch in range(1, 5)]
    assert falling == pytest.approx(wanted)


def test_ema_is_the_mean_of_all_steps_with_falling_weights(images):
    """By its definition, over the weights after each step; the training itself stays the same."""
    alone = build(config(), CPU)
    path = []
    alone.optimizer.register_step_post_hook(lambda *_: path.append(weights(alone.model)))
    [*train(alone, images, epochs=2, batch_size=32)]
    averaged = build(config(weight_averaging="ema", ema_decay=0.8), CPU)
    [*train(averaged, images, epochs=2, batch_size=32)]
    mean = path[0]
    for later in path[1:]:
        mean = 0.8 * mean + 0.2 * later
    assert torch.equal(weights(averaged.model), weights(alone.model))
    torch.testing.assert_close(weights(averaged.network), mean, rtol=1e-4, atol=1e-6)


def test_swa_is_the_mean_of_the_last_epochs(images):
    """Equal weights, from the epoch on at which `swa_start` of them are over."""
    alone, ends = build(config(), CPU), []
    for _ in train(alone, images, epochs=4, batch_size=32):
        ends.append(weights(alone.model))
    averaged = build(config(weight_averaging="swa", swa_start=0.5), CPU)
    nets = []
    for _ in train(averaged, images, epochs=4, batch_size=32):
        nets.append(weights(averaged.network))
    for found, wanted in zip(nets[:2], ends[:2], strict=True):  # there is no average yet
        assert torch.equal(found, wanted)
    torch.testing.assert_close(nets[2], ends[2])
    torch.testing.assert_close(nets[3], (ends[2] + ends[3]) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "kind", [{"weight_averaging": "ema"}, {"weight_averaging": "swa", "swa_start": 0.0}], ids=str
)
def test_the_average_is_what_is_validated(images, kind):
    """With batch norms that know its own outputs; it is the network of the outcome too."""
    run = build(config(**kind), CPU)
    training = train(run, images, epochs=2, batch_size=32)
    epochs = [next(training), next(training)]
    with pytest.raises(StopIteration) as end:
        next(training)
    loss, accuracy = evaluate(run.network, images.validation)
    assert (epochs[-1].val_loss, epochs[-1].val_accuracy) == (loss, accuracy)
    outcome = end.value.value
    assert outcome.final_train_loss == evaluate(run.network, images.train)[0]
    assert evaluate(run.model, images.validation)[0] != loss
    norms = [block.norm.running_mean.clone() for block in run.network.blocks]
    update_bn(images.train.batches(250), torch.nn.Sequential(*run.network.blocks))
    for found, block in zip(norms, run.network.blocks, strict=True):
        torch.testing.assert_close(found, block.norm.running_mean)


def test_averaging_takes_no_randomness(images):
    """A copy of the dropout's generator stands still while batch norms are brought up to date."""
    run = build(config(weight_averaging="ema"), CPU)
    run.average.after_step()
    assert run.network is not run.model
    networks = (run.network, run.model)
    before = [network.dropout.generator.get_state() for network in networks]
    norms = run.network.blocks[0].norm.running_mean.clone()
    run.average.after_epoch(1.0, images.train, "float32")
    assert not torch.equal(run.network.blocks[0].norm.running_mean, norms)
    for network, state in zip(networks, before, strict=True):
        assert torch.equal(network.dropout.generator.get_state(), state)


def layers_of(**settings):
    model = build(config(conv_channels=(32, 64), fc_units=(128,), **settings), CPU).model
    return [*(block.conv for block in model.blocks), *model.hidden, model.output]


@pytest.mark.parametrize(
    ("initialization", "deviation"),
    [
        ("kaiming", lambda inputs, _: math.sqrt(2 / inputs)),
        ("xavier", lambda inputs, outputs: math.sqrt(2 / (inputs + outputs))),
        ("normal", lambda *_: 0.01),
    ],
)
def test_weights_start_with_the_spread_of_their_method(initialization, deviation):
    """Over each layer's inputs and outputs; biases are zero."""
    for layer in layers_of(initialization=initialization):
        weight = layer.weight
        field = weight[0, 0].numel() if weight.ndim == 4 else 1
        wanted = deviation(weight.shape[1] * field, weight.shape[0] * field)
        assert weight.std().item() == pytest.approx(wanted, rel=0.12)
        assert not layer.bias.any()


def test_orthogonal_weights_are():
    """Rows of one length, at right angles."""
    for layer in layers_of(initialization="orthogonal"):
        rows = layer.weight.flatten(1)
        rows = rows if rows.shape[0] <= rows.shape[1] else rows.T
        torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(len(rows)), rtol=0, atol=1e-4)


def test_weights_are_those_of_the_seed():
    """The same again; others with another seed, and with another method."""
    found = [
        layers_of(initialization=name, seed=seed)[-1].weight
        for name, seed in [("kaiming", 0), ("kaiming", 0), ("kaiming", 1), ("default", 0)]
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])


def history(*losses: float) -> list[EpochMetrics]:
    return [
        EpochMetrics(
            epoch=place, train_loss=1.0, train_accuracy=0.5, val_loss=loss, val_accuracy=0.5,
            epoch_seconds=1.0, images_per_second=1.0,
        )
        for place, loss in enumerate(losses, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("losses", "min_delta", "expected"),
    [
        ((), 0.0, False),
        ((1.0, 0.9, 0.8), 0.0, False),
        ((1.0, 0.9, 0.9), 0.0, False),  # one epoch without a lower one
        ((1.0, 0.9, 0.9, 0.95), 0.0, True),
        ((1.0, 1.1, 0.9, 1.1, 1.1), 0.0, True),
        ((1.0, 0.95, 0.9), 0.06, False),  # lower by 0.1 than the lowest that counted
        ((1.0, 0.95, 0.95), 0.06, True),
    ],
)
def test_patience_ends(losses, min_delta, expected):
    """After so many epochs that do not fall below the lowest loss by more than the delta."""
    assert is_enough(history(*losses), early_stopping=2, min_delta=min_delta) is expected
    assert not is_enough(history(*losses), early_stopping=None, min_delta=min_delta)


def test_a_training_that_stops_early_counts_its_epochs(arrays):
    """It ends as any run does, from a checkpoint or in turns too."""
    trainer = Trainer({"fashion_mnist": arrays}, "cpu")
    settings = config(epochs=50, early_stopping=1, min_delta=0.2)
    whole = all_news(trainer, settings)
    epochs = len(epochs_of(whole))
    assert 1 < epochs < 50
    assert whole[-1].event.metrics["trained_epochs"] == epochs
    assert whole[-1].event.metrics["final_val_loss"] == epochs_of(whole)[-1][2]
    turned = all_news(trainer, settings, turn=epochs)
    assert isinstance(turned[-1].event, events.Paused)
    rest = all_news(trainer, settings, saved=turned[-2].content)
    assert not epochs_of(rest)
    assert rest[-1].content == whole[-1].content


def test_metrics_of_before_have_no_learning_rate():
    """Checkpoints and files of earlier versions can still be read."""
    old = {k: v for k, v in dataclasses.asdict(history(1.0)[0]).items() if "learning" not in k}
    assert "epoch_learning_rate" not in EpochMetrics(**old).metrics()
