"""The arms of a combination (Experiment 6), chosen by finished sweeps. Pure."""

import itertools
import math
import string
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import ValidationError

from fmnist_tuning.errors import ConfigError
from fmnist_tuning.metrics import ACCURACY
from fmnist_tuning.sweeps.arms import run_config
from fmnist_tuning.sweeps.runs import PlannedRun, parameter_count
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.plan import FinishedRun

_NAMED: Final = 5


def sources_of(sweep: Sweep, known: Mapping[str, Sweep]) -> list[Sweep]:
    """The sweeps that `sweep` combines, among those that are planned or stored.

    Raises:
        ConfigError: Naming those that are neither.
    """
    ids = sweep.combine.sources if sweep.combine else ()
    missing = [source for source in ids if source not in known]
    if missing:
        raise ConfigError(
            [
                f"{sweep.id}: combines {', '.join(missing)}, not run in this study yet; run "
                f"{'it' if len(missing) == 1 else 'them'} first, or all in one plan: `fmnist run "
                "configs/`"
            ]
        )
    return [known[source] for source in ids]


def unfinished_sources(
    sweep: Sweep,
    sources: Sequence[Sweep],
    runs: Mapping[str, Sequence[PlannedRun]],
    finished: Collection[str],
) -> list[str]:
    """A line for every source that is not finished, naming what is missing.

    Args:
        sweep: The combination.
        sources: Some or all of the sweeps that it combines.
        runs: By sweep.
        finished: Fingerprints.
    """
    lines = []
    for source in sources:
        lacking = [run.name for run in runs[source.id] if run.fingerprint not in finished]
        if source.pending:
            lines.append(f"{sweep.id}: combines {source.id}, itself not decided yet")
        elif lacking:
            named = ", ".join(lacking[:_NAMED]) + (", ..." if len(lacking) > _NAMED else "")
            lines.append(
                f"{sweep.id}: combines {source.id}, of which {len(lacking)} of "
                f"{len(runs[source.id])} runs are not finished: {named}"
            )
    return lines


def choose_arms(
    sweep: Sweep,
    sources: Sequence[Sweep],
    runs: Mapping[str, Sequence[PlannedRun]],
    finished: "Mapping[str, FinishedRun]",
) -> Sweep:
    """Fill in the arms: the best predicted combinations of the levels that the sources tried.

    Main effects of every swept setting, and the interaction of those that a source crosses, are
    fitted to all finished runs. The new arms run on fresh seeds, so that the seeds that picked a
    configuration do not also judge it. Settings that all the sources share hold here too.

    Args:
        sweep: The combination.
        sources: The sweeps that it combines, every run of them finished.
        runs: By sweep.
        finished: By fingerprint.

    Raises:
        ConfigError: When a seed is not fresh, a combined setting is fixed, or nothing is small
            enough.
    """
    assert sweep.combine is not None  # noqa: S101  the caller asks only for combinations
    levels = _levels(sources)
    if problems := _contradictions(sweep, sources, levels):
        raise ConfigError(problems)
    # A run that several sweeps share is one observation.
    observed = list({run.fingerprint: run for s in sources for run in runs[s.id]}.values())
    settings = [run.config.model_dump(mode="json") for run in observed]
    ranked = rank_combinations(
        settings,
        [finished[run.fingerprint].metrics[ACCURACY] for run in observed],
        levels,
        [pair for source in sources for pair in itertools.combinations(source.swept, 2)],
    )
    fixed = {**_shared(settings, levels), **sweep.fixed}
    allowed = _small_enough(sweep.combine.max_params or math.inf, fixed, ranked)
    if not allowed:
        raise ConfigError(
            [
                f"{sweep.id}: combine.max_params: found {sweep.combine.max_params or math.inf:,}, "
                "and no combination of the levels has so few parameters"
            ]
        )
    arms = tuple(
        {"name": _letters(place), "predicted": round(predicted, 6), **combination}
        for place, (combination, predicted) in enumerate(allowed[: sweep.combine.top])
    )
    return sweep.changed(fixed=fixed, arms=arms)


