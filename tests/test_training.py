import dataclasses

import pytest
import torch

from fmnist_tuning.data.files import verify
from fmnist_tuning.data.images import Images, ImageSet, Split
from fmnist_tuning.errors import DivergedError
from fmnist_tuning.metrics import EpochMetrics, RunOutcome
from fmnist_tuning.training.augmentation import Augmenter
from fmnist_tuning.training.building import (
    CAPTURABLE,
    Stream,
    build_model,
    build_optimizer,
    generator,
)
from fmnist_tuning.training.loop import epochs_to_accuracy, evaluate, train
from fmnist_tuning.training.state import State
from fmnist_tuning.training.step import GraphedStep, TrainingStep

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tiny_data):
    data = ImageSet.load(verify(tiny_data).arrays, CPU)
    return Images(data.train, data.test)


def start(images, *, seed=0, epochs=2, batch_size=32, optimizer="Adam", rate=0.01, **architecture):
    torch.set_num_threads(1)
    settings = {"conv_channels": (4, 8), "fc_units": (16,)} | architecture
    model = build_model(seed, CPU, **settings)
    chosen = build_optimizer(
        model, optimizer=optimizer, learning_rate=rate, weight_decay=0, momentum=0
    )
    run = a_run(model, chosen, seed)
    return model, train(run, images, epochs=epochs, batch_size=batch_size)


def a_run(model, optimizer, seed=0, average=None) -> State:
    order, changes = (generator(seed, stream) for stream in (Stream.ORDER, Stream.AUGMENTATION))
    return State(model, optimizer, order=order, changes=changes, average=average)


def finish(run) -> tuple[list[EpochMetrics], RunOutcome]:
    epochs = []
    while True:
        try:
            epochs.append(next(run))
        except StopIteration as stop:
            return epochs, stop.value


def shallow(split: Split) -> dict[str, object]:
    return {field.name: getattr(split, field.name) for field in dataclasses.fields(split)}


def on_device(images: Images, device: torch.device) -> Images:
    return Images(
        *(
            dataclasses.replace(s, images=s.images.to(device), labels=s.labels.to(device))
            for s in (images.train, images.validation)
        )
    )


def decisive(metrics: EpochMetrics) -> tuple[float, ...]:
    return (metrics.train_loss, metrics.train_accuracy, metrics.val_loss, metrics.val_accuracy)


def test_it_learns(images):
    """A few epochs on separable images are enough to be nearly right."""
    epochs, outcome = finish(start(images, epochs=5, fc_units=(64,))[1])
    assert [metrics.epoch for metrics in epochs] == [1, 2, 3, 4, 5]
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert outcome.final_val_accuracy > 0.9


def test_the_same_seed_gives_the_same_metrics(images):
    """Bit for bit, though another training runs in between; another seed gives others."""
    first, _ = finish(start(images)[1])
    one, other = start(images)[1], start(images, seed=1)[1]
    second = []
    different = []
    for _ in range(2):
        second.append(next(one))
        different.append(next(other))
    assert [decisive(m) for m in first] == [decisive(m) for m in second]
    assert decisive(first[0]) != decisive(different[0])


