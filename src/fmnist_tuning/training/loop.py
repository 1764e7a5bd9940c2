"""One run: a generator that yields an `EpochMetrics` per epoch and ends with a `RunOutcome`."""

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fmnist_tuning.data.images import Images, Split
from fmnist_tuning.errors import DivergedError
from fmnist_tuning.metrics import CONVERGED, EpochMetrics, RunOutcome, late_mean
from fmnist_tuning.sweeps.choices import Precision
from fmnist_tuning.training.augmentation import Augmenter
from fmnist_tuning.training.building import CAPTURABLE
from fmnist_tuning.training.early_stopping import never
from fmnist_tuning.training.model import FashionCNN
from fmnist_tuning.training.state import State
from fmnist_tuning.training.step import GraphedStep, TrainingStep, autocast, evaluation_batch

CONVERGENCE_WINDOW: Final = 3_200  # images: a standard error of 0.7 points at 80 %


def train(
    run: State,
    images: Images,
    *,
    epochs: int,
    batch_size: int,
    learning_rates: Iterator[float] | None = None,
    augmenter: Augmenter | None = None,
    enough: Callable[[Sequence[EpochMetrics]], bool] = never,
    label_smoothing: float = 0.0,
    gradient_clip: float | None = None,
    precision: Precision = "float32",
) -> Generator[EpochMetrics, None, RunOutcome]:
    """Train a run, which is on the device of the images, in place with cross-entropy.

    An epoch's last batch has the images that remain. `learning_rates` are those of all steps from
    the first one on; without them, the optimizer keeps its own. `label_smoothing` and
    `gradient_clip` are those of a `TrainingStep`. `enough` ends the training early. The run is up
    to date before each `yield`; if it already has epochs, training continues after them.

    Yields the metrics of each epoch as it ends; the value of `yield from` is the run's outcome.

    Raises:
        DivergedError: When an epoch's training or validation loss is not a finite number.
    """
    step = TrainingStep(
        run.model,
        images.train,
        run.optimizer,
        augmenter=augmenter,
        precision=precision,
        label_smoothing=label_smoothing,
        gradient_clip=gradient_clip,
    )
    advance = _on_its_device(step, scheduled=learning_rates is not None)
    sizes = _batch_sizes(len(images.train), batch_size)
    progress = run.progress
    rates = _from_epoch(len(progress.history), learning_rates, len(sizes))
    while len(progress.history) < epochs and not enough(progress.history):
        started = time.perf_counter()
        training_seconds = _epoch(run, step, advance, sizes, rates)
        if run.average:
            over = (len(progress.history) + 1) / epochs
            run.average.after_epoch(over, images.train, precision)
        metrics, right = _measured(run, step, images, started, training_seconds)
        progress.history.append(metrics)
        progress.hits += [float(batch.sum()) for batch in torch.split(right, batch_size)]
        progress.seconds += metrics.epoch_seconds
        yield metrics
    return _outcome(run, images, precision, batch_size)


def _from_epoch(
    epoch: int, learning_rates: Iterator[float] | None, steps: int
) -> Iterator[float | None]:
    """The learning rates of what is left after so many epochs; None leaves it as it is."""
    return (
        itertools.repeat(None)
        if learning_rates is None
        else itertools.islice(learning_rates, epoch * steps, None)
    )


def _epoch(
    run: State,
    step: TrainingStep,
    advance: Callable[[int], None],
    sizes: Sequence[int],
    rates: Iterator[float | None],
) -> float:
    """Train for an epoch; returns how many seconds that took."""
    started = time.perf_counter()
    run.model.train()
    images = len(step.split)
    chances = step.augmenter.draw(images, run.changes) if step.augmenter else None
    step.begin_epoch(torch.randperm(images, generator=run.order), chances)
    for size, rate in zip(sizes, rates, strict=False):
        if rate is not None:
            step.set_learning_rate(rate)
        advance(size)
        if run.average:
            run.average.after_step()
    step.mean_loss()  # the device may still compute
    return time.perf_counter() - started


