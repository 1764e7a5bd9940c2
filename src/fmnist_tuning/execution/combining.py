"""Choosing the arms of a combination (Experiment 6) from finished sweeps."""

import itertools
import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from fmnist_tuning.analysis import predict_combinations
from fmnist_tuning.config import RunConfig, SweepConfig
from fmnist_tuning.errors import ConfigError
from fmnist_tuning.planning import parameter_count, runs_of
from fmnist_tuning.results import stored_sweep
from fmnist_tuning.tracking import Study, TrackedRun

RESPONSE = "final_val_accuracy"


def find_sources(
    sweep: SweepConfig, planned: Sequence[SweepConfig], study: Study | None
) -> list[SweepConfig]:
    """The sweeps that `sweep` combines: as planned beside it, else as last run in the study.

    Raises:
        ConfigError: Naming those that are neither.
        TrackingError: When the study's definition of one cannot be read.
    """
    assert sweep.combine is not None  # noqa: S101  the caller asks only for combinations
    by_id = {other.sweep: other for other in planned}
    sources, missing = [], []
    for source in sweep.combine.sources:
        stored = None if source in by_id or study is None else study.definition(source)
        if source in by_id:
            sources.append(by_id[source])
        elif stored is not None:
            sources.append(stored_sweep(source, stored))
        else:
            missing.append(source)
    if missing:
        raise ConfigError(
            [
                f"{sweep.sweep}: combines {', '.join(missing)}, not run in this study yet; run "
                f"{'it' if len(missing) == 1 else 'them'} first, or all in one plan: `fmnist run "
                "configs/`"
            ]
        )
    return sources


def unfinished(
    sweep: SweepConfig,
    sources: Sequence[SweepConfig],
    finished: Mapping[str, TrackedRun],
    data_digest: str,
) -> list[str]:
    """A line for every source that is not finished, naming what is missing."""
    lines = []
    for source in sources:
        runs = runs_of(source, data_digest)
        open_runs = [run.name for run in runs if run.fingerprint not in finished]
        if source.undecided:
            lines.append(f"{sweep.sweep}: combines {source.sweep}, itself not decided yet")
        elif open_runs:
            named = ", ".join(open_runs[:5]) + (", ..." if len(open_runs) > 5 else "")  # noqa: PLR2004
            lines.append(
                f"{sweep.sweep}: combines {source.sweep}, of which {len(open_runs)} of "
                f"{len(runs)} runs are not finished: {named}"
            )
    return lines


def decide(
    sweep: SweepConfig,
    sources: Sequence[SweepConfig],
    finished: Mapping[str, TrackedRun],
    data_digest: str,
) -> SweepConfig:
    """Fill in the arms: the best predicted combinations of the levels that the sources tried.

    Main effects of every swept setting, and the interaction of those that a source crosses, are
    fitted to all finished runs. The new arms run on fresh seeds, so that a seed that was lucky for
    a configuration has no say in how good it is. Settings that all the sources share hold here too.

    Raises:
        ConfigError: When a source is unfinished, or a seed is not fresh.
    """
    assert sweep.combine is not None  # noqa: S101
    problems = unfinished(sweep, sources, finished, data_digest)
    used_seeds = {seed for source in sources for seed in source.seeds}
    if used_seeds & set(sweep.seeds):
        problems.append(
            f"{sweep.sweep}: seeds: found {sorted(used_seeds & set(sweep.seeds))}, which the "
            "combined sweeps used; allowed: fresh ones"
        )
    if problems:
        raise ConfigError(problems)
    levels = _levels(sources)
    runs = [run for source in sources for run in runs_of(source, data_digest)]
    # A run that several sweeps share is one observation.
    runs = list({run.fingerprint: run for run in runs}.values())
    settings = [run.config.model_dump(mode="json") for run in runs]
    ranked = predict_combinations(
        settings,
        [finished[run.fingerprint].metrics[RESPONSE] for run in runs],
        levels,
        [pair for source in sources for pair in itertools.combinations(source.swept, 2)],
    )
    fixed = {**_shared(settings, levels), **sweep.fixed}
    bound = sweep.combine.max_params or math.inf
    allowed = [
        (combination, predicted, params)
        for combination, predicted in ranked
        if (params := _params(fixed, combination)) is not None and params <= bound
    ]
    if not allowed:
        raise ConfigError(
            [
                f"{sweep.sweep}: combine.max_params: found {bound:,}, and no combination of the "
                "levels has so few parameters"
            ]
        )
    arms: list[dict[str, Any]] = []
    # Of equal promise, the smaller.
    for combination, predicted, _ in sorted(
        allowed, key=lambda option: (-round(option[1], 9), option[2])
    )[: sweep.combine.top]:
        name = _letters(len(arms))
        arms.append({"name": name, "predicted": round(predicted, 6), **combination})
    return SweepConfig.model_validate(
        sweep.model_dump(by_alias=True) | {"fixed": fixed, "arms": tuple(arms)}
    )


def _levels(sources: Sequence[SweepConfig]) -> dict[str, list[Any]]:
    """Every swept setting with every value it took in any arm, in order of appearance."""
    swept = dict.fromkeys(key for source in sources for key in source.swept)
    configs = [
        arm.config.model_dump(mode="json") for source in sources for arm in source.expanded()
    ]
    levels: dict[str, list[Any]] = {}
    for key in swept:
        values = [config[key] for config in configs]
        levels[key] = [v for index, v in enumerate(values) if v not in values[:index]]
    return levels


def _shared(settings: Sequence[Mapping[str, Any]], levels: Mapping[str, Any]) -> dict[str, Any]:
    """Settings on which all runs agree, where the default would be another."""
    defaults = RunConfig().model_dump(mode="json")
    return {
        key: value
        for key, value in settings[0].items()
        if key not in levels
        and key != "seed"
        and value != defaults[key]
        and all(other[key] == value for other in settings)
    }


def _params(fixed: Mapping[str, Any], combination: Mapping[str, Any]) -> int | None:
    """The parameters of a combination's network; None where there can be none such."""
    arm = {"sweep": "x", "title": "x", "fixed": fixed, "arms": ({"name": "x", **combination},)}
    try:
        return parameter_count(SweepConfig.model_validate(arm).expanded()[0].config)
    except ValidationError:  # such as a fifth block after pooling has left no pixels
        return None


def _letters(index: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    head, tail = divmod(index, len(string.ascii_uppercase))
    return (_letters(head - 1) if head else "") + string.ascii_uppercase[tail]
