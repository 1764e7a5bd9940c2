"""A study read back from MLflow alone: each sweep's finished runs as frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from fmnist_tuning.analysis import CURVES, SweepFrames, build_frames
from fmnist_tuning.config import Arm, SweepConfig
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.planning import PlannedRun, runs_of
from fmnist_tuning.tracking import Study, TrackedRun


@dataclass(frozen=True, slots=True)
class StudyResults:
    """What a study holds.

    Attributes:
        name: Of the study.
        uri: Of its store.
        sweeps: By id, in the order of the ids.
        sweep_run_ids: The MLflow run of each sweep, which its figures are logged to.
        runs: The finished trainings that the sweeps use.
    """

    name: str
    uri: str
    sweeps: dict[str, SweepFrames]
    sweep_run_ids: dict[str, str]
    runs: tuple[TrackedRun, ...]


def read_study(
    name: str,
    tracking_uri: str | None = None,
    *,
    only: Sequence[str] = (),
    curves: bool = True,
) -> StudyResults:
    """Read a study's sweeps, each as it was last run.

    A run belongs to a sweep when its fingerprint is that of one of the sweep's arms and seeds on
    the sweep's data, whichever sweep trained it.

    Args:
        name: The study.
        tracking_uri: Its store, resolved as `Study.open` does.
        only: Ids of the sweeps to read; none means all.
        curves: Read the per-epoch metrics too.

    Raises:
        TrackingError: When there is no such study, sweep or finished run, or the store fails.
    """
    study = Study.find(name, tracking_uri)
    if study is None:
        raise TrackingError(
            f"there is no study {name} in {Study.resolve(tracking_uri)}; `fmnist run` makes one, "
            "and --experiment and --tracking-uri name others"
        )
    tracked = {sweep.sweep: sweep for sweep in study.sweeps()}
    unknown = [sweep for sweep in only if sweep not in tracked]
    if unknown:
        raise TrackingError(
            f"the study {name} has no sweep {', '.join(unknown)}; it has "
            f"{', '.join(tracked) or 'none'}"
        )
    chosen = {sweep: tracked[sweep] for sweep in only or tracked}
    configs = {sweep: _config(sweep, found.definition) for sweep, found in chosen.items()}
    finished = study.finished_runs()
    planned = {
        sweep: runs_of(config, chosen[sweep].data_digest) for sweep, config in configs.items()
    }
    used = {
        run.fingerprint: finished[run.fingerprint]
        for runs in planned.values()
        for run in runs
        if run.fingerprint in finished
    }
    if not used:
        what = f"of {', '.join(only)} in the study" if only else "in the study"
        raise TrackingError(f"there is no finished run {what} {name}; `fmnist run` trains some")
    history = study.curves([run.run_id for run in used.values()], CURVES if curves else ())
    return StudyResults(
        name=study.name,
        uri=study.uri,
        sweeps={
            sweep: build_frames(
                config,
                [_row(run, used[run.fingerprint]) for run in runs if run.fingerprint in used],
                history,
                [run.name for run in runs if run.fingerprint not in used],
            )
            for (sweep, config), runs in zip(configs.items(), planned.values(), strict=True)
        },
        sweep_run_ids={sweep: found.run_id for sweep, found in chosen.items()},
        runs=tuple(used.values()),
    )


def _row(run: PlannedRun, tracked: TrackedRun) -> tuple[Arm, int, str, Mapping[str, float]]:
    return run.arm, run.config.seed, tracked.run_id, tracked.metrics


def _config(sweep: str, definition: str) -> SweepConfig:
    # Whoever may write to the store may have forged it: it is held to the same rules as a file.
    try:
        config = SweepConfig.model_validate_json(definition)
    except ValidationError as error:
        raise TrackingError(
            f"the study's definition of {sweep} cannot be read "
            f"({error.errors(include_url=False)[0]['msg']}); `fmnist run` on its file mends it"
        ) from None
    if config.undecided:
        raise TrackingError(f"the study's definition of {sweep} has no arms")
    return config