def _measured(
    run: State, step: TrainingStep, images: Images, started: float, training_seconds: float
) -> tuple[EpochMetrics, Tensor]:
    """The metrics of the epoch, and which images of its order were right: (N,) bool."""
    epoch = len(run.progress.history) + 1
    train_loss, right = step.mean_loss(), step.right()
    learning_rate = float(step.optimizer.param_groups[0]["lr"])
    val_loss, val_accuracy = evaluate(run.network, images.validation, step.precision)
    if not math.isfinite(train_loss + val_loss):  # its last step may have spoilt the weights
        raise DivergedError(epoch, learning_rate)
    metrics = EpochMetrics(
        epoch=epoch,
        train_loss=train_loss,
        train_accuracy=right.sum().item() / len(right),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        epoch_seconds=time.perf_counter() - started,
        images_per_second=len(images.train) / training_seconds,
        epoch_learning_rate=learning_rate,
    )
    return metrics, right


def _on_its_device(step: TrainingStep, *, scheduled: bool) -> Callable[[int], None]:
    """The step; on a GPU, as a CUDA graph if the optimizer allows it."""
    name = type(step.optimizer).__name__
    graphed = step.device.type == "cuda" and name in (*CAPTURABLE, "SGD")
    return GraphedStep(step, scheduled=scheduled) if graphed else step


def _batch_sizes(images: int, batch_size: int) -> list[int]:
    rest = images % batch_size
    return [batch_size] * (images // batch_size) + ([rest] if rest else [])


def _outcome(run: State, images: Images, precision: Precision, batch_size: int) -> RunOutcome:
    history, network = run.progress.history, run.network
    final_train_loss, final_train_accuracy = evaluate(network, images.train, precision)
    best = max(history, key=lambda metrics: metrics.val_accuracy)
    test_loss, test_accuracy = (
        evaluate(network, images.test, precision) if images.test else (None, None)
    )
    return RunOutcome(
        final_train_loss=final_train_loss,
        final_train_accuracy=final_train_accuracy,
        final_val_loss=history[-1].val_loss,
        final_val_accuracy=history[-1].val_accuracy,
        best_val_accuracy=best.val_accuracy,
        best_epoch=best.epoch,
        total_params=sum(p.numel() for p in network.parameters() if p.requires_grad),
        train_seconds=run.progress.seconds,
        epochs_to_80=epochs_to_accuracy(run.progress.hits, len(images.train), batch_size),
        late_val_accuracy=late_mean([metrics.val_accuracy for metrics in history]),
        late_val_loss=late_mean([metrics.val_loss for metrics in history]),
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        trained_epochs=len(history),
    )


@torch.inference_mode()
def evaluate(
    model: FashionCNN, split: Split, precision: Precision = "float32"
) -> tuple[float, float]:
    """The mean loss and the accuracy on every image, in evaluation mode."""
    model.eval()
    device = split.labels.device
    loss = torch.zeros((), dtype=torch.float64, device=device)
    hits = torch.zeros((), dtype=torch.int64, device=device)
    for images, labels in split.batches(evaluation_batch(split.images)):
        with autocast(device, precision):
            logits = model(images)
            loss += F.cross_entropy(logits, labels, reduction="sum")
        hits += (logits.argmax(1) == labels).sum()
    return loss.item() / len(split), hits.item() / len(split)


def epochs_to_accuracy(
    hits: Sequence[float],
    train_size: int,
    batch_size: int,
    *,
    accuracy: float = CONVERGED,
    window: int = CONVERGENCE_WINDOW,
) -> float | None:
    """When the accuracy over the last `window` images first reached a level.

    `hits` are the images classified correctly in each step since the first epoch. The window is
    rounded to whole steps, and is at most an epoch.

    Returns:
        Epochs, whole and part (0.4 is two fifths of the first), or None if it never did.
    """
    steps = -(-train_size // batch_size)  # an epoch
    sizes = np.full(steps, batch_size)
    sizes[-1] = train_size - batch_size * (steps - 1)
    width = min(max(round(window / batch_size), 1), steps)
    right = np.cumsum([0.0, *hits])
    seen = np.cumsum([0, *np.resize(sizes, len(hits))])
    reached = (right[width:] - right[:-width]) / (seen[width:] - seen[:-width]) >= accuracy
    return float(seen[width:][reached.argmax()] / train_size) if reached.any() else None
