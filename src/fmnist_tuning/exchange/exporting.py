"""From a store to the entries of a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from pydantic import ValidationError

from fmnist_tuning.config import RunConfig, SweepConfig
from fmnist_tuning.config.problems import dotted, problems_of, shown
from fmnist_tuning.errors import ExchangeError
from fmnist_tuning.exchange.entries import (
    Entry,
    Logged,
    RunEntry,
    SweepEntry,
    is_metric_name,
    portable_tags,
)
from fmnist_tuning.tracking import Study, TrackedRun, TrackedSweep


@dataclass(frozen=True, slots=True)
class Exported:
    """A study as entries.

    Attributes:
        entries: Every sweep, and the finished run of every fingerprint that ended last.
        left_out: Lines for a person on what the entries do not hold.
    """

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        runs = sum(isinstance(entry, RunEntry) for entry in self.entries)
        return f"{runs} runs and {len(self.entries) - runs} sweeps"


def export_study(study: Study) -> Exported:
    """Read everything that `results`, `plot` and `journal` read, in bulk.

    Finished runs that this version of fmnist would not reuse, because their settings or their
    fingerprint are not of its making, are no part of any result and are left out.

    Raises:
        ExchangeError: When there is no finished run, or a sweep's definition cannot be read.
        TrackingError: When the store fails.
    """
    sweeps = {sweep.sweep: sweep for sweep in study.sweeps()}
    finished = study.finished_runs()
    histories = _histories(study, [*finished.values()])
    runs: list[RunEntry] = []
    foreign: list[str] = []
    for run in finished.values():
        found = _run_entry(run, histories.get(run.run_id, ()))
        if isinstance(found, RunEntry):
            runs.append(found)
        else:
            foreign.append(f"{shown(run.name)}: {found}")
    if not runs:
        raise ExchangeError(
            f"there is no finished run in the study {study.name}; `fmnist run` trains some"
        )
    left_out = []
    if unfinished := study.unfinished():
        left_out.append(f"{unfinished} runs that are not finished")
    if foreign:
        left_out.append(
            f"{len(foreign)} finished runs that this fmnist would not reuse ({foreign[0]})"
        )
    return Exported((*map(_sweep_entry, sweeps.values()), *runs), tuple(left_out))


def _histories(study: Study, runs: Sequence[TrackedRun]) -> Mapping[str, tuple[Logged, ...]]:
    having: dict[str, list[str]] = {}
    for run in runs:
        for metric in filter(is_metric_name, run.metrics):
            having.setdefault(metric, []).append(run.run_id)
    rows = study.history(having)
    return {str(run_id): _logged(own) for run_id, own in rows.groupby("run_id")}


def _logged(rows: pd.DataFrame) -> tuple[Logged, ...]:
    at_once: dict[tuple[int, int], dict[str, float]] = {}
    columns = ("epoch", "logged", "metric", "value")
    for step, at, metric, value in zip(*(rows[column].tolist() for column in columns), strict=True):
        at_once.setdefault((step, at), {})[metric] = value
    return tuple(
        Logged.model_construct(step=step, at=at, values=values)
        for (step, at), values in sorted(at_once.items())
    )


def _run_entry(run: TrackedRun, history: Sequence[Logged]) -> RunEntry | str:
    config = RunConfig.from_params(run.params)
    if config is None or config.params() != dict(run.params):
        return "its settings are not this version's"
    try:
        return RunEntry.model_validate(
            {
                "name": run.name,
                "fingerprint": run.fingerprint,
                "sweeps": run.sweeps,
                "config": config,
                "data": run.tags.get("fmnist.data", ""),
                "tags": portable_tags(run.tags),
                "started": round(run.started * 1000),
                "ended": round(run.ended * 1000),
                "history": tuple(logged.model_dump() for logged in history),
            }
        )
    except ValidationError as error:
        return _first_problem(error, RunEntry)


def _sweep_entry(sweep: TrackedSweep) -> SweepEntry:
    try:
        return SweepEntry.model_validate(
            {
                "definition": SweepConfig.model_validate_json(sweep.definition),
                "data": sweep.data_digest,
                "tags": portable_tags(sweep.tags),
                # Nobody who reads the file can know of a sweep under way how it will end.
                "status": "KILLED" if sweep.status == "RUNNING" else sweep.status,
                "started": round(sweep.started * 1000),
                "ended": round(sweep.ended * 1000),
            }
        )
    except ValidationError as error:
        raise ExchangeError(
            f"the study's definition of {shown(sweep.sweep)} cannot be exported "
            f"({_first_problem(error, SweepEntry)}); `fmnist run` on its file mends it"
        ) from None


def _first_problem(error: ValidationError, model: type[RunEntry | SweepEntry]) -> str:
    problem = problems_of(error, model)[0]
    return f"{dotted(problem.path)}: {problem.text}" if problem.path else problem.text
