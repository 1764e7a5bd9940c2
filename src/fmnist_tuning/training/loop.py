"""One run: a generator that yields an `EpochMetrics` per epoch and ends with a `RunOutcome`."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fmnist_tuning.data.images import Images, Split
from fmnist_tuning.errors import DivergedError
from fmnist_tuning.metrics import CONVERGED, EpochMetrics, RunOutcome, late_mean
from fmnist_tuning.sweeps.settings import Precision
from fmnist_tuning.training.building import CAPTURABLE
from fmnist_tuning.training.model import FashionCNN
from fmnist_tuning.training.step import GraphedStep, TrainingStep, autocast

EVALUATION_BATCH: Final = 250  # the fastest on a CPU: larger batches do not fit into its caches

CONVERGENCE_WINDOW: Final = 3_200  # images: a standard error of 0.7 points at 80 %


@dataclass
class Progress:
    """What a run needs to continue, beside weights, optimizer and generators."""

    history: list[EpochMetrics] = field(default_factory=list)  # of the epochs so far
    hits: list[float] = field(default_factory=list)  # images classified correctly, per step
    seconds: float = 0.0  # of the epochs so far


def train(
    model: FashionCNN,
    images: Images,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batch_size: int,
    order: torch.Generator,
    label_smoothing: float = 0.0,
    gradient_clip: float | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Generator[EpochMetrics, None, RunOutcome]:
    """Train `model`, which is on the device of the images, in place with cross-entropy.

    The generator `order` is on the CPU and gives every epoch a new order of the images. An epoch's
    last batch has the images that remain. `label_smoothing` moves that share of each target from
    its class to all classes alike (Szegedy et al. 2016); only the loss of training steps has it. A
    step's gradient over all weights is shortened to a length of `gradient_clip` if it is longer
    (Pascanu et al. 2013). `progress` is updated before each `yield`; if it already has epochs,
    training continues after them.

    Yields the metrics of each epoch as it ends; the value of `yield from` is the run's outcome.

    Raises:
        DivergedError: When an epoch's training or validation loss is not a finite number.
    """
    progress = progress or Progress()
    step = TrainingStep(
        model,
        images.train,
        optimizer,
        precision=precision,
        label_smoothing=label_smoothing,
        gradient_clip=gradient_clip,
    )
    advance = _on_its_device(step)
    for epoch in range(len(progress.history) + 1, epochs + 1):
        metrics, right = _epoch(epoch, step, advance, images, order, batch_size=batch_size)
        progress.history.append(metrics)
        progress.hits += [float(batch.sum()) for batch in torch.split(right, batch_size)]
        progress.seconds += metrics.epoch_seconds
        yield metrics
    return _outcome(model, images, precision, progress, batch_size)


def _epoch(
    epoch: int,
    step: TrainingStep,
    advance: Callable[[int], None],
    images: Images,
    order: torch.Generator,
    *,
    batch_size: int,
) -> tuple[EpochMetrics, Tensor]:
    """Train for an epoch; its metrics, and which images of its order were right: (N,) bool."""
    started = time.perf_counter()
    step.model.train()
    step.begin_epoch(torch.randperm(len(images.train), generator=order))
    for size in _batch_sizes(len(images.train), batch_size):
        advance(size)
    train_loss, right = step.mean_loss(), step.right()
    training_seconds = time.perf_counter() - started
    val_loss, val_accuracy = evaluate(step.model, images.validation, step.precision)
    if not math.isfinite(train_loss + val_loss):  # its last step may have spoilt the weights
        raise DivergedError(epoch, step.optimizer.param_groups[0]["lr"])
    metrics = EpochMetrics(
        epoch=epoch,
        train_loss=train_loss,
        train_accuracy=right.sum().item() / len(right),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        epoch_seconds=time.perf_counter() - started,
        images_per_second=len(images.train) / training_seconds,
    )
    return metrics, right


def _on_its_device(step: TrainingStep) -> Callable[[int], None]:
    """The step; on a GPU, as a CUDA graph if the optimizer allows it."""
    name = type(step.optimizer).__name__
    graphed = step.device.type == "cuda" and name in (*CAPTURABLE, "SGD")
    return GraphedStep(step) if graphed else step


def _batch_sizes(images: int, batch_size: int) -> list[int]:
    rest = images % batch_size
    return [batch_size] * (images // batch_size) + ([rest] if rest else [])


def _outcome(
    model: FashionCNN, images: Images, precision: Precision, progress: Progress, batch_size: int
) -> RunOutcome:
    history = progress.history
    final_train_loss, final_train_accuracy = evaluate(model, images.train, precision)
    best = max(history, key=lambda metrics: metrics.val_accuracy)
    test_loss, test_accuracy = (
        evaluate(model, images.test, precision) if images.test else (None, None)
    )
    return RunOutcome(
        final_train_loss=final_train_loss,
        final_train_accuracy=final_train_accuracy,
        final_val_loss=history[-1].val_loss,
        final_val_accuracy=history[-1].val_accuracy,
        best_val_accuracy=best.val_accuracy,
        best_epoch=best.epoch,
        total_params=sum(p.numel() for p in model.parameters() if p.requires_grad),
        train_seconds=progress.seconds,
        epochs_to_80=epochs_to_accuracy(progress.hits, len(images.train), batch_size),
        late_val_accuracy=late_mean([metrics.val_accuracy for metrics in history]),
        late_val_loss=late_mean([metrics.val_loss for metrics in history]),
        test_loss=test_loss,
        test_accuracy=test_accuracy,
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
    for images, labels in split.batches(EVALUATION_BATCH):
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
