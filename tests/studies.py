"""Studies of known numbers: written to a real store, or put into frames, without training."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from conftest import CONFIGS

from fmnist_tuning import DEFAULT_STUDY
from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.analysis.rows import FinishedRow
from fmnist_tuning.metrics import CURVES, EpochMetrics, RunOutcome
from fmnist_tuning.sweeps.cost import parameter_count
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.runs import PlannedRun, runs_of
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep

EPOCHS = 3
DIGEST = "0123456789abcdef"
START = 1_700_000_000.0

Accuracy = Callable[[RunConfig], float]


def plausible(config: RunConfig) -> float:
    """A validation accuracy that dropout, depth and pooling move, and the seed a little."""
    luck = random.Random(repr(config)).gauss(0, 0.001)  # noqa: S311
    best = 0.92 - 0.05 * (config.dropout_rate - 0.3) ** 2
    plus = 0.004 * config.use_batch_norm + 0.002 * config.num_conv_layers
    return round(best + plus + luck, 4)


def epochs_of(accuracy: float) -> list[EpochMetrics]:
    """Curves that end at an accuracy."""
    return [
        EpochMetrics(
            epoch=epoch,
            train_loss=0.6 / epoch,
            train_accuracy=accuracy - 0.05 + 0.02 * epoch,
            val_loss=0.5 / epoch,
            val_accuracy=accuracy - 0.03 * (EPOCHS - epoch),
            epoch_seconds=2.0,
            images_per_second=1000.0,
        )
        for epoch in range(1, EPOCHS + 1)
    ]


def outcome_of(config: RunConfig, accuracy: float) -> RunOutcome:
    """What such a run ends with."""
    return RunOutcome(
        final_train_loss=0.15,
        final_train_accuracy=accuracy + 0.03 * (1 - config.dropout_rate),
        final_val_loss=0.25,
        final_val_accuracy=accuracy,
        best_val_accuracy=accuracy,
        best_epoch=EPOCHS,
        total_params=parameter_count(config),
        train_seconds=6.0 + config.num_conv_layers,
        epochs_to_80=0.5,
        late_val_accuracy=accuracy - 0.03,
        late_val_loss=0.3,
    )


def six_experiments() -> list[Sweep]:
    """The six that are shipped, two seeds each; the sixth decided."""
    *five, sixth = load_sweeps(CONFIGS)
    decided = sixth.model_dump(mode="json", by_alias=True) | {
        "arms": [
            {"name": "A", "predicted": 0.93, "dropout_rate": 0.2, "num_conv_layers": 3},
            {"name": "B", "predicted": 0.92, "dropout_rate": 0.3, "num_conv_layers": 3},
            {"name": "C", "predicted": 0.91, "dropout_rate": 0.3, "num_conv_layers": 2},
        ],
        "seeds": [1000, 1001],
    }
    return [
        *(sweep.model_copy(update={"seeds": (0, 1)}) for sweep in five),
        Sweep.model_validate_json(json.dumps(decided)),
    ]


def sweep_of(text: str, folder: Path) -> Sweep:
    """A sweep from YAML."""
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    (sweep,) = load_sweeps([path])
    return sweep


def frames_of(
    sweep: Sweep,
    accuracy: Accuracy = plausible,
    *,
    keep: Callable[[PlannedRun], bool] = lambda _: True,
) -> SweepFrames:
    """A sweep's frames, in memory.

    Args:
        sweep: Its arms decided.
        accuracy: By configuration.
        keep: Which runs are finished.
    """
    runs = runs_of(sweep, DIGEST)
    finished, rows = [], []
    for run in filter(keep, runs):
        reached = accuracy(run.config)
        outcome = outcome_of(run.config, reached)
        finished.append(
            FinishedRow(run.arm, run.config.seed, run.fingerprint, "cpu", outcome.metrics())
        )
        rows += [
            (run.fingerprint, epoch.epoch, metric, epoch.metrics()[metric])
            for epoch in epochs_of(reached)
            for metric in CURVES
        ]
    curves = pd.DataFrame(rows, columns=["run_id", "epoch", "metric", "value"])
    missing = tuple(run.name for run in runs if not keep(run))
    return SweepFrames(
        sweep, tuple(finished), lambda asked: curves[curves["metric"].isin(asked)], missing
    )


def write_study(
    sweeps: Sequence[Sweep],
    uri: str,
    accuracy: Accuracy = plausible,
    *,
    keep: Callable[[PlannedRun], bool] = lambda _: True,
    name: str = DEFAULT_STUDY,
) -> None:
    """The same into a real store, through the program's own door."""
    from fmnist_tuning.store.study import Study
    from fmnist_tuning.store.tracker import Tracker

    study = Study.open(name, uri)
    tracker, written = Tracker(study), set(study.finished_runs())
    for sweep in sweeps:
        sweep_run = tracker.begin_sweep(sweep, DIGEST)
        for run in filter(keep, runs_of(sweep, DIGEST)):
            if run.fingerprint in written:
                continue
            written.add(run.fingerprint)
            run_id = tracker.start_run(
                run.short_name,
                sweeps={sweep.id: run.arm.label},
                fingerprint=run.fingerprint,
                params=run.config.params(),
                tags={
                    "fmnist.data": DIGEST,
                    "fmnist.device": "cpu",
                    "fmnist.processor": "Z80 <b>|",
                    "fmnist.python": "3.11.7",
                    "fmnist.torch": "2.9.1",
                    "fmnist.mlflow": "3.8.1",
                },
            )
            reached = accuracy(run.config)
            for epoch in epochs_of(reached):
                tracker.log_epoch(run_id, epoch)
            tracker.finish_run(run_id, outcome_of(run.config, reached).metrics())
        tracker.end_run(sweep_run, "FINISHED")
