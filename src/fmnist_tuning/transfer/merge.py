"""Export: from a store to the entries of a file. Import: from such entries into a store."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from pydantic import ValidationError

from fmnist_tuning.errors import ExchangeError
from fmnist_tuning.store import records
from fmnist_tuning.store.importer import Importer
from fmnist_tuning.store.records import EndStatus, TrackedRun, TrackedSweep
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.problems import problems_of
from fmnist_tuning.sweeps.runs import PlannedRun, runs_of
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.text import counted, shown
from fmnist_tuning.transfer import entries as file_entries
from fmnist_tuning.transfer.definitions import redefined_by
from fmnist_tuning.transfer.entries import Entry, Logged, RunEntry, SweepEntry


@dataclass(frozen=True, slots=True)
class Exported:
    """A study as entries, and lines that tell a person what is left out.

    If several finished runs have the same fingerprint, the one that ended last is exported.
    """

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        runs = sum(isinstance(entry, RunEntry) for entry in self.entries)
        return f"{counted(runs, 'run')} and {counted(len(self.entries) - runs, 'sweep')}"


def export_study(study: Study) -> Exported:
    """Read everything that `results`, `plot` and `journal` need.

    This version of fmnist does not reuse finished runs whose settings or fingerprint differ from
    those that it would write. No result uses such runs, so they are left out.

    Raises:
        ExchangeError: If there is no finished run, or a sweep's definition cannot be exported.
        TrackingError: If the store fails, or a sweep's definition cannot be read.
    """
    sweeps = study.sweeps()
    finished, pruned = study.finished_runs(), _pruned(study)
    ended = [*finished.values(), *(run for key, run in pruned.items() if key not in finished)]
    histories = _histories(study, ended)
    found = [(run.name, _run_entry(run, histories.get(run.run_id, ()))) for run in ended]
    runs = [entry for _, entry in found if isinstance(entry, RunEntry)]
    foreign = [f"{shown(name)}: {reason}" for name, reason in found if isinstance(reason, str)]
    if all(run.pruned for run in runs):
        raise ExchangeError(
            f"there is no finished run in the study {study.name}; `fmnist run` trains some"
        )
    left_out = []
    if unfinished := len(study.unfinished_runs()) - len(pruned):
        left_out.append(f"{counted(unfinished, 'run')} not finished")
    if foreign:
        left_out.append(
            f"{counted(len(foreign), 'finished run')} that this fmnist would not reuse "
            f"({foreign[0]})"
        )
    return Exported((*map(_sweep_entry, sweeps), *runs), tuple(left_out))


def import_study(entries: Sequence[Entry], name: str, tracking_uri: str | None = None) -> str:
    """Add the missing runs and sweeps to a study; create the study and its store if needed.

    If both have a run, the study keeps its own. A sweep that both have may differ only in its
    seeds, and gets the seeds of both: two machines may have trained some of them each.

    Nothing is written if there is a contradiction. If an import is killed, it can be run again:
    incomplete runs do not count. Returns a line that tells people what was added.

    Raises:
        ExchangeError: If sweeps of the file contradict those of the study; names all of them.
        TrackingError: If the store fails.
    """
    study = Study.find(name, tracking_uri, writing=True)
    finished = study.finished_runs() if study else {}
    ended = _pruned(study) | finished if study else {}
    present = {sweep.sweep: sweep for sweep in study.sweeps()} if study else {}
    theirs = [entry for entry in entries if isinstance(entry, SweepEntry)]
    redefined = redefined_by(theirs, present)
    study = study or Study.open(name, tracking_uri)
    tracker = Importer(study)
    tracker.clear_imports()
    # Runs come first: a sweep without its runs would look unfinished.
    runs = [entry for entry in entries if isinstance(entry, RunEntry)]
    planned = _planned(theirs)
    for run in runs:
        if own := (ended if run.pruned else finished).get(run.fingerprint):
            tracker.add_sweeps(own, _arms(run, planned))
        else:
            _write_run(tracker, run, planned)
    added = [entry for entry in theirs if entry.definition.id not in present]
    for sweep in added:
        tags = {**sweep.tags, records.DATA: sweep.data}
        times = {"started": sweep.started, "ended": sweep.ended}
        tracker.import_sweep(sweep.definition, tags=tags, status=sweep.status, **times)
    for tracked, definition in redefined:
        tracker.redefine(tracked.run_id, definition)
    there = sum(run.fingerprint in (ended if run.pruned else finished) for run in runs)
    return (
        f"{study.name} in {study.place}: {counted(len(runs) - there, 'run')} added, {there} were "
        f"there; {counted(len(added), 'sweep')} added, {len(redefined)} got more seeds, "
        f"{len(theirs) - len(added) - len(redefined)} were there"
    )


def _pruned(study: Study) -> dict[str, TrackedRun]:
    """The pruned trials by fingerprint: a file has one of each, which all its searches share."""
    found: dict[str, TrackedRun] = {}
    for (_, mark), run in study.pruned_runs().items():
        before = found.get(mark, run)
        longest = max(before, run, key=lambda one: len(one.tags.get(records.PRUNED, "")))
        shared = tuple(dict.fromkeys([*before.sweeps, *run.sweeps]))
        found[mark] = replace(longest, sweeps=shared)
    return found


def _histories(study: Study, runs: Iterable[TrackedRun]) -> Mapping[str, tuple[Logged, ...]]:
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
    # An older run lacks the settings added later; its fingerprint tells what it was trained with.
    if config is None or not run.params.items() <= config.params().items():
        return "its settings are not this version's"
    try:
        return RunEntry.model_validate(
            {
                **_common(run),
                "name": run.name,
                "fingerprint": run.fingerprint,
                "sweeps": run.sweeps,
                "config": config,
                "data": run.tags.get(records.DATA, ""),
                "history": tuple(logged.model_dump() for logged in history),
            }
        )
    except ValidationError as error:
        return str(problems_of(error, RunEntry)[0])


def _sweep_entry(sweep: TrackedSweep) -> SweepEntry:
    try:
        return SweepEntry.model_validate(
            {
                **_common(sweep),
                "definition": sweep.definition.get(),
                "data": sweep.data_digest,
                # A reader of the file cannot know how a running sweep will end.
                "status": "KILLED" if sweep.status == "RUNNING" else sweep.status,
            }
        )
    except ValidationError as error:
        raise ExchangeError(
            f"the study's definition of {shown(sweep.sweep)} cannot be exported "
            f"({problems_of(error, SweepEntry)[0]}); `fmnist run` on its file repairs it"
        ) from None


def _common(tracked: TrackedRun | TrackedSweep) -> dict[str, Any]:
    return {
        "tags": {tag: text for tag, text in tracked.tags.items() if file_entries.is_portable(tag)},
        "started": round(tracked.started * 1000),
        "ended": round(tracked.ended * 1000),
    }


def _planned(sweeps: Sequence[SweepEntry]) -> dict[tuple[str, str], PlannedRun]:
    """The runs of the file's sweeps, by the sweep's id and the fingerprint."""
    runs = (run for entry in sweeps for run in runs_of(entry.definition, entry.data))
    return {(run.sweep, run.fingerprint): run for run in runs}


def _arms(run: RunEntry, planned: Mapping[tuple[str, str], PlannedRun]) -> dict[str, str]:
    """The run's arm in each of its sweeps; empty where the sweep no longer has it."""
    found = {sweep: planned.get((sweep, run.fingerprint)) for sweep in run.sweeps}
    return {sweep: own.arm.label if own else "" for sweep, own in found.items()}


def _write_run(
    tracker: Importer, run: RunEntry, planned: Mapping[tuple[str, str], PlannedRun]
) -> None:
    own = {records.FINGERPRINT: run.fingerprint, records.SWEEPS: ", ".join(run.sweeps)}
    tags = {**run.tags, **own, **records.sweep_tags(_arms(run, planned)), records.DATA: run.data}
    params = run.config.params()
    history = (
        (metric, value, logged.at, logged.step)
        for logged in run.history
        for metric, value in logged.values.items()  # noqa: PD011  no frame
    )
    times = {"started": run.started, "ended": run.ended}
    first = planned.get((run.sweeps[0], run.fingerprint)) if run.sweeps else None
    # The first edition named runs by their whole labels.
    name = first.short_name if first and first.name == run.name else run.name
    status: EndStatus = "KILLED" if run.pruned else "FINISHED"
    tracker.import_run(name, tags=tags, params=params, history=history, status=status, **times)
