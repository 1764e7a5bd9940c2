"""What a study keeps of its runs: the tags' names, and the records made of MLflow's runs."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError

from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import METRIC_NAMES
from fmnist_tuning.sweeps.plain_yaml import MAX_BYTES
from fmnist_tuning.sweeps.problems import problems_of
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.text import shorten

KIND: Final = "fmnist.kind"
FINGERPRINT: Final = "fmnist.fingerprint"
SWEEPS: Final = "fmnist.sweeps"
DATA: Final = "fmnist.data"
DEVICE: Final = "fmnist.device"
PROCESSOR: Final = "fmnist.processor"
THREADS: Final = "fmnist.threads"
TORCH: Final = "fmnist.torch"
PYTHON: Final = "fmnist.python"
MLFLOW: Final = "fmnist.mlflow"
VERSION: Final = "fmnist.version"
REASON: Final = "fmnist.reason"
OWNER: Final = "fmnist.owner"
HEARTBEAT: Final = "fmnist.heartbeat"
DEFINITION: Final = "fmnist.definition"
WEIGHTS_DIGEST: Final = "fmnist.weights"

NOTE: Final = "mlflow.note.content"
USER: Final = "mlflow.user"

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

WEIGHTS: Final = "weights.pt"
"""The artefact of every training that holds its network."""

TAG_CHARACTERS: Final = 5_000  # of the 8,000 that MLflow keeps


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as the store has it.

    Attributes:
        run_id: MLflow's id.
        name: MLflow's run name.
        fingerprint: What decided its result.
        sweeps: Ids of the sweeps that use it.
        params: Settings as text.
        metrics: The latest value of each metric, in an order that does not depend on the store.
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
class UnfinishedRun:
    """A training, or a sweep's own run, that is not FINISHED.

    Attributes:
        run_id: MLflow's id.
        name: MLflow's run name.
        kind: `run` or `sweep`.
        fingerprint: Of a training.
        status: MLflow's word for what became of it.
        owner: The command that made it or took it up last.
        heartbeat: A text that changes for as long as that command lives.
        tags: All of them.
    """

    run_id: str
    name: str
    kind: str
    fingerprint: str
    status: str
    owner: str
    heartbeat: str
    tags: Mapping[str, str]

    @property
    def sweeps(self) -> tuple[str, ...]:
        """Ids of the sweeps that use it."""
        return tuple(filter(None, self.tags.get(SWEEPS, "").split(", ")))


@dataclass(frozen=True, slots=True)
class TrackedSweep:
    """A sweep as the store has it.

    Attributes:
        run_id: MLflow's id of the sweep's own run.
        sweep: The sweep's id.
        definition: As it was last run; see `Definition`.
        data_digest: Digest of the data that it ran on.
        tags: As of a run.
        status: MLflow's word for how it stands.
        started: When it was first run, in seconds since the epoch.
        ended: When it ended last, or started where it never did.
    """

    run_id: str
    sweep: str
    definition: "Definition"
    data_digest: str
    tags: Mapping[str, str]
    status: str
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Definition:
    """A sweep's definition in a store, parsed once.

    Whoever may write to the store may have forged it: it is held to the same rules as a file.

    Attributes:
        sweep: The sweep's id, the name of its MLflow run.
        parsed: The definition; None where it cannot be read.
        problem: Why it cannot.
    """

    sweep: str
    parsed: Sweep | None
    problem: str = ""

    def get(self) -> Sweep:
        """The definition.

        Raises:
            TrackingError: When it could not be trained under that id.
        """
        if self.parsed is None:
            raise TrackingError(
                f"the study's definition of {shorten(self.sweep)} cannot be read: {self.problem}; "
                "`fmnist run` on its file mends it, or delete its run in MLflow"
            )
        return self.parsed


def content_digest(content: bytes) -> str:
    """By which a network is known wherever it turns up: SHA-256."""
    return hashlib.sha256(content).hexdigest()


def tracked_run(run: Any) -> TrackedRun:
    """A training, of MLflow's run."""
    tags = run.data.tags
    return TrackedRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        fingerprint=tags.get(FINGERPRINT, ""),
        sweeps=tuple(filter(None, tags.get(SWEEPS, "").split(", "))),
        params=run.data.params,
        metrics={name: run.data.metrics[name] for name in sorted(run.data.metrics, key=_place)},
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


def unfinished_run(run: Any) -> UnfinishedRun:
    """An unfinished run, of MLflow's."""
    tags = run.data.tags
    return UnfinishedRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        kind=tags.get(KIND, ""),
        fingerprint=tags.get(FINGERPRINT, ""),
        status=run.info.status,
        owner=tags.get(OWNER, ""),
        heartbeat=tags.get(HEARTBEAT, ""),
        tags=tags,
    )


def _place(metric: str) -> tuple[int, str]:
    known = METRIC_NAMES.index(metric) if metric in METRIC_NAMES else len(METRIC_NAMES)
    return known, metric


def tracked_sweep(run: Any) -> TrackedSweep:
    """A sweep, of MLflow's run."""
    started = run.info.start_time or 0
    return TrackedSweep(
        run_id=run.info.run_id,
        sweep=run.info.run_name,
        definition=definition_of(run.info.run_name, run.data.tags),
        data_digest=run.data.tags.get(DATA, ""),
        tags=run.data.tags,
        status=run.info.status,
        started=started / 1000,
        ended=(run.info.end_time or started) / 1000,
    )


def definition_tags(sweep: Sweep) -> dict[str, str]:
    """A definition of any length as tags, whose values have a limit."""
    definition = json.dumps(sweep.definition(), ensure_ascii=False)
    chunks = [
        definition[start : start + TAG_CHARACTERS]
        for start in range(0, len(definition), TAG_CHARACTERS)
    ]
    numbered = {f"{DEFINITION}.{part}": chunk for part, chunk in enumerate(chunks)}
    return {DEFINITION: str(len(chunks)), **numbered}


def definition_of(sweep: str, tags: Mapping[str, str]) -> Definition:
    """What `definition_tags` spread over tags."""
    count = tags.get(DEFINITION, "")
    parts = range(int(count)) if re.fullmatch("[0-9]{1,4}", count) else ()
    chunks = [tags.get(f"{DEFINITION}.{part}") for part in parts]
    text = "" if None in chunks else "".join(filter(None, chunks))
    if len(text) > MAX_BYTES:
        return Definition(sweep, None, f"longer than {MAX_BYTES:,} characters")
    try:
        parsed = Sweep.model_validate_json(text)
    except ValidationError as error:
        return Definition(sweep, None, str(problems_of(error, Sweep)[0]))
    if parsed.id != sweep:
        return Definition(sweep, None, f"it is that of {parsed.id}")
    if parsed.pending:
        return Definition(sweep, None, "it has no arms")
    return Definition(sweep, parsed)
