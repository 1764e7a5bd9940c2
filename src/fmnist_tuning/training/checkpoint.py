"""A run between two epochs as bytes, and back: weights, optimizer, generators, progress."""

import io
from dataclasses import asdict
from typing import Any, Final

import torch

from fmnist_tuning.errors import CheckpointError
from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.training.loop import Progress
from fmnist_tuning.training.model import FashionCNN

_FORMAT: Final = 1


def pack(
    model: FashionCNN, optimizer: torch.optim.Optimizer, order: torch.Generator, progress: Progress
) -> bytes:
    """Everything that the next epoch depends on."""
    dropout = model.dropout.generator
    state = {
        "format": _FORMAT,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "order": order.get_state(),
        "dropout": None if dropout is None else dropout.get_state(),
        "history": [asdict(metrics) for metrics in progress.history],
        "hits": list(progress.hits),
        "seconds": progress.seconds,
    }
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def unpack(
    content: bytes, model: FashionCNN, optimizer: torch.optim.Optimizer, order: torch.Generator
) -> Progress:
    """Bring a newly built run to the state that `pack` saved, and return its progress.

    Raises:
        CheckpointError: When the bytes are damaged or another network's. The model, optimizer and
            generator may have changed then and must be built again.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return _restore(state, model, optimizer, order)
    except Exception as error:  # noqa: BLE001  bytes that are no checkpoint can raise anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise CheckpointError(f"its checkpoint is damaged ({reason[:200]})") from None


def _restore(
    state: dict[str, Any],
    model: FashionCNN,
    optimizer: torch.optim.Optimizer,
    order: torch.Generator,
) -> Progress:
    if state["format"] != _FORMAT:
        raise ValueError(f"format {state['format']}, not {_FORMAT}")
    history = [EpochMetrics(**metrics) for metrics in state["history"]]
    if [metrics.epoch for metrics in history] != list(range(1, len(history) + 1)):
        raise ValueError("its epochs are not 1, 2, 3, ...")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    order.set_state(state["order"])
    if model.dropout.generator is not None:
        model.dropout.generator.set_state(state["dropout"])
    return Progress(history, [float(hits) for hits in state["hits"]], float(state["seconds"]))
