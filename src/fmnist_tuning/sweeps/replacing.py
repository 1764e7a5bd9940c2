"""A sweep of a study that is run again with other settings: what the study would no longer show."""

from collections.abc import Container, Iterable

from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.runs import runs_of
from fmnist_tuning.sweeps.settings import format_value
from fmnist_tuning.sweeps.sweep import Sweep, search_of

_NAMED = 3


def replaced(
    sweep: Sweep, before: Sweep, data_before: str, data_digest: str, finished: Container[str]
) -> str | None:
    """What running `sweep` would replace of the study's sweep of that id; None if nothing.

    Further arms and seeds replace nothing, nor do other texts, claims and figures. A sweep without
    finished runs has nothing to lose. The arms of a combination follow from other sweeps.

    Args:
        sweep: As it is planned.
        before: As it was run last.
        data_before: The digest of the images that it was run on.
        data_digest: The digest of the images now.
        finished: Fingerprints of the study's finished runs.
    """
    if not any(run.fingerprint in finished for run in runs_of(before, data_before)):
        return None
    if data_before != data_digest:
        return f"data: {data_before} → {data_digest}"
    if sweep.search is not None and before.search is not None:
        return _of_searches(sweep, before)
    if sweep.combine is not None and before.combine is not None:
        return _of_combinations(sweep, before)
    kept = {arm.config for arm in sweep.arms}
    lost = [arm for arm in before.arms if arm.config not in kept]
    return _difference(lost[0], sweep.arms) if lost else None


def _of_combinations(sweep: Sweep, before: Sweep) -> str | None:
    """What differs. The stored one also fixes what its sources have in common."""
    assert sweep.combine is not None  # noqa: S101  the caller checks both
    assert before.combine is not None  # noqa: S101
    one, other = before.combine, sweep.combine
    old = before.arms[0].config.model_dump(mode="json")
    # What a search fixes is compared there: some of it may have no effect in a finalist.
    fixed = {} if other.trials else sweep.fixed
    pairs = [(key, old[key], value) for key, value in fixed.items()]
    pairs += [
        ("combine.from", list(one.sources), list(other.sources)),
        ("combine.max_params", one.max_params, other.max_params),
        ("combine.top", one.top, min(one.top, other.top)),  # more of them replace none
    ]
    for key, was, now in pairs:
        if was != now:
            old_one, new_one = ("none" if v is None else format_value(v) for v in (was, now))
            return f"{key}: {old_one} → {new_one}"
    return None


def _of_searches(sweep: Sweep, before: Sweep) -> str | None:
    """What differs. Further trials replace nothing."""
    one, other = search_of(before), search_of(sweep)
    old = {**before.fixed, **{f"search.space.{k}": v for k, v in one.space.items()}}
    new = {**sweep.fixed, **{f"search.space.{k}": v for k, v in other.space.items()}}
    for key in ("sampler", "prune", "metric", "seed"):
        old[f"search.{key}"], new[f"search.{key}"] = getattr(one, key), getattr(other, key)
    # Trials that the study has would be gone with fewer; more of them replace none.
    old["search.trials"] = len(before.listed)
    new["search.trials"] = min(other.trials, len(before.listed))
    for key in [*old, *new]:
        if old.get(key) != new.get(key):
            return f"{key}: {_written(old.get(key))} → {_written(new.get(key))}"
    return None


def _written(value: object) -> str:
    """A value as a file has it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {format_value(v)}' for key, v in value.items())}}}"
    return format_value(value)


def _difference(lost: Arm, arms: Iterable[Arm]) -> str:
    """How an arm differs from the one that is most like it: `epochs: 10 → 1`."""
    old = lost.config.model_dump()
    changes = [
        [f"{k}: {format_value(old[k])} → {format_value(v)}" for k, v in new.items() if old[k] != v]
        for new in (arm.config.model_dump() for arm in arms)
    ]
    fewest = min(changes, key=len, default=[])
    if not fewest or len(fewest) > _NAMED:
        return f"the arm {lost.label} is gone"
    return ", ".join(fewest)
