"""A study read back from MLflow alone: each sweep's finished runs as frames."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from pydantic import ValidationError

from fmnist_tuning.analysis import (
    CURVES,
    Contrast,
    Standing,
    Summary,
    SweepFrames,
    build_frames,
    judge_claims,
    no_curves,
    standings,
    summary,
)
from fmnist_tuning.config import Arm, SweepConfig
from fmnist_tuning.config.problems import first_problem, shorten
from fmnist_tuning.config.reading import MAX_BYTES
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.planning import PlannedRun, runs_of
from fmnist_tuning.tracking import Study, TrackedRun


@dataclass(frozen=True, slots=True)
class StudyResults:
    """What a study holds.

    Attributes:
        study: Open, for figures to be logged to.
        sweeps: Those asked for by id, in the order of the ids.
        every: All of the study's, for claims that compare with another sweep.
        sweep_run_ids: The MLflow run of each sweep, which its figures are logged to.
        runs: The finished trainings that the sweeps use.
    """

    study: Study
    sweeps: dict[str, SweepFrames]
    every: dict[str, SweepFrames]
    sweep_run_ids: dict[str, str]
    runs: tuple[TrackedRun, ...]


def read_study(
    name: str,
    tracking_uri: str | None = None,
    *,
    only: Sequence[str] = (),
) -> StudyResults:
    """Read a study's sweeps, each as it was last run.

    A run belongs to a sweep when its fingerprint is that of one of the sweep's arms and seeds on
    the sweep's data, whichever sweep trained it.

    Args:
        name: The study.
        tracking_uri: Its store, resolved as `Study.open` does.
        only: Ids of the sweeps asked for; none means all.

    Raises:
        TrackingError: When there is no such study, sweep or finished run, or the store fails.
    """
    study = Study.existing(name, tracking_uri)
    tracked = {sweep.sweep: sweep for sweep in study.sweeps()}
    unknown = [sweep for sweep in only if sweep not in tracked]
    if unknown:
        raise TrackingError(
            f"the study {name} has no sweep {', '.join(unknown)}; it has "
            f"{', '.join(tracked) or 'none'}"
        )
    configs = {sweep: stored_sweep(sweep, found.definition) for sweep, found in tracked.items()}
    planned = {
        sweep: runs_of(config, tracked[sweep].data_digest) for sweep, config in configs.items()
    }
    finished = study.finished_runs()
    chosen = [sweep for sweep in tracked if not only or sweep in only]
    used = {
        run.fingerprint: finished[run.fingerprint]
        for sweep in chosen
        for run in planned[sweep]
        if run.fingerprint in finished
    }
    if not used:
        of = f" of {', '.join(only)}" if only else ""
        raise TrackingError(
            f"there is no finished run{of} in the study {name}; `fmnist run` trains some"
        )
    history = study.curves([run.run_id for run in used.values()], CURVES)
    every = {
        sweep: build_frames(
            config,
            [_row(run, finished[run.fingerprint]) for run in runs if run.fingerprint in finished],
            history if sweep in chosen else no_curves(),
            [run.name for run in runs if run.fingerprint not in finished],
        )
        for (sweep, config), runs in zip(configs.items(), planned.values(), strict=True)
    }
    return StudyResults(
        study=study,
        sweeps={sweep: every[sweep] for sweep in chosen},
        every=every,
        sweep_run_ids={sweep: tracked[sweep].run_id for sweep in chosen},
        runs=tuple(used.values()),
    )


def _row(run: PlannedRun, tracked: TrackedRun) -> tuple[Arm, int, str, Mapping[str, float]]:
    return run.arm, run.config.seed, tracked.run_id, tracked.metrics


def stored_sweep(sweep: str, definition: str) -> SweepConfig:
    """A sweep as its study keeps it.

    Whoever may write to the store may have forged it: it is held to the same rules as a file.

    Args:
        sweep: The sweep's id, the name of its MLflow run.
        definition: As JSON.

    Raises:
        TrackingError: For anything that could not be trained under that id.
    """
    try:
        if len(definition) > MAX_BYTES:
            raise _ForgedError(f"longer than {MAX_BYTES:,} characters")
        config = SweepConfig.model_validate_json(definition)
        if config.sweep != sweep:
            raise _ForgedError(f"it is that of {config.sweep}")
        if config.undecided:
            raise _ForgedError("it has no arms")
    except (ValidationError, _ForgedError) as error:
        reason = error if isinstance(error, _ForgedError) else first_problem(error, SweepConfig)
        raise TrackingError(
            f"the study's definition of {shorten(sweep)} cannot be read: {reason}; `fmnist run` on "
            "its file mends it, or delete its run in MLflow"
        ) from None
    return config


class _ForgedError(Exception):
    """A definition that `fmnist` did not write; the message says why."""


def as_records(results: StudyResults) -> list[dict[str, Any]]:
    """Every sweep for programs: fractions in full precision; None where something is unknown."""
    return [_sweep_record(frames, results.every) for frames in results.sweeps.values()]


def as_table(results: StudyResults) -> pd.DataFrame:
    """A row a run of a sweep: `sweep`, `arm`, `seed`, `run_id`, settings, metrics."""
    return pd.concat(
        [
            frames.runs.assign(sweep=sweep)[["sweep", *frames.runs.columns]]
            for sweep, frames in results.sweeps.items()
            if len(frames.runs)
        ],
        ignore_index=True,
    )


def _sweep_record(frames: SweepFrames, every: Mapping[str, SweepFrames]) -> dict[str, Any]:
    places = standings(frames, "final_val_accuracy", every)
    return {
        "sweep": frames.config.sweep,
        "title": frames.config.title,
        "arms": [_arm_record(frames, arm, places[arm.label]) for arm in frames.arms],
        "claims": [
            {
                **claim.model_dump(mode="json"),
                "verdict": None if verdict is None else verdict.word,
                "p_adjusted": None if verdict is None else _known(verdict.p_adjusted),
                "seeds_needed": None if verdict is None else verdict.seeds_needed,
                "contrast": None if verdict is None else _fields(verdict.contrast),
            }
            for claim, verdict in judge_claims(frames, every)
        ],
        "missing": list(frames.missing),
    }


def _arm_record(frames: SweepFrames, arm: Arm, place: Standing) -> dict[str, Any]:
    found = {name: summary(frames, arm, name) for name in METRICS}
    return {
        "arm": arm.label,
        "config": arm.config.model_dump(mode="json", exclude={"seed"}),
        "best": place.best,
        "tied": place.tied,
        "seeds": [int(seed) for seed in frames.arm(arm.label)["seed"]],
        "metrics": {name: _fields(summed) for name, summed in found.items() if summed.seeds},
    }


def _fields(record: Summary | Contrast) -> dict[str, Any]:
    return {key: _known(value) for key, value in asdict(record).items()}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
