"""The finalists of a search: its best trials, trained again with seeds that did not choose them."""

from collections.abc import Mapping, Sequence
from typing import Any

from fmnist_tuning.errors import ConfigError, NoFinalistsError
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.sweeps.arms import letters, run_config, without_labels
from fmnist_tuning.sweeps.finished import FinishedRun
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.search import Search, in_effect, whole_settings
from fmnist_tuning.sweeps.sweep import BASE, FINALISTS, Sweep, search_of


def finalists_sweep(sweep: Sweep) -> Sweep:
    """The sweep of a search's finalists; its arms are chosen when the search has ended."""
    search = search_of(sweep)
    return Sweep.model_validate(
        {
            "sweep": f"{sweep.id}{FINALISTS}",
            "title": f"{sweep.title[:180]}: Finalists",
            "fixed": sweep.fixed,
            "combine": {"from": (sweep.id,), "top": search.finalists, "trials": search.trials},
            "seeds": sweep.seeds,
            "max_seeds": sweep.max_seeds,
            "claims": tuple(_claim(search, letters(n)) for n in range(search.finalists)),
            "figure": {"kind": "ranking", "file": f"{sweep.id}{FINALISTS}.png"},
        }
    )


def choose_finalists(
    sweep: Sweep,
    source: Sweep,
    runs: Sequence[PlannedRun],
    finished: Mapping[str, FinishedRun],
) -> Sweep:
    """Fill in the arms: the best complete trials of a search, and the base configuration.

    Pruned trials are no finalists, nor is a trial that is the base configuration itself.

    Raises:
        ConfigError: When the source is no search.
        NoFinalistsError: When no trial beside the base configuration is complete.
    """
    search = source.search
    if search is None or sweep.combine is None:
        text = f"found {source.id}, which is no search; leave `trials` out to combine sweeps"
        raise ConfigError([f"{sweep.id}: combine.from: {text}"])
    base = run_config(whole_settings(source.fixed, {}, search.space))
    complete = [
        (found.metrics[search.metric], run.arm)
        for run in runs
        if (found := finished.get(run.fingerprint)) and search.metric in found.metrics
        if run.arm.config != base
    ]
    if not complete:
        problem = f"{source.id} has no complete trial beside the base configuration"
        raise NoFinalistsError([f"{sweep.id}: {problem}; more trials may find one"])
    sign = -1 if search.higher else 1
    complete.sort(key=lambda found: sign * found[0])  # of equal ones, the earlier trial
    accuracy = METRICS[search.metric].unit == "percent"
    arms: list[dict[str, Any]] = [
        {
            "name": letters(place),
            **({"predicted": round(score, 6)} if accuracy else {}),
            **arm.overrides,
        }
        for place, (score, arm) in enumerate(complete[: sweep.combine.top])
    ]
    own = base.model_dump(mode="json")
    arms.append({"name": BASE, **in_effect(own, {key: own[key] for key in search.space})})
    claims = tuple(_claim(search, str(arm["name"])) for arm in arms[:-1])
    whole = [whole_settings(source.fixed, without_labels(arm), search.space) for arm in arms]
    fixed = {key: v for key, v in source.fixed.items() if any(key in one for one in whole)}
    return sweep.changed(fixed=fixed, arms=tuple(arms), claims=claims)


def _claim(search: Search, name: str) -> dict[str, Any]:
    return {
        "that": f"{name} is better than the base configuration",
        "arm": {"name": name},
        "versus": {"name": BASE},
        "metric": search.metric,
        "expect": METRICS[search.metric].better,
        "margin": search.smallest_difference,
    }
