"""What a study keeps of its runs: the tags' names, and the records made of MLflow's."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlflow.entities import RunTag

KIND: Final = "fmnist.kind"
FINGERPRINT: Final = "fmnist.fingerprint"
SWEEPS: Final = "fmnist.sweeps"
DEVICE: Final = "fmnist.device"
DATA: Final = "fmnist.data"
REASON: Final = "fmnist.reason"
DEFINITION: Final = "fmnist.definition"

_TAG_CHARACTERS: Final = 5_000  # of the 8,000 that MLflow keeps


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as the store has it.

    Attributes:
        run_id: MLflow's id.
        name: MLflow's run name.
        fingerprint: What decided its result.
        sweeps: Ids of the sweeps that use it.
        params: Settings as text.
        metrics: The latest value of each metric.
        tags: `fmnist.*` and MLflow's own: who, with which versions, on what.
        started: When, in seconds since the epoch.
        ended: The same.
    """

    run_id: str
    name: str
    fingerprint: str
    sweeps: tuple[str, ...]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    started: float
    ended: float

    @property
    def device(self) -> str:
        """The kind of device it was trained on."""
        return self.tags.get(DEVICE, "")


@dataclass(frozen=True, slots=True)
class TrackedSweep:
    """A sweep as the store has it.

    Attributes:
        run_id: MLflow's id of the sweep's own run.
        sweep: The sweep's id.
        definition: As JSON, as it was last run.
        data_digest: Digest of the data that it ran on.
    """

    run_id: str
    sweep: str
    definition: str
    data_digest: str


def tracked_run(run: Any) -> TrackedRun:
    """A training, of MLflow's run."""
    tags = run.data.tags
    return TrackedRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        fingerprint=tags.get(FINGERPRINT, ""),
        sweeps=tuple(filter(None, tags.get(SWEEPS, "").split(", "))),
        params=run.data.params,
        metrics=run.data.metrics,
        tags=tags,
        started=(run.info.start_time or 0) / 1000,
        ended=(run.info.end_time or 0) / 1000,
    )


def has_result(metrics: Mapping[str, float]) -> bool:
    """Whether a run that is marked FINISHED has what a training ends with."""
    accuracies = [metrics.get(name, -1) for name in ("final_train_accuracy", "final_val_accuracy")]
    return (
        all(0 <= accuracy <= 1 for accuracy in accuracies)
        and 1 <= metrics.get("total_params", 0) < math.inf
        and 0 <= metrics.get("train_seconds", -1) < math.inf
    )


def definition_tags(definition: str) -> dict[str, str]:
    """A text of any length as tags, whose values have a limit."""
    chunks = [
        definition[start : start + _TAG_CHARACTERS]
        for start in range(0, len(definition), _TAG_CHARACTERS)
    ]
    numbered = {f"{DEFINITION}.{part}": chunk for part, chunk in enumerate(chunks)}
    return {DEFINITION: str(len(chunks)), **numbered}


def definition_of(sweep_run: Any) -> str:
    """The definition that `definition_tags` spread over tags; empty where they are not its work."""
    tags = sweep_run.data.tags
    count = tags.get(DEFINITION, "")
    parts = range(int(count)) if re.fullmatch("[0-9]{1,4}", count) else ()
    chunks = [tags.get(f"{DEFINITION}.{part}") for part in parts]
    return "" if None in chunks else "".join(chunks)


def run_tags(tags: Mapping[str, str]) -> list[RunTag]:
    """Tags as MLflow's client takes them."""
    return [RunTag(key, value) for key, value in clipped(tags).items()]


def clipped(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags no longer than every store keeps."""
    return {key: value[:_TAG_CHARACTERS] for key, value in tags.items()}
