"""A study of made-up runs: its sweeps, and the rows that MLflow's tables have of its runs.

The rows are those of a real training: every param, tag and metric that `fmnist run` writes today.
"""

import random
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fmnist_tuning.metrics import METRICS, EpochMetrics, RunOutcome
from fmnist_tuning.store import records
from fmnist_tuning.sweeps.cost import parameter_count
from fmnist_tuning.sweeps.runs import PlannedRun, runs_of
from fmnist_tuning.sweeps.sweep import Claim, Figure, Sweep

ARMS, SEEDS, EPOCHS = 5, 10, 10
START = 1_700_000_000_000  # milliseconds since 1970
SECOND = 1_000
CHUNK = 20  # sweeps whose rows are in memory at a time
DATASET = uuid.UUID(int=1).hex

Rows = dict[str, list[dict[str, Any]]]
"""Rows by table, each with its values by column."""


def make_sweeps(runs: int) -> list[Sweep]:
    """Sweeps of 50 runs each, with two claims."""
    claims = tuple(
        Claim(
            that=f"dropout {better} is better than none",
            arm={"dropout_rate": better},
            versus={"dropout_rate": 0.0},
            metric="late_val_accuracy",
            expect="higher",
            margin=0.002,
        )
        for better in (0.3, 0.5)
    )
    return [
        Sweep(
            sweep=f"sweep{number:04}",
            title=f"Sweep {number}",
            grid={"dropout_rate": [0.0, 0.2, 0.3, 0.5, 0.7]},
            fixed={"learning_rate": 1e-3 + number * 1e-6},
            seeds=tuple(range(SEEDS)),
            claims=claims,
            figure=Figure(kind="trend", x="dropout_rate", file=f"sweep{number:04}.png"),
        )
        for number in range(runs // (ARMS * SEEDS))
    ]


def rows_of(sweeps: Sequence[Sweep], digest: str, experiment: int) -> Iterator[Rows]:
    """The rows of all sweeps and their runs, in parts that fit in memory."""
    rng = random.Random(0)
    yield {"datasets": [_dataset(digest, experiment)]}
    for start in range(0, len(sweeps), CHUNK):
        rows: Rows = defaultdict(list)
        for number, sweep in enumerate(sweeps[start : start + CHUNK], start):
            now = START + number * ARMS * SEEDS * SECOND
            _add_sweep(rows, sweep, digest, now, experiment)
            for place, run in enumerate(runs_of(sweep, digest)):
                _add_run(rows, run, digest, now + place * SECOND, experiment, rng=rng)
        yield rows


def _dataset(digest: str, experiment: int) -> dict[str, Any]:
    return {
        "dataset_uuid": DATASET,
        "experiment_id": experiment,
        "name": "fashion_mnist",
        "digest": digest,
        "dataset_source_type": "local",
        "dataset_source": '{"uri": "fashion_mnist"}',
    }


def _add_sweep(rows: Rows, sweep: Sweep, digest: str, now: int, experiment: int) -> None:
    tags = {
        records.KIND: "sweep",
        records.DATA: digest,
        **records.definition_tags(sweep),
        records.NOTE: sweep.title,
    }
    _begin(rows, sweep.id, tags, now, experiment)


def _add_run(
    rows: Rows, run: PlannedRun, digest: str, now: int, experiment: int, *, rng: random.Random
) -> None:
    tags = {
        records.KIND: "run",
        records.FINGERPRINT: run.fingerprint,
        records.SWEEPS: run.sweep,
        **records.sweep_tags({run.sweep: run.arm.label}),
        records.OWNER: uuid.UUID(int=2).hex,
        records.DATA: digest,
        records.DEVICE: "cpu",
        records.PROCESSOR: "a processor",
        records.THREADS: "1",
        records.TORCH: "2.9.1",
        records.PYTHON: "3.11.7",
        records.MLFLOW: "3.8.1",
        records.PROGRAM: "0.1.0",
        records.WEIGHTS_DIGEST: f"{rng.getrandbits(256):064x}",
    }
    run_id = _begin(rows, run.short_name, tags, now, experiment)
    rows["params"] += [
        {"key": key, "value": value, "run_uuid": run_id}
        for key, value in run.config.params().items()
    ]
    _add_metrics(rows, run, run_id, now, rng)
    used = f"{rng.getrandbits(128):032x}"
    rows["inputs"].append(
        {
            "input_uuid": used,
            "source_type": "DATASET",
            "source_id": DATASET,
            "destination_type": "RUN",
            "destination_id": run_id,
        }
    )
    rows["input_tags"].append(
        {"input_uuid": used, "name": "mlflow.data.context", "value": "training"}
    )


def _begin(rows: Rows, name: str, tags: dict[str, str], now: int, experiment: int) -> str:
    run_id = uuid.uuid4().hex
    rows["runs"].append(
        {
            "run_uuid": run_id,
            "name": name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "me",
            "status": "FINISHED",
            "start_time": now,
            "end_time": now + SECOND,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": str(Path("mlruns", run_id).absolute()),
            "experiment_id": experiment,
        }
    )
    own = {
        "mlflow.source.name": "fmnist run",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": "me",
        "mlflow.runName": name,
    }
    rows["tags"] += [
        {"key": key, "value": value, "run_uuid": run_id} for key, value in (own | tags).items()
    ]
    return run_id


def _add_metrics(rows: Rows, run: PlannedRun, run_id: str, now: int, rng: random.Random) -> None:
    for epoch in range(1, EPOCHS + 1):
        measured = EpochMetrics(epoch, *(rng.random() for _ in range(6))).metrics()
        _log(rows, run_id, measured, now + epoch, epoch, latest=epoch == EPOCHS)
    accuracy = rng.gauss(0.92, 0.0027)
    outcome = RunOutcome(
        final_train_loss=0.2,
        final_train_accuracy=accuracy + 0.02,
        final_val_loss=0.25,
        final_val_accuracy=accuracy,
        best_val_accuracy=accuracy,
        best_epoch=EPOCHS,
        total_params=parameter_count(run.config),
        train_seconds=180 + rng.random(),
        epochs_to_80=0.4 + rng.random() / 10,
        late_val_accuracy=accuracy - 0.001,
        late_val_loss=0.25,
    )
    _log(rows, run_id, outcome.metrics(), now + EPOCHS + 1, 0, latest=True)
    assert outcome.metrics().keys() < METRICS.keys()  # noqa: S101  a new one would be missing here


def _log(
    rows: Rows, run_id: str, metrics: dict[str, float], now: int, step: int, *, latest: bool
) -> None:
    logged = [
        {
            "key": key,
            "value": float(value),
            "timestamp": now,
            "step": step,
            "is_nan": False,
            "run_uuid": run_id,
        }
        for key, value in metrics.items()
    ]
    rows["metrics"] += logged
    if latest:
        rows["latest_metrics"] += logged