def test_arms_with_one_seed_share_weights_and_batches(images):
    """What dropout changes is dropout, and nothing before it."""
    with_dropout, _ = start(images, dropout_rate=0.5)
    without, _ = start(images, dropout_rate=0.0)
    for ours, theirs in zip(with_dropout.parameters(), without.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    # Without batch norm the layers are the same but for the norms.
    plain, _ = start(images, use_batch_norm=False)
    assert torch.equal(plain.blocks[1].conv.weight, without.blocks[1].conv.weight)


@pytest.mark.parametrize(
    ("hits", "window", "expected"),
    [
        ([10, 10, 5], 10, 10 / 25),  # at once
        ([0, 8, 5], 10, 20 / 25),
        ([7, 7, 4], 10, 25 / 25),  # 4 of the 5 images of an epoch's last step
        ([7, 7, 3, 7, 9, 4], 20, 45 / 25),  # in the second epoch, over two steps
        ([7, 7, 3, 7, 9, 4], 15, 45 / 25),  # rounded to two steps
        ([7, 7, 3, 7, 7, 4], 20, None),
        ([9, 9, 5], 1000, 25 / 25),  # at most an epoch
    ],
)
def test_when_80_percent_was_reached(hits, window, expected):
    """Over a trailing window of whole steps, counted in epochs."""
    assert epochs_to_accuracy(hits, 25, 10, window=window) == expected


def test_streams_are_independent():
    """One seed, four purposes, four different beginnings."""
    draws = {torch.rand(1, generator=generator(0, stream)).item() for stream in Stream}
    assert len(draws) == len(Stream)


class WatchedSplit(Split):
    """A split that remembers which images were taken, batch by batch."""

    def at(self, chosen):
        places = torch.arange(len(self))[chosen]
        SEEN.append((isinstance(chosen, torch.Tensor), places.tolist()))
        return super().at(chosen)


SEEN: list[tuple[bool, list[int]]] = []


def test_every_image_is_used(images):
    """Once an epoch in a new order, the last partial batch too; validation sees all of its own."""
    SEEN.clear()
    watched = Images(*(WatchedSplit(**shallow(s)) for s in (images.train, images.validation)))
    finish(start(watched, epochs=2, batch_size=128)[1])
    trained = [places for training, places in SEEN if training]
    assert [len(places) for places in trained] == [128, 128, 44] * 2
    first, second = ([*a, *b, *c] for a, b, c in (trained[:3], trained[3:]))
    assert sorted(first) == sorted(second) == list(range(300))
    assert first != second
    assert sum(len(places) for training, places in SEEN if not training) == 2 * 100 + 300


def test_the_tally_of_an_epoch_is_that_of_its_batches(images):
    """Mean loss over images, not over batches; hits in the order in which they were trained on."""
    model, _ = start(images)
    optimizer = build_optimizer(
        model, optimizer="SGD", learning_rate=1e-9, weight_decay=0, momentum=0
    )
    step = TrainingStep(model, images.train, optimizer)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(3))
    model.train()
    for module in model.modules():  # so that a batch's logits can be had again
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    model.dropout.eval()
    step.begin_epoch(order)
    for size in (128, 128, 44):
        step(size)
    pictures, labels = images.train.at(order)
    with torch.no_grad():
        logits = model(pictures)
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    assert step.mean_loss() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(step.right(), logits.argmax(1) == labels)


def test_bf16_trains_to_nearly_the_same_loss(images):
    """Less precise and not the same; tf32 exists on CUDA devices only."""
    losses = []
    for precision in ("float32", "bf16"):
        model, _ = start(images)
        optimizer = build_optimizer(
            model, optimizer="Adam", learning_rate=0.01, weight_decay=0, momentum=0
        )
        run = train(a_run(model, optimizer), images, epochs=3, batch_size=32, precision=precision)
        losses.append(finish(run)[0][-1].val_loss)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.3)


def test_label_smoothing_is_part_of_the_loss_of_steps_alone(images):
    """The step minimises what the definition says; validation stays plain cross-entropy."""
    rows = torch.arange(len(images.train))
    pictures, labels = images.train.at(rows)
    model = build_model(0, CPU, conv_channels=(4,), fc_units=(), use_batch_norm=False)
    sgd = torch.optim.SGD(model.parameters(), lr=0.0)
    step = TrainingStep(model, images.train, sgd, label_smoothing=0.2)
    step.begin_epoch(rows)
    step(len(rows))
    with torch.no_grad():
        logs = model(pictures).log_softmax(1)
    wanted = -(0.8 * logs[rows, labels] + 0.2 * logs.mean(1)).mean().item()
    assert step.mean_loss() == pytest.approx(wanted, rel=1e-5)
    plain, smoothed = (
        next(train(a_run(model, sgd), images, epochs=1, batch_size=32, label_smoothing=share))
        for share in (0.0, 0.2)
    )
    assert smoothed.train_loss != plain.train_loss
    assert smoothed.val_loss == plain.val_loss


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_long_gradient_is_shortened(images, share):
    """In the same direction, to the length that is asked for; a short one stays as it is."""
    moves = []
    for clip in (None, "some"):
        model = build_model(0, CPU, conv_channels=(4,), fc_units=())
        before = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        sgd = torch.optim.SGD(model.parameters(), lr=1.0)
        length = share * moves[0].norm().item() if clip else None
        step = TrainingStep(model, images.train, sgd, gradient_clip=length)
        step.begin_epoch(torch.arange(len(images.train)))
        step(64)
        moves.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before)
    torch.testing.assert_close(moves[1], min(share, 1.0) * moves[0], rtol=1e-4, atol=1e-6)


def test_the_final_train_accuracy_is_measured_in_evaluation_mode(images):
    """Dropout would halve the training side of the overfitting gap."""
    model, run = start(images, epochs=3, dropout_rate=0.7, fc_units=(64,))
    epochs, outcome = finish(run)
    loss, accuracy = evaluate(model, images.train)
    assert (outcome.final_train_loss, outcome.final_train_accuracy) == (loss, accuracy)
    assert outcome.final_train_accuracy > epochs[-1].train_accuracy


