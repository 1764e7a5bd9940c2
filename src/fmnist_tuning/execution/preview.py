"""What a plan would do, without doing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fmnist_tuning.config import RunConfig, SweepConfig
from fmnist_tuning.errors import ConfigError
from fmnist_tuning.execution.combining import decide, find_sources, unfinished
from fmnist_tuning.execution.workers import available_cores
from fmnist_tuning.planning import (
    Plan,
    PlannedRun,
    estimate_seconds,
    make_plan,
    parameter_count,
)
from fmnist_tuning.tracking import Study, TrackedRun


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One run of the plan.

    Attributes:
        run: The run.
        params: Trainable parameters of its network.
        action: `train`, `reuse` (the study has it) or `share` (an earlier row trains it).
        source: For `reuse` and `share`, the run that is used.
        seconds: About how long it would train, where earlier runs tell.
    """

    run: PlannedRun
    params: int
    action: str
    source: str | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Preview:
    """A plan's rows in order, and the combinations that finished sweeps are yet to decide."""

    rows: tuple[PlanRow, ...]
    undecided: tuple[SweepConfig, ...]
    decided: tuple[SweepConfig, ...]
    workers: int

    @property
    def trainings(self) -> list[PlanRow]:
        """The rows that would be trained."""
        return [row for row in self.rows if row.action == "train"]

    @property
    def undecided_runs(self) -> int:
        """How many runs the undecided combinations will add."""
        sweeps = (s for s in self.undecided if s.combine)
        return sum(s.combine.top * len(s.seeds) for s in sweeps if s.combine)

    @property
    def seconds(self) -> float | None:
        """About how long all known trainings take side by side, where every one can be told."""
        known = [row.seconds for row in self.trainings if row.seconds is not None]
        if not known or len(known) < len(self.trainings):
            return None
        return max([sum(known) / self.workers, *known])

    def as_json(self) -> dict[str, Any]:
        """The same for programs: one record a known run, and the sweeps to be decided."""
        return {
            "runs": [
                {
                    "sweep": row.run.sweep,
                    "arm": row.run.arm.label,
                    "seed": row.run.config.seed,
                    "fingerprint": row.run.fingerprint,
                    "total_params": row.params,
                    "action": row.action,
                    "source": row.source,
                    "seconds": row.seconds,
                }
                for row in self.rows
            ],
            "undecided": [sweep.sweep for sweep in self.undecided],
            "total_runs": len(self.rows) + self.undecided_runs,
            "total_trainings": len(self.trainings) + self.undecided_runs,
        }


def preview(
    sweeps: Sequence[SweepConfig],
    study: Study | None,
    data_digest: str,
    *,
    jobs: int | None = None,
    force: bool = False,
) -> Preview:
    """Plan sweeps against a study.

    Args:
        sweeps: In the order in which they are to run.
        study: The study to reuse runs from; None where there is none yet.
        data_digest: Digest of the images.
        jobs: How many runs at a time; None for one a core.
        force: Plan to train what is finished already once more.

    Raises:
        ConfigError: When a combination asks for sweeps neither finished nor planned here.
    """
    tracked = study.finished_runs() if study else {}
    resolved = _decide_what_can_be(sweeps, study, tracked, data_digest)
    plan = make_plan(resolved, data_digest)
    return Preview(
        rows=tuple(_rows(plan, {} if force else tracked, _history(tracked))),
        workers=jobs or available_cores(),
        undecided=plan.undecided,
        decided=tuple(s for s in resolved if s.combine and not s.undecided),
    )


def _decide_what_can_be(
    sweeps: Sequence[SweepConfig],
    study: Study | None,
    tracked: dict[str, TrackedRun],
    data_digest: str,
) -> list[SweepConfig]:
    planned = {sweep.sweep for sweep in sweeps}
    resolved: list[SweepConfig] = []
    for sweep in sweeps:
        if not sweep.undecided:
            resolved.append(sweep)
            continue
        sources = find_sources(sweep, sweeps, study)
        problems = unfinished(
            sweep, [s for s in sources if s.sweep not in planned], tracked, data_digest
        )
        if problems:
            raise ConfigError(problems)
        waiting = unfinished(sweep, sources, tracked, data_digest)
        resolved.append(sweep if waiting else decide(sweep, sources, tracked, data_digest))
    return resolved


def _rows(
    plan: Plan, tracked: dict[str, TrackedRun], history: list[tuple[RunConfig, float]]
) -> list[PlanRow]:
    rows: list[PlanRow] = []
    trained: dict[str, PlannedRun] = {}
    for run in plan.runs:
        params, earlier = parameter_count(run.config), tracked.get(run.fingerprint)
        if earlier is not None:
            source = f"{earlier.sweeps[0]}: {earlier.name}" if earlier.sweeps else earlier.name
            rows.append(PlanRow(run, params, "reuse", source, None))
        elif run.fingerprint in trained:
            first = trained[run.fingerprint]
            rows.append(PlanRow(run, params, "share", f"{first.sweep}: {first.name}", None))
        else:
            trained[run.fingerprint] = run
            seconds = estimate_seconds(run.config, history)
            rows.append(PlanRow(run, params, "train", None, seconds))
    return rows


def _history(tracked: dict[str, TrackedRun]) -> list[tuple[RunConfig, float]]:
    """Earlier trainings on the device used last, as configurations and seconds."""
    last = max(tracked.values(), key=lambda run: run.ended, default=None)
    history = []
    for run in tracked.values():
        config = RunConfig.from_params(run.params)
        seconds = run.metrics.get("train_seconds")
        if last and run.device == last.device and config and seconds:
            history.append((config, seconds))
    return history
