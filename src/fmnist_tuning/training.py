"""One run: a generator that yields an `EpochMetrics` per epoch. Knows no MLflow, file or terminal.

Every source of randomness has its own generator, and all of them descend from the run's seed, so
that two arms with one seed start from the same weights where their layers agree, and see the same
images in the same order.
"""

import math
import time
from collections.abc import Generator, Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from fmnist_tuning.data.images import Images, Split
from fmnist_tuning.errors import DivergedError
from fmnist_tuning.model import FashionCNN
from fmnist_tuning.records import EpochMetrics, RunOutcome

EVALUATION_BATCH = 250  # the fastest on a CPU, whose caches larger batches leave; any is exact

CONVERGED_ACCURACY = 0.8
CONVERGENCE_WINDOW = 3_200  # images: a standard error of 0.7 points at 80 %

FUSED_OPTIMIZERS = ("Adagrad", "Adam", "AdamW", "SGD")


class Stream(IntEnum):
    """What randomness is for; each purpose has a stream of its own under one seed."""

    WEIGHTS = 0
    ORDER = 1
    DROPOUT = 2
    SUBSET = 3


def generator(seed: int, stream: Stream, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose, independent of those for the others (`numpy.SeedSequence`)."""
    state = np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def build_model(seed: int, device: torch.device, **architecture: object) -> FashionCNN:
    """A network with the initial weights of `seed`, the same on every kind of device.

    Args:
        seed: The run's seed.
        device: Where the network will train.
        **architecture: Arguments of `FashionCNN`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, Stream.WEIGHTS).get_state())
        model = FashionCNN(
            dropout_generator=generator(seed, Stream.DROPOUT, device),
            **architecture,  # type: ignore[arg-type]
        )
    # Images with one channel have no layout of their own: the weights' layout decides, and this
    # one is the faster on a CPU.
    return model.to(device).to(memory_format=torch.channels_last)


def build_optimizer(
    model: nn.Module, name: str, *, learning_rate: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """An optimizer by its name in `torch.optim`, in its fused form where it has one."""
    options: dict[str, object] = {"lr": learning_rate, "weight_decay": weight_decay}
    if momentum:
        options["momentum"] = momentum
    if name in FUSED_OPTIMIZERS:
        options["fused"] = True
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(model.parameters(), **options)
    return optimizer


def train(
    model: FashionCNN,
    images: Images,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batch_size: int,
    order: torch.Generator,
) -> Generator[EpochMetrics, None, RunOutcome]:
    """Train `model` in place with cross-entropy.

    Args:
        model: The network, on the device of the images.
        images: Training, validation and perhaps test images.
        optimizer: Over the network's parameters.
        epochs: How often every training image is seen.
        batch_size: Images a step; an epoch's last step takes those that remain.
        order: Generator on the CPU for the order of the images, a new one every epoch.

    Yields:
        The metrics of each epoch as it ends.

    Returns:
        The run's outcome (the value of `yield from`).

    Raises:
        DivergedError: When an epoch's training loss is not a finite number.
    """
    started = time.perf_counter()
    history: list[EpochMetrics] = []
    hits: list[float] = []  # of every step so far
    for epoch in range(1, epochs + 1):
        epoch_started = time.perf_counter()
        tally = _train_epoch(model, images.train, optimizer, batch_size, order)
        train_loss, train_accuracy = tally.means()
        hits += tally.hits_by_batch()
        training_seconds = time.perf_counter() - epoch_started
        if not math.isfinite(train_loss):
            raise DivergedError(epoch, optimizer.param_groups[0]["lr"])
        val_loss, val_accuracy = evaluate(model, images.validation)
        history.append(
            EpochMetrics(
                epoch=epoch,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                val_loss=val_loss,
                val_accuracy=val_accuracy,
                epoch_seconds=time.perf_counter() - epoch_started,
                images_per_second=len(images.train) / training_seconds,
            )
        )
        yield history[-1]
    train_seconds = time.perf_counter() - started
    final_train_loss, final_train_accuracy = evaluate(model, images.train)
    best = max(history, key=lambda metrics: metrics.val_accuracy)
    test_loss, test_accuracy = evaluate(model, images.test) if images.test else (None, None)
    return RunOutcome(
        final_train_loss=final_train_loss,
        final_train_accuracy=final_train_accuracy,
        final_val_loss=history[-1].val_loss,
        final_val_accuracy=history[-1].val_accuracy,
        best_val_accuracy=best.val_accuracy,
        best_epoch=best.epoch,
        total_params=sum(p.numel() for p in model.parameters() if p.requires_grad),
        train_seconds=train_seconds,
        epochs_to_80=epochs_to_accuracy(hits, len(images.train), batch_size),
        test_loss=test_loss,
        test_accuracy=test_accuracy,
    )


def _train_epoch(
    model: FashionCNN,
    split: Split,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    order: torch.Generator,
) -> "_Tally":
    """One pass over the training images."""
    model.train()
    tally = _Tally(split.labels.device)
    for images, labels in split.batches(batch_size, order):  # (N, 1, 28, 28), (N,)
        logits = model(images)  # (N, 10)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        tally.add(logits.detach(), labels, loss.detach())
    return tally


@torch.inference_mode()
def evaluate(model: FashionCNN, split: Split) -> tuple[float, float]:
    """The mean loss and the accuracy on every image, in evaluation mode."""
    model.eval()
    tally = _Tally(split.labels.device)
    for images, labels in split.batches(EVALUATION_BATCH):
        logits = model(images)
        tally.add(logits, labels, F.cross_entropy(logits, labels))
    return tally.means()


def epochs_to_accuracy(
    hits: Sequence[float],
    train_size: int,
    batch_size: int,
    *,
    accuracy: float = CONVERGED_ACCURACY,
    window: int = CONVERGENCE_WINDOW,
) -> float | None:
    """When the accuracy over a trailing window of training steps first reached a level.

    Args:
        hits: Images classified rightly in each step, from the first epoch on.
        train_size: Images an epoch.
        batch_size: Images a step, but for each epoch's last.
        accuracy: The level, a fraction.
        window: About how many images the accuracy is taken over; rounded to whole steps, and at
            most an epoch.

    Returns:
        Epochs, whole and part (0.4 is two fifths of the first), or None where it never did.
    """
    steps = -(-train_size // batch_size)  # an epoch
    sizes = np.full(steps, batch_size)
    sizes[-1] = train_size - batch_size * (steps - 1)
    width = min(max(round(window / batch_size), 1), steps)
    right = np.cumsum([0.0, *hits])
    seen = np.cumsum([0, *np.resize(sizes, len(hits))])
    reached = (right[width:] - right[:-width]) / (seen[width:] - seen[:-width]) >= accuracy
    return float(seen[width:][reached.argmax()] / train_size) if reached.any() else None


class _Tally:
    """Losses and hits kept on the device, and read once: a read per step would stall a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._hits: list[Tensor] = []
        self._images = 0

    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Count one batch: logits (N, 10), labels (N,), and its mean loss."""
        self._loss += loss * len(labels)
        self._hits.append((logits.argmax(1) == labels).sum())
        self._images += len(labels)

    def means(self) -> tuple[float, float]:
        """The mean loss and the accuracy of all images."""
        hits = torch.stack(self._hits).sum().item()
        return self._loss.item() / self._images, hits / self._images

    def hits_by_batch(self) -> list[float]:
        """Images classified rightly in each batch."""
        return [float(hits) for hits in torch.stack(self._hits).tolist()]