def test_the_outcome_sums_up_the_epochs(images):
    """The last epoch's validation, and the best one's, first of equals."""
    epochs, outcome = finish(start(images, epochs=3)[1])
    best = max(metrics.val_accuracy for metrics in epochs)
    assert outcome.best_val_accuracy == best
    assert outcome.best_epoch == [m.val_accuracy for m in epochs].index(best) + 1
    assert outcome.final_val_loss == epochs[-1].val_loss
    assert outcome.total_params == 4 * 9 + 4 + 8 + 8 * 4 * 9 + 8 + 16 + 392 * 16 + 16 + 170
    assert outcome.train_seconds >= sum(m.epoch_seconds for m in epochs) * 0.9
    assert outcome.test_accuracy is None
    assert "test_accuracy" not in outcome.metrics()


def test_a_holdout_scores_the_test_set_once(images):
    """At the end, with the final weights."""
    model, run = start(Images(images.train, images.validation, test=images.validation), epochs=1)
    _, outcome = finish(run)
    assert outcome.test_accuracy == evaluate(model, images.validation)[1]
    assert outcome.test_accuracy == outcome.final_val_accuracy


def test_a_loss_that_is_no_number_ends_the_run(images):
    """With the epoch and the likely cause."""
    run = start(images, rate=1e30)[1]
    with pytest.raises(DivergedError, match=r"in epoch 1; .* learning rate .* \(1e\+30\)"):
        finish(run)


def test_a_last_step_that_spoils_the_weights(images):
    """The training loss was measured before it; the validation shows it."""
    run = start(images, rate=1e30, epochs=1, batch_size=len(images.train))[1]
    with pytest.raises(DivergedError, match="in epoch 1"):
        finish(run)


@pytest.mark.parametrize(
    "name", ["Adadelta", "Adagrad", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "SGD"]
)
def test_every_optimizer_trains(images, name):
    """By torch's own names, each of which the configuration admits."""
    from typing import get_args

    from fmnist_tuning.sweeps.choices import Optimizer

    assert name in get_args(Optimizer)
    model, run = start(images, epochs=1, optimizer=name, rate=0.01)
    before = model.output.weight.clone()
    finish(run)
    assert not torch.equal(before, model.output.weight)


def test_momentum_and_weight_decay_reach_the_optimizer():
    """Where they are asked for."""
    model = build_model(0, CPU, conv_channels=(4,))
    group = build_optimizer(
        model, optimizer="SGD", learning_rate=0.1, weight_decay=0.01, momentum=0.9
    ).param_groups[0]
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.1, 0.01, 0.9)


@pytest.fixture
def as_workers_compute(monkeypatch):
    """CuDNN adds in the same order every time, as `Trainer` has it."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.usefixtures("as_workers_compute")
def test_the_same_metrics_twice_on_a_gpu(images):
    """Bit for bit, on the same kind of device."""
    device = torch.device("cuda")
    on_gpu = on_device(images, device)
    results = []
    for _ in range(2):
        model = build_model(0, device, conv_channels=(4, 8), fc_units=(16,))
        adam = build_optimizer(
            model, optimizer="Adam", learning_rate=0.01, weight_decay=0, momentum=0
        )
        run = train(a_run(model, adam), on_gpu, epochs=6, batch_size=32)
        results.append([decisive(metrics) for metrics in finish(run)[0]])
    assert results[0] == results[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.usefixtures("as_workers_compute")
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1, "gradient_clip": 0.1}], ids=str)
@pytest.mark.parametrize("name", [*CAPTURABLE, "SGD"])
def test_a_replayed_step_is_the_step(images, name, settings):
    """Six epochs as CUDA graphs, the partial batch's too, leave the weights that plain steps do.

    With another learning rate for each step, and augmented images.
    """
    device = torch.device("cuda")
    split = on_device(images, device).train
    weights = []
    for graphed in (True, False):
        model = build_model(0, device, conv_channels=(4, 8), fc_units=(16,))
        optimizer = build_optimizer(
            model, optimizer=name, learning_rate=0.01, weight_decay=0, momentum=0
        )
        augmenter = Augmenter(augmentation="flip_shift_rotate_erase")
        step = TrainingStep(model, split, optimizer, augmenter=augmenter, **settings)
        advance = GraphedStep(step, scheduled=True) if graphed else step
        order = generator(0, Stream.ORDER)
        model.train()
        for epoch in range(6):
            chances = augmenter.draw(300, generator(epoch, Stream.AUGMENTATION))
            step.begin_epoch(torch.randperm(300, generator=order), chances)
            for place, size in enumerate([32] * 9 + [12]):
                step.set_learning_rate(0.01 / (1 + epoch + place))
                advance(size)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)