def _contradictions(sweep: Sweep, sources: Sequence[Sweep], levels: Mapping[str, Any]) -> list[str]:
    """What the combination asks for that its sources rule out."""
    used = {seed for source in sources for seed in source.seeds} & set(sweep.seeds)
    problems = [
        f"{sweep.id}: fixed.{key}: the combined sweeps vary it; remove it here"
        for key in sorted(levels.keys() & sweep.fixed.keys())
    ]
    if used:
        problems.append(
            f"{sweep.id}: seeds: found {sorted(used)}, which the combined sweeps used; allowed: "
            "fresh ones"
        )
    return problems


def _small_enough(
    bound: float, fixed: Mapping[str, Any], ranked: Sequence[tuple[dict[str, Any], float]]
) -> list[tuple[dict[str, Any], float]]:
    """The combinations that can be trained and have no more parameters; of equals, the smaller."""
    sizes = [_params({**fixed, **combination}) for combination, _ in ranked]
    allowed = [
        (-round(option[1], 9), size, place)
        for place, (option, size) in enumerate(zip(ranked, sizes, strict=True))
        if size is not None and size <= bound
    ]
    return [ranked[place] for _, _, place in sorted(allowed)]


def rank_combinations(
    runs: Sequence[Mapping[str, Any]],
    response: Sequence[float],
    levels: Mapping[str, Sequence[Any]],
    interactions: Sequence[tuple[str, str]],
) -> list[tuple[dict[str, Any], float]]:
    """Predict the response of every combination of levels from the runs of some of them.

    Ordinary least squares on treatment-coded factors: an intercept, the main effects of every
    factor, and the named two-way interactions. What no run can tell is taken as zero (the
    minimum-norm solution); Montgomery, Design and Analysis of Experiments, unbalanced factorials.

    Args:
        runs: The level of every factor, for each run.
        response: The metric of each run, in the same order.
        levels: Every factor's levels.
        interactions: Pairs of factors whose effects may depend on each other.

    Returns:
        Every combination with its prediction, the best first; ties keep the order of the levels.
    """
    # The commonest level is the reference: it is the one that the other factors were varied at.
    reference = {
        factor: max(choices, key=lambda level: sum(run[factor] == level for run in runs))
        for factor, choices in levels.items()
    }
    terms = [
        {factor: level}
        for factor, choices in levels.items()
        for level in choices
        if level != reference[factor]
    ]
    pairs = [
        one | other
        for one, other in itertools.combinations(terms, 2)
        if tuple(one | other) in interactions
    ]

    def row(run: Mapping[str, Any]) -> list[float]:
        present = [all(run[f] == level for f, level in term.items()) for term in terms + pairs]
        return [1.0, *map(float, present)]

    design = np.array([row(run) for run in runs])  # (runs, 1 + terms)
    effects, *_ = np.linalg.lstsq(design, np.asarray(response, dtype=float), rcond=None)
    every = (dict(zip(levels, c, strict=True)) for c in itertools.product(*levels.values()))
    predicted = [(combination, float(np.dot(row(combination), effects))) for combination in every]
    # Rounded for the order only: equal predictions differ by the last bits of the arithmetic.
    return sorted(predicted, key=lambda option: -round(option[1], 9))


def _levels(sources: Sequence[Sweep]) -> dict[str, list[Any]]:
    """Every swept setting with every value it took in any arm, in order of appearance."""
    swept = dict.fromkeys(key for source in sources for key in source.swept)
    configs = [arm.config.model_dump(mode="json") for source in sources for arm in source.arms]
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


def _params(settings: Mapping[str, Any]) -> int | None:
    """The parameters of a combination's network; None where there can be none such."""
    try:
        return parameter_count(run_config(dict(settings)))
    except ValidationError:  # such as a fifth block after pooling has left no pixels
        return None


def _letters(index: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    head, tail = divmod(index, len(string.ascii_uppercase))
    return (_letters(head - 1) if head else "") + string.ascii_uppercase[tail]
