"""Planning sweeps with the study's word on what is there."""

from collections.abc import Mapping, Sequence

from fmnist_tuning.errors import ConfigError
from fmnist_tuning.store.records import TrackedRun, TrackedSweep
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.looks import continued
from fmnist_tuning.sweeps.plan import Plan, make_plan
from fmnist_tuning.sweeps.replacing import replaced
from fmnist_tuning.sweeps.runs import data_of_sweep
from fmnist_tuning.sweeps.sweep import Sweep


def plan_study(
    sweeps: Sequence[Sweep],
    study: Study | None,
    data_digest: str,
    *,
    force: bool = False,
    replace: bool = False,
) -> Plan:
    """Plan sweeps in the order given, with what the study (None if it is new) has already.

    Raises:
        ConfigError: When a combination asks for sweeps neither finished nor planned here, or the
            study has a sweep of the same id with other settings and `replace` is not given.
        TrackingError: When the store fails, or its definition of a combined sweep is unreadable.
    """
    searches = [sweep.id for sweep in sweeps if sweep.search]
    if force and searches:
        problem = (
            f"--force: found with the search {', '.join(searches)}, whose trials follow from the "
            "results that are there; another `seed` in its section, or another study, searches anew"
        )
        raise ConfigError([problem])
    if study is None:
        return make_plan(sweeps, data_digest, finished={}, stored={}, force=force)
    finished = study.finished_runs()
    tracked = {found.sweep: found for found in study.sweeps()}
    if not replace:
        _check_replaced(sweeps, study, tracked, data_digest, finished)
    before = {id_: found.definition.parsed for id_, found in tracked.items()}
    sweeps = [continued(sweep, before.get(sweep.id)) for sweep in sweeps]
    sources = {source for s in sweeps if s.pending and s.combine for source in s.combine.sources}
    wanted = sources - {sweep.id for sweep in sweeps}
    stored = study.definitions(wanted) if wanted else {}
    searched = any(sweep.search or sweep.are_finalists for sweep in sweeps)
    return make_plan(
        sweeps,
        data_digest,
        finished=study.with_late_means(finished) if searched else finished,
        stored=stored,
        pruned=study.pruned_runs() if searched else {},
        force=force,
    )


def _check_replaced(
    sweeps: Sequence[Sweep],
    study: Study,
    stored: Mapping[str, TrackedSweep],
    data_digest: str,
    finished: Mapping[str, TrackedRun],
) -> None:
    problems = []
    for sweep in sweeps:
        known = stored.get(sweep.id)
        before = known.definition.parsed if known else None
        if known is None or before is None:
            continue
        now = data_of_sweep(sweep, data_digest)
        if change := replaced(sweep, before, known.data_digest, now, finished):
            problems.append(
                f"sweep {sweep.id}: the study {study.name} has it with other settings ({change}); "
                "give the file another id in `sweep:`, name another study with --study, or show "
                "these settings from now on with --replace (the runs stay stored)"
            )
    if problems:
        raise ConfigError(problems)
