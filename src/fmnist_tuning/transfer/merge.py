"""From a store to the entries of a file, and from a file into a store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from pydantic import ValidationError

from fmnist_tuning.errors import ExchangeError
from fmnist_tuning.store import records
from fmnist_tuning.store.records import TrackedRun, TrackedSweep
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.problems import problems_of
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.text import shown
from fmnist_tuning.transfer import entries as file_entries
from fmnist_tuning.transfer.entries import Entry, Logged, RunEntry, SweepEntry


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
        ExchangeError: When there is no finished run, or a sweep's definition cannot be exported.
        TrackingError: When the store fails, or a sweep's definition cannot be read.
    """
    sweeps = study.sweeps()
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
    if unfinished := len(study.unfinished_runs()):
        left_out.append(f"{unfinished} runs that are not finished")
    if foreign:
        left_out.append(
            f"{len(foreign)} finished runs that this fmnist would not reuse ({foreign[0]})"
        )
    return Exported((*map(_sweep_entry, sweeps), *runs), tuple(left_out))


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes:
        study: Where it went.
        runs: How many runs the study did not have.
        runs_there: How many it had.
        sweeps: How many sweeps it did not have.
        sweeps_extended: How many got more seeds.
        sweeps_there: How many it had just so.
    """

    study: Study
    runs: int
    runs_there: int
    sweeps: int
    sweeps_extended: int
    sweeps_there: int

    def __str__(self) -> str:
        return (
            f"{self.study.name} in {self.study.place}: {self.runs} runs added, {self.runs_there} "
            f"were there; {self.sweeps} sweeps added, {self.sweeps_extended} got more seeds, "
            f"{self.sweeps_there} were there"
        )


def import_study(entries: Sequence[Entry], name: str, tracking_uri: str | None = None) -> Imported:
    """Add to a study what it lacks; the study and its store are made where they are missing.

    A run that the study has finished stays as it is. A sweep that both have must be the same but
    for its seeds, of which the union is taken: each of two machines may have trained some of them.

    Every contradiction is found before anything is written. Killed half-way and run again, it
    goes on with what is left: a run counts only once all of it is there.

    Raises:
        ExchangeError: Naming every sweep of the file that contradicts one of the study.
        TrackingError: When the store fails.
    """
    study = Study.find(name, tracking_uri)
    finished = study.finished_runs() if study else {}
    present = {sweep.sweep: sweep for sweep in study.sweeps()} if study else {}
    theirs = [entry for entry in entries if isinstance(entry, SweepEntry)]
    redefined = _redefined(theirs, present)
    study = study or Study.open(name, tracking_uri)
    tracker = Tracker(study)
    tracker.clear_imports()
    # Runs first: a sweep whose runs are still to come would read as one that lacks them.
    runs = [entry for entry in entries if isinstance(entry, RunEntry)]
    for run in runs:
        if there := finished.get(run.fingerprint):
            tracker.add_sweeps(there, run.sweeps)
        else:
            _write_run(tracker, run)
    added = [entry for entry in theirs if entry.definition.id not in present]
    for sweep in added:
        tags = {**sweep.tags, records.DATA: sweep.data}
        times = {"started": sweep.started, "ended": sweep.ended}
        tracker.import_sweep(sweep.definition, tags=tags, status=sweep.status, **times)
    for tracked, definition in redefined:
        tracker.redefine(tracked.run_id, definition)
    runs_there = sum(run.fingerprint in finished for run in runs)
    return Imported(
        study=study,
        runs=len(runs) - runs_there,
        runs_there=runs_there,
        sweeps=len(added),
        sweeps_extended=len(redefined),
        sweeps_there=len(theirs) - len(added) - len(redefined),
    )


def _histories(study: Study, runs: Sequence[TrackedRun]) -> Mapping[str, tuple[Logged, ...]]:
    having: dict[str, list[str]] = {}
    for run in runs:
        for metric in filter(file_entries.is_metric_name, run.metrics):
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
        for (step, at), values in at_once.items()
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
                "data": run.tags.get(records.DATA, ""),
                "tags": _portable(run.tags),
                "started": round(run.started * 1000),
                "ended": round(run.ended * 1000),
                "history": tuple(logged.model_dump() for logged in history),
            }
        )
    except ValidationError as error:
        return str(problems_of(error, RunEntry)[0])


def _sweep_entry(sweep: TrackedSweep) -> SweepEntry:
    try:
        return SweepEntry.model_validate(
            {
                "definition": sweep.definition.get(),
                "data": sweep.data_digest,
                "tags": _portable(sweep.tags),
                "started": round(sweep.started * 1000),
                "ended": round(sweep.ended * 1000),
                # Nobody who reads the file can know of a sweep under way how it will end.
                "status": "KILLED" if sweep.status == "RUNNING" else sweep.status,
            }
        )
    except ValidationError as error:
        raise ExchangeError(
            f"the study's definition of {shown(sweep.sweep)} cannot be exported "
            f"({problems_of(error, SweepEntry)[0]}); `fmnist run` on its file mends it"
        ) from None


def _portable(tags: Mapping[str, str]) -> dict[str, str]:
    return {tag: value for tag, value in tags.items() if file_entries.is_portable(tag)}


def _write_run(tracker: Tracker, run: RunEntry) -> None:
    own = {
        records.FINGERPRINT: run.fingerprint,
        records.SWEEPS: ", ".join(run.sweeps),
        records.DATA: run.data,
    }
    tracker.import_run(
        run.name,
        tags={**run.tags, **own},
        params=run.config.params(),
        history=(
            (metric, value, logged.at, logged.step)
            for logged in run.history
            for metric, value in logged.values.items()  # noqa: PD011  no frame
        ),
        started=run.started,
        ended=run.ended,
    )


def _redefined(
    entries: Sequence[SweepEntry], present: Mapping[str, TrackedSweep]
) -> list[tuple[TrackedSweep, Sweep]]:
    """The sweeps of the study that get more seeds, with their new definitions."""
    redefined, problems = [], []
    for entry in entries:
        tracked = present.get(entry.definition.id)
        if tracked is None:
            continue
        try:
            merged = _merged(tracked, entry)
        except _Contradiction as contradiction:
            problems.append(f"{tracked.sweep}: {contradiction}")
            continue
        if merged is not None:
            redefined.append((tracked, merged))
    if problems:
        raise ExchangeError(
            "the file contradicts the study, nothing was imported; --experiment names another "
            "study for it:\n" + "\n".join(problems)
        )
    return redefined


class _Contradiction(Exception):  # noqa: N818  two definitions, neither of them an error
    pass


def _merged(tracked: TrackedSweep, entry: SweepEntry) -> Sweep | None:
    """The sweep with the seeds of both, or None where the study has all of them."""
    mine, theirs = tracked.definition.parsed, entry.definition
    if mine is None:
        raise _Contradiction(
            "the study's definition cannot be read; `fmnist run` on its file mends it"
        )
    if tracked.data_digest != entry.data:
        raise _Contradiction(
            f"run on data {tracked.data_digest} in the study, on {entry.data} in the file"
        )
    differing = [
        field.alias or key
        for key, field in Sweep.model_fields.items()
        if key != "seeds" and _text(mine, key) != _text(theirs, key)
    ]
    if differing:
        raise _Contradiction(f"another {', '.join(differing)} in the study than in the file")
    if set(theirs.seeds) <= set(mine.seeds):
        return None
    if set(mine.seeds) <= set(theirs.seeds):
        return theirs
    seeds = tuple(sorted({*mine.seeds, *theirs.seeds}))
    try:
        return mine.changed(seeds=seeds)
    except ValidationError:
        raise _Contradiction(f"{len(seeds)} seeds together, more than a sweep may have") from None


def _text(sweep: Sweep, key: str) -> str:
    # As text, for the order of a grid's axes and values is the order of its arms, and 1 is not 1.0.
    return json.dumps(sweep.model_dump(mode="json", include={key}))
