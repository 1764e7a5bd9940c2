"""The names of a study's tags, and the records that MLflow's runs are read into."""

import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Literal

from pydantic import ValidationError

from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import METRIC_NAMES
from fmnist_tuning.sweeps.finished import FinishedRun
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
PROGRAM: Final = "fmnist.version"
REASON: Final = "fmnist.reason"
OWNER: Final = "fmnist.owner"
HEARTBEAT: Final = "fmnist.heartbeat"
RETRAINS: Final = "fmnist.replaces"  # the finished run that `--force` trained again
PRUNED: Final = "fmnist.pruned"  # after so many epochs: a trial that was not worth going on
DEFINITION: Final = "fmnist.definition"
WEIGHTS_DIGEST: Final = "fmnist.weights"

NOTE: Final = "mlflow.note.content"
USER: Final = "mlflow.user"

GIVEN_UP: Final = "(another command trains this)"
"""The value of a parameter that closes a run: its own command can no longer claim it."""

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

WEIGHTS: Final = "weights.pt"
"""The artefact that holds the network of a training."""

TAG_CHARACTERS: Final = 5_000  # MLflow keeps 8,000

_PLACES: Final = {metric: place for place, metric in enumerate(METRIC_NAMES)}


@dataclass(frozen=True, slots=True)
class TrackedRun(FinishedRun):
    """A finished run as the store has it."""

    fingerprint: str
    tags: Mapping[str, str]  # `fmnist.*` and MLflow's own
    started: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A training, or a sweep's own run, that is not FINISHED."""

    run_id: str
    name: str
    kind: str  # `run` or `sweep`
    fingerprint: str
    status: str  # in MLflow's words
    owner: str  # the command that made it or took it up last
    heartbeat: str  # a text that changes as long as that command lives
    tags: Mapping[str, str]
    claim: Literal["open", "claimed", "closed"] = "claimed"  # see `running.contest`

    @property
    def sweeps(self) -> tuple[str, ...]:
        """Ids of the sweeps that use it."""
        return sweeps_of(self.tags)


@dataclass(frozen=True, slots=True)
class TrackedSweep:
    """A sweep as the store has it; times are in seconds since 1970."""

    run_id: str  # of the sweep's own run
    sweep: str
    definition: "Definition"  # as it was last run
    data_digest: str
    tags: Mapping[str, str]
    status: str  # in MLflow's words
    started: float  # for the first time
    ended: float  # for the last time; the same as `started` if it never did


@dataclass(frozen=True, slots=True)
class Definition:
    """A sweep's definition in a store; `parsed` is None if there is a `problem` with it.

    Anybody who can write to the store can forge it, so it must obey the same rules as a file.
    """

    sweep: str
    parsed: Sweep | None
    problem: str = ""

    def get(self) -> Sweep:
        """The definition; raises `TrackingError` if it could not be trained under that id."""
        if self.parsed is None:
            raise TrackingError(str(self))
        return self.parsed

    def __str__(self) -> str:
        """What is wrong with it, and what can be done."""
        return (
            f"the study's definition of {shorten(self.sweep)} cannot be read: {self.problem}; "
            "`fmnist run` on its file repairs it, or delete its run in MLflow"
        )


def content_digest(content: bytes) -> str:
    """The SHA-256 by which a network is recognised."""
    return hashlib.sha256(content).hexdigest()


def _compact(texts: Mapping[str, str]) -> dict[str, str]:
    """With equal texts of all runs in memory once: of a large study, most are the same."""
    return {sys.intern(key): sys.intern(text or "") for key, text in texts.items()}


def tracked_run(run: Any) -> TrackedRun:
    """The record of a training, from MLflow's run."""
    tags = _compact(run.data.tags)
    return TrackedRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        fingerprint=tags.get(FINGERPRINT, ""),
        sweeps=sweeps_of(tags),
        params=_compact(run.data.params),
        # Stores return metrics in different orders.
        metrics={sys.intern(m): run.data.metrics[m] for m in sorted(run.data.metrics, key=_place)},
        device=tags.get(DEVICE, ""),
        tags=tags,
        started=(run.info.start_time or 0) / 1000,
        ended=(run.info.end_time or 0) / 1000,
    )


def has_result(metrics: Mapping[str, float]) -> bool:
    """Whether a run that is marked FINISHED has the metrics of a finished training."""
    return (
        0 <= metrics.get("final_train_accuracy", -1) <= 1
        and 0 <= metrics.get("final_val_accuracy", -1) <= 1
        and 1 <= metrics.get("total_params", 0) < math.inf
        and 0 <= metrics.get("train_seconds", -1) < math.inf
    )


def unfinished_run(run: Any) -> UnfinishedRun:
    """The record of an unfinished run, from MLflow's run."""
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
        claim=_claim_of(run.data.params),
    )


def _claim_of(params: Mapping[str, str]) -> Literal["open", "claimed", "closed"]:
    if GIVEN_UP in params.values():
        return "closed"
    return "claimed" if params else "open"


def training_tags(owner: str, data: str, **environment: object) -> dict[str, str]:
    """The tags of a training: its command, its images, and what it is trained with."""
    names = {
        DEVICE: "device",
        PROCESSOR: "processor",
        THREADS: "threads",
        TORCH: "torch",
        PYTHON: "python",
    }
    return {
        OWNER: owner,
        DATA: data,
        **{tag: str(environment[name]) for tag, name in names.items()},
        MLFLOW: version("mlflow"),
        PROGRAM: version("fmnist-tuning"),
    }


def sweeps_of(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of the sweeps that use a run."""
    return tuple(filter(None, tags.get(SWEEPS, "").split(", ")))


def sweep_tags(sweeps: Mapping[str, str]) -> dict[str, str]:
    """A tag for each sweep of a run, by which MLflow's page can group runs: its arm there."""
    return {f"sweep.{sweep}": arm for sweep, arm in sweeps.items() if arm}


def _place(metric: str) -> tuple[int, str]:
    return _PLACES.get(metric, len(_PLACES)), metric


def tracked_sweep(run: Any) -> TrackedSweep:
    """The record of a sweep, from MLflow's run."""
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
    """A definition split over several tags, because the length of a tag is limited."""
    text = json.dumps(sweep.definition(), ensure_ascii=False)
    starts = range(0, len(text), TAG_CHARACTERS)
    chunks = {
        f"{DEFINITION}.{part}": text[start : start + TAG_CHARACTERS]
        for part, start in enumerate(starts)
    }
    return {DEFINITION: str(len(chunks)), **chunks}


def definition_of(sweep: str, tags: Mapping[str, str]) -> Definition:
    """Read the definition that `definition_tags` wrote."""
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
