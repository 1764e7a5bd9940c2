"""A run between two epochs as bytes, and back."""

import io
from dataclasses import asdict
from typing import Any, Final

import torch

from fmnist_tuning.errors import CheckpointError
from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.training.state import Progress, State

_FORMAT: Final = 1


def pack(run: State) -> bytes:
    """Everything that the next epoch depends on."""
    dropout = run.model.dropout.generator
    state = {
        "format": _FORMAT,
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "average": None if run.average is None else run.average.state_dict(),
        "order": run.order.get_state(),
        "changes": run.changes.get_state(),
        "dropout": None if dropout is None else dropout.get_state(),
        "history": [asdict(metrics) for metrics in run.progress.history],
        "hits": list(run.progress.hits),
        "seconds": run.progress.seconds,
    }
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def unpack(content: bytes, run: State) -> None:
    """Bring a newly built run to the state that `pack` saved.

    Raises:
        CheckpointError: When the bytes are damaged or another network's. The run may have changed
            then and must be built again.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        _restore(state, run)
    except Exception as error:  # noqa: BLE001  bytes that are no checkpoint can raise anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise CheckpointError(f"its checkpoint is damaged ({reason[:200]})") from None


def _restore(state: dict[str, Any], run: State) -> None:
    if state["format"] != _FORMAT:
        raise ValueError(f"format {state['format']}, not {_FORMAT}")
    history = [EpochMetrics(**metrics) for metrics in state["history"]]
    if [metrics.epoch for metrics in history] != list(range(1, len(history) + 1)):
        raise ValueError("its epochs are not 1, 2, 3, ...")
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.order.set_state(state["order"])
    if run.model.dropout.generator is not None:
        run.model.dropout.generator.set_state(state["dropout"])
    # Checkpoints of earlier versions lack these, and their runs had neither.
    if run.average is not None:
        run.average.load_state_dict(state["average"])
    if "changes" in state:
        run.changes.set_state(state["changes"])
    hits = [float(hits) for hits in state["hits"]]
    run.progress = Progress(history, hits, float(state["seconds"]))
