"""From sweeps to an ordered plan: each run with what is to be done about it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fmnist_tuning.errors import ConfigError
from fmnist_tuning.sweeps.combine import choose_arms, sources_of, unfinished_sources
from fmnist_tuning.sweeps.runs import PlannedRun, estimate_seconds, parameter_count, runs_of
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep


class FinishedRun(Protocol):
    """What a plan asks of a study's finished run; `store.records.TrackedRun` has it."""

    @property
    def run_id(self) -> str:
        """MLflow's id."""

    @property
    def name(self) -> str:
        """Its arm and seed, for people."""

    @property
    def sweeps(self) -> tuple[str, ...]:
        """Ids of the sweeps that use it, the one that trained it first."""

    @property
    def params(self) -> Mapping[str, str]:
        """Its settings as text."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """What it measured."""

    @property
    def device(self) -> str:
        """The kind of device it was trained on."""

    @property
    def ended(self) -> float:
        """When, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One run of the plan.

    Attributes:
        run: The run.
        action: `train`, `reuse` (the study has it) or `share` (an earlier row trains it).
        users: Ids of the plan's sweeps that use a run of this fingerprint.
        source: For `reuse` and `share`, the run that is used, for people.
        found: For `reuse`, that run.
        seconds: For `train`, about how long, where earlier runs tell.
    """

    run: PlannedRun
    action: Literal["train", "reuse", "share"]
    users: tuple[str, ...]
    source: str | None = None
    found: FinishedRun | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs in the order of their sweeps, arms and seeds.

    Attributes:
        sweeps: In order; a combination that could be chosen has its arms.
        rows: Of all sweeps with arms.
    """

    sweeps: tuple[Sweep, ...]
    rows: tuple[PlanRow, ...]

    @property
    def pending(self) -> list[Sweep]:
        """The combinations that sweeps of this plan are yet to choose."""
        return [sweep for sweep in self.sweeps if sweep.pending]

    @property
    def chosen(self) -> list[Sweep]:
        """The combinations whose arms are known."""
        return [sweep for sweep in self.sweeps if sweep.combine and not sweep.pending]

    @property
    def trainings(self) -> list[PlanRow]:
        """The rows that are to be trained."""
        return [row for row in self.rows if row.action == "train"]

    @property
    def pending_runs(self) -> int:
        """How many runs the pending combinations will add."""
        return sum(s.combine.top * len(s.seeds) for s in self.pending if s.combine)

    def seconds(self, workers: int) -> float | None:
        """About how long all known trainings take side by side, where every one can be told."""
        known = [row.seconds for row in self.trainings if row.seconds is not None]
        if not known or len(known) < len(self.trainings):
            return None
        return max([sum(known) / workers, *known])

    def as_json(self) -> dict[str, Any]:
        """The same for programs: one record a known run, and the sweeps to be chosen."""
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
    force: bool = False,
) -> Plan:
    """Plan sweeps against what a study has.

    Args:
        sweeps: In the order in which they are to run.
        data_digest: Digest of the images.
        finished: The study's finished runs by fingerprint.
        stored: The study's sweeps by id, for combinations of sweeps that are not planned here.
        force: Train what is finished already once more.

    Raises:
        ConfigError: When a combination asks for sweeps neither finished nor planned here.
    """
    known = {**stored, **{sweep.id: sweep for sweep in sweeps}}
    runs: dict[str, list[PlannedRun]] = {}
    planned = {sweep.id for sweep in sweeps}
    resolved = []
    for sweep in sweeps:
        if sweep.pending:
            sources = sources_of(sweep, known)
            for source in sources:
                runs.setdefault(source.id, runs_of(source, data_digest))
            others = [source for source in sources if source.id not in planned]
            if problems := unfinished_sources(sweep, others, runs, finished):
                raise ConfigError(problems)
            waiting = unfinished_sources(sweep, sources, runs, finished)
            known[sweep.id] = sweep if waiting else choose_arms(sweep, sources, runs, finished)
        resolved.append(known[sweep.id])
        if sweep.id not in runs:
            runs[sweep.id] = runs_of(known[sweep.id], data_digest)
    ordered = [run for sweep in resolved for run in runs[sweep.id]]
    return Plan(tuple(resolved), tuple(_rows(ordered, finished, force=force)))


def _rows(
    runs: Sequence[PlannedRun], finished: Mapping[str, FinishedRun], *, force: bool
) -> list[PlanRow]:
    users: dict[str, dict[str, None]] = {}
    for run in runs:
        users.setdefault(run.fingerprint, {})[run.sweep] = None
    history = _history(finished)
    rows: list[PlanRow] = []
    trained: dict[str, PlannedRun] = {}
    for run in runs:
        using = tuple(users[run.fingerprint])
        earlier = None if force else finished.get(run.fingerprint)
        if earlier is not None:
            source = f"{earlier.sweeps[0]}: {earlier.name}" if earlier.sweeps else earlier.name
            rows.append(PlanRow(run, "reuse", using, source, earlier))
        elif run.fingerprint in trained:
            first = trained[run.fingerprint]
            rows.append(PlanRow(run, "share", using, f"{first.sweep}: {first.name}"))
        else:
            trained[run.fingerprint] = run
            seconds = estimate_seconds(run.config, history)
            rows.append(PlanRow(run, "train", using, seconds=seconds))
    return rows


def _history(finished: Mapping[str, FinishedRun]) -> list[tuple[RunConfig, float]]:
    """Earlier trainings on the device used last, as configurations and seconds."""
    last = max(finished.values(), key=lambda run: run.ended, default=None)
    history = []
    for run in finished.values():
        config = RunConfig.from_params(run.params)
        seconds = run.metrics.get("train_seconds")
        if last and run.device == last.device and config and seconds:
            history.append((config, seconds))
    return history
