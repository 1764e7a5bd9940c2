"""The plan of some sweeps: every run in order, with what will be done about it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fmnist_tuning.errors import ConfigError, NoFinalistsError
from fmnist_tuning.sweeps.combine import choose_arms, sources_of, unfinished_sources
from fmnist_tuning.sweeps.cost import Estimate, parameter_count
from fmnist_tuning.sweeps.finalists import choose_finalists
from fmnist_tuning.sweeps.finished import FinishedRun
from fmnist_tuning.sweeps.runs import PlannedRun, runs_of
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One run of the plan."""

    run: PlannedRun
    # Reuse a stored run, share that of an earlier row; a pruned trial has ended.
    action: Literal["train", "reuse", "share", "pruned"]
    users: Mapping[str, str]  # its arm in each of the plan's sweeps that use it, by the sweep's id
    source: str | None = None  # for `reuse` and `share`, the run that is used, for people
    found: FinishedRun | None = None  # for `reuse` and `pruned`, that run
    seconds: float | None = None  # for `train`, the expected time; None without earlier runs


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of all sweeps whose arms are known, in the order of sweeps, arms and seeds."""

    sweeps: tuple[Sweep, ...]
    rows: tuple[PlanRow, ...]
    chosen: tuple[Sweep, ...]  # the combinations whose arms this plan has chosen

    @property
    def pending(self) -> list[Sweep]:
        """The combinations whose arms depend on sweeps that this plan trains first."""
        return [sweep for sweep in self.sweeps if sweep.pending and sweep.combine]

    @property
    def searches(self) -> list[Sweep]:
        """The searches."""
        return [sweep for sweep in self.sweeps if sweep.search]

    @property
    def trainings(self) -> list[PlanRow]:
        """The rows that will be trained."""
        return [row for row in self.rows if row.action == "train"]

    @property
    def pending_runs(self) -> int:
        """About how many runs the pending combinations and the searches will add."""
        chosen = sum(len(self.pending_arms(sweep)) * len(sweep.seeds) for sweep in self.pending)
        return chosen + sum(sweep.to_come for sweep in self.searches)

    def pending_arms(self, combination: Sweep) -> list[str]:
        """What a pending combination's arms will be, in words: the chosen and their rivals."""
        if combination.combine and combination.are_finalists:
            best = [f"the search's number {n}" for n in range(1, combination.combine.top + 1)]
            return [*best, "the base configuration"]
        rivals = {
            arm.config
            for claim in combination.claims
            for source in self.sweeps
            for arm in source.arms
            if source.id == claim.versus_sweep and arm.matches(claim.versus)
        }
        top = combination.combine.top if combination.combine else 0
        chosen = [f"number {place} by prediction" for place in range(1, top + 1)]
        return chosen + ["what they are compared with"] * len(rivals)

    def seconds(self, workers: int) -> float | None:
        """About how long all known trainings take; None if this is unknown for one of them."""
        known = [row.seconds for row in self.trainings if row.seconds is not None]
        if not known or len(known) < len(self.trainings):
            return None
        return max([sum(known) / workers, *known])

    def as_json(self) -> dict[str, Any]:
        """The plan for programs: a record for every row, and the ids of pending sweeps."""
        return {
            "runs": [
                {
                    "sweep": row.run.sweep,
                    "arm": row.run.arm.label,
                    "seed": row.run.config.seed,
                    "fingerprint": row.run.fingerprint,
                    "total_params": parameter_count(row.run.config),
                    "action": row.action,
                    "source": row.source,
                    "seconds": row.seconds,
                }
                for row in self.rows
            ],
            "undecided": [sweep.id for sweep in self.pending],
            "total_runs": len(self.rows) + self.pending_runs,
            "total_trainings": len(self.trainings) + self.pending_runs,
        }


