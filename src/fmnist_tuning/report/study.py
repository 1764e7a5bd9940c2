"""A study as MLflow has it: each sweep's finished runs as frames."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import pandas as pd

from fmnist_tuning.analysis.best import Standing, standings
from fmnist_tuning.analysis.contrasts import Contrast
from fmnist_tuning.analysis.frames import Summary, SweepFrames, summary
from fmnist_tuning.analysis.rows import FinishedRow, PrunedRow
from fmnist_tuning.analysis.searching import finalists_of, trials_of
from fmnist_tuning.analysis.verdicts import Verdict, judge_claims
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import ACCURACY, CONVERGED, METRICS
from fmnist_tuning.store.bulk import Watch, unwatched
from fmnist_tuning.store.records import DATA, PRUNED, TrackedRun, TrackedSweep
from fmnist_tuning.store.study import PrunedKey, Study
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.runs import PlannedRun, runs_of
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.text import printable


@dataclass(frozen=True, slots=True)
class StudyResults:
    """What a study holds."""

    study: Study
    sweeps: dict[str, SweepFrames]  # those asked for, in the order of their ids
    every: dict[str, SweepFrames]  # all of the study, for claims that compare with another sweep
    sweep_run_ids: dict[str, str]  # the MLflow run of each sweep, to which its figures are logged
    runs: tuple[TrackedRun, ...]  # the finished trainings that the sweeps use
    unreadable: tuple[str, ...] = ()  # what is wrong with the sweeps that were left out

    @property
    def digests(self) -> dict[str, str]:
        """Those of the images of each run, by its id."""
        return {run.run_id: run.tags.get(DATA, "") for run in self.runs}


def open_study(
    name: str,
    tracking_uri: str | None,
    only: Sequence[str] = (),
    *,
    partly: bool = False,
    writing: bool = False,
    watch: Watch = unwatched,
) -> StudyResults:
    """Open a study that must exist, and read it; `writing` says that figures will be added."""
    study = replace(Study.existing(name, tracking_uri, writing=writing), watch=watch)
    return read_study(study, only=only, partly=partly)


def read_study(study: Study, *, only: Sequence[str] = (), partly: bool = False) -> StudyResults:
    """Read some of a study's sweeps (default: all), each with the arms and seeds of its last run.

    A run belongs to a sweep if it has the fingerprint of one of the sweep's arms and seeds on the
    sweep's data, even if another sweep trained it. With `partly`, sweeps that are not in `only` and
    whose definition cannot be read are left out. The curves of a sweep are read when they are
    asked for, which raises `TrackingError` too.

    Raises:
        TrackingError: When there is no such sweep or finished run, or the store fails.
    """
    tracked = {sweep.sweep: sweep for sweep in study.sweeps()}
    if unknown := [sweep for sweep in only if sweep not in tracked]:
        raise TrackingError(
            f"the study {study.name} has no sweep {', '.join(unknown)}; it has "
            f"{', '.join(tracked) or 'none'}"
        )
    left_out = _unreadable(tracked) if partly and not only else {}
    chosen = [id_ for id_ in tracked if id_ in only or not (only or id_ in left_out)]
    own = [tracked[sweep].definition.get() for sweep in chosen]
    needed = {*chosen, *(claim.versus_sweep for sweep in own for claim in sweep.claims)}
    sweeps = {
        id_: found.definition.get()
        for id_, found in tracked.items()
        if id_ in needed or found.definition.parsed  # others are left out if they are unreadable
    }
    planned = {id_: runs_of(sweep, tracked[id_].data_digest) for id_, sweep in sweeps.items()}
    finished = study.with_late_means(study.finished_runs())
    pruned = study.pruned_runs() if any(sweep.search for sweep in sweeps.values()) else {}
    own_runs = [run.fingerprint for sweep in chosen for run in planned[sweep]]
    used = {mark: finished[mark] for mark in own_runs if mark in finished}
    if not used:
        of = f" of {', '.join(only)}" if only else ""
        why = "all trials so far were pruned" if pruned else "`fmnist run` trains some"
        raise TrackingError(f"there is no finished run{of} in the study {study.name}; {why}")
    every = {
        id_: _frames(study, sweep, planned[id_], finished, pruned) for id_, sweep in sweeps.items()
    }
    return StudyResults(
        study=study,
        sweeps={sweep: every[sweep] for sweep in chosen},
        every=every,
        sweep_run_ids={sweep: tracked[sweep].run_id for sweep in chosen},
        runs=tuple(used.values()),
        unreadable=tuple(left_out.values()),
    )


def _unreadable(tracked: Mapping[str, TrackedSweep]) -> dict[str, str]:
    """What is wrong with unreadable definitions; empty if all are, as then one is the error."""
    found = {i: str(s.definition) for i, s in tracked.items() if s.definition.parsed is None}
    return found if len(found) < len(tracked) else {}


def _frames(
    study: Study,
    sweep: Sweep,
    runs: Sequence[PlannedRun],
    finished: Mapping[str, TrackedRun],
    pruned: Mapping[PrunedKey, TrackedRun],
) -> SweepFrames:
    there = [(run, finished[run.fingerprint]) for run in runs if run.fingerprint in finished]
    rows = tuple(
        FinishedRow(run.arm, run.config.seed, found.run_id, printable(found.device), found.metrics)
        for run, found in there
    )
    lacking = [run for run in runs if run.fingerprint not in finished]
    ended = [run for run in lacking if (sweep.id, run.fingerprint) in pruned]
    missing = tuple(run.name for run in lacking if run not in ended)
    read_curves = partial(study.curves, [row.run_id for row in rows])
    return SweepFrames(
        sweep,
        rows,
        read_curves,
        missing,
        tuple(_pruned_row(run, pruned[sweep.id, run.fingerprint]) for run in ended),
    )


def _pruned_row(run: PlannedRun, found: TrackedRun) -> PrunedRow:
    epochs = found.tags.get(PRUNED, "")
    return PrunedRow(
        run.arm, int(epochs) if re.fullmatch("[0-9]{1,6}", epochs) else 0, found.metrics
    )


def as_records(results: StudyResults) -> list[dict[str, Any]]:
    """Every sweep for programs: fractions in full precision; None where a value is unknown."""
    return [_sweep_record(frames, results.every) for frames in results.sweeps.values()]


def as_table(results: StudyResults) -> pd.DataFrame:
    """A row for each run of a sweep: `sweep`, `arm`, `seed`, `run_id`, settings, metrics.

    The last column, `val_epochs_to_80`, is the first epoch that ended with a validation accuracy of
    80 %.
    """
    tables = [
        frames.runs.assign(sweep=sweep)[["sweep", *frames.runs.columns]]
        for sweep, frames in results.sweeps.items()
        if frames.rows
    ]
    table = pd.concat(tables, ignore_index=True)
    # Read at once: sweep by sweep takes longer.
    curves = results.study.curves([run.run_id for run in results.runs], ["val_accuracy"])
    first = curves[curves["value"] >= CONVERGED].groupby("run_id")["epoch"].min()
    return table.assign(val_epochs_to_80=table["run_id"].map(first))


def _sweep_record(frames: SweepFrames, every: Mapping[str, SweepFrames]) -> dict[str, Any]:
    places = standings(frames, ACCURACY, every)
    return {
        "sweep": frames.sweep.id,
        "title": frames.sweep.title,
        "arms": [_arm_record(frames, arm, places[arm.label]) for arm in frames.arms],
        "claims": [
            claim.model_dump(mode="json") | _verdict_record(verdict)
            for claim, verdict in judge_claims(frames, every)
        ],
        "missing": list(frames.missing),
        **({"search": _search_record(frames, every)} if frames.sweep.search else {}),
    }


def _search_record(frames: SweepFrames, every: Mapping[str, SweepFrames]) -> dict[str, Any]:
    """Every trial, and every finalist beside what it was promised to be."""
    trials = [
        {
            "trial": trial.number,
            "arm": trial.arm.label,
            "state": trial.state,
            "value": _known(trial.value),
            "epochs": trial.epochs,
        }
        for trial in trials_of(frames)
    ]
    judged = [
        {
            "arm": one.arm.label,
            "found": one.found,
            **{
                name: _known(getattr(one, name))
                for name in ("score", "promised", "shown", "flattery", "chance")
            },
            "fresh": _fields(one.fresh),
            "test_accuracy": _fields(one.test) if one.test.seeds else None,
        }
        for one in finalists_of(frames, every)
    ]
    return {"trials": trials, "finalists": judged}


def _verdict_record(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        names = ("verdict", "look", "p_adjusted", "low", "high", "seeds_needed", "contrast")
        return dict.fromkeys(names)
    return {
        "verdict": verdict.word,
        "look": verdict.look,
        "p_adjusted": _known(verdict.p_adjusted),
        "low": _known(verdict.low),
        "high": _known(verdict.high),
        "seeds_needed": verdict.seeds_needed,
        "contrast": _fields(verdict.contrast),
    }


def _arm_record(frames: SweepFrames, arm: Arm, place: Standing) -> dict[str, Any]:
    found = {name: summary(frames, arm, name) for name in METRICS}
    return {
        "arm": arm.label,
        "config": arm.config.model_dump(mode="json", exclude={"seed"}),
        "best": place.best,
        "tied": place.tied,
        "seeds": frames.seeds_of(arm),
        "metrics": {name: _fields(summed) for name, summed in found.items() if summed.seeds},
    }


def _fields(record: Summary | Contrast) -> dict[str, Any]:
    return {
        field.name: _known(getattr(record, field.name))
        for field in fields(record)
        if field.name != "question"
    }


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