def make_plan(
    sweeps: Sequence[Sweep],
    data_digest: str,
    *,
    finished: Mapping[str, FinishedRun],
    stored: Mapping[str, Sweep],
    pruned: Mapping[tuple[str, str], FinishedRun] | None = None,
    force: bool = False,
) -> Plan:
    """Plan sweeps, in the order given, and reuse what a study has.

    `finished` holds the study's runs by fingerprint, `stored` its sweeps by id: a combination may
    use sweeps that are not planned here. `pruned` are the trials that ended early, by
    their search's id and their fingerprint.
    With `force`, finished runs are trained again.

    Raises:
        ConfigError: If a combination needs sweeps that are neither finished nor planned here.
    """
    planned = {sweep.id: sweep for sweep in sweeps}
    known, pruned = {**stored, **planned}, pruned or {}
    runs = {id_: runs_of(sweep, data_digest) for id_, sweep in known.items()}
    chosen, problems = [], []
    for sweep in sweeps:
        if not sweep.pending or sweep.search:
            continue
        try:
            sources = sources_of(sweep, known)
            beside = [source for source in sources if source.id in planned]
            others = [source for source in sources if source.id not in planned]
            problems += unfinished_sources(sweep, others, runs, finished, pruned)
            # What is trained again with `force` has no result yet.
            waiting = unfinished_sources(sweep, sources, runs, finished, pruned)
            if not waiting and not (force and beside):
                known[sweep.id] = _chosen(sweep, sources, runs, finished)
                runs[sweep.id] = runs_of(known[sweep.id], data_digest)
                chosen.append(known[sweep.id])
        except NoFinalistsError as error:
            # Its search is part of the plan, whose other sweeps are trained all the same.
            problems += [] if beside else error.problems
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    ordered = [run for id_ in planned for run in runs[id_]]
    rows = tuple(_rows(ordered, finished, pruned, force=force))
    return Plan(tuple(known[id_] for id_ in planned), rows, tuple(chosen))


def _chosen(
    sweep: Sweep,
    sources: Sequence[Sweep],
    runs: Mapping[str, Sequence[PlannedRun]],
    finished: Mapping[str, FinishedRun],
) -> Sweep:
    if sweep.are_finalists:
        source = sources[0]
        return choose_finalists(sweep, source, runs[source.id], finished)
    return choose_arms(sweep, sources, runs, finished)


def _rows(
    runs: Sequence[PlannedRun],
    finished: Mapping[str, FinishedRun],
    pruned: Mapping[tuple[str, str], FinishedRun],
    *,
    force: bool,
) -> list[PlanRow]:
    users: dict[str, dict[str, str]] = {}
    for run in runs:
        users.setdefault(run.fingerprint, {})[run.sweep] = run.arm.label
    estimate: Estimate | None = None  # made for the first training: plans often have none
    rows: list[PlanRow] = []
    trained: dict[str, PlannedRun] = {}
    for run in runs:
        using = users[run.fingerprint]
        earlier = None if force else finished.get(run.fingerprint)
        if earlier is not None:
            source = f"{earlier.sweeps[0]}: {earlier.name}" if earlier.sweeps else earlier.name
            rows.append(PlanRow(run, "reuse", using, source, earlier))
        elif ended := pruned.get((run.sweep, run.fingerprint)):
            rows.append(PlanRow(run, "pruned", using, found=ended))
        elif run.fingerprint in trained:
            first = trained[run.fingerprint]
            rows.append(PlanRow(run, "share", using, f"{first.sweep}: {first.name}"))
        else:
            trained[run.fingerprint] = run
            estimate = estimate or Estimate(_history(finished))
            rows.append(PlanRow(run, "train", using, seconds=estimate.seconds(run.config)))
    return rows


def _history(finished: Mapping[str, FinishedRun]) -> list[tuple[RunConfig, float]]:
    """The trainings on the kind of device that was used last, each with its seconds."""
    last = max(finished.values(), key=lambda run: run.ended, default=None)
    same = [run for run in finished.values() if last and run.device == last.device]
    # Runs that differ in the seed alone cost the same.
    known: dict[frozenset[tuple[str, str]], RunConfig | None] = {}
    history = []
    for run in same:
        params = {key: value for key, value in run.params.items() if key != "seed"}
        key, seconds = frozenset(params.items()), run.metrics.get("train_seconds")
        if key not in known:
            known[key] = RunConfig.from_params(params)
        if (config := known[key]) and seconds:
            history.append((config, seconds))
    return history
