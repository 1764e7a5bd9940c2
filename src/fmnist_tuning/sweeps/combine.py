"""The arms of a combination (Experiment 6), chosen from finished sweeps. Pure."""

import itertools
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from fmnist_tuning.errors import ConfigError
from fmnist_tuning.metrics import ACCURACY
from fmnist_tuning.sweeps.arms import Arm, letters, run_config
from fmnist_tuning.sweeps.cost import parameter_count
from fmnist_tuning.sweeps.finished import FinishedRun
from fmnist_tuning.sweeps.problems import problems_of
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import FINALISTS, Sweep
from fmnist_tuning.text import counted

_NAMED: Final = 5


def sources_of(sweep: Sweep, known: Mapping[str, Sweep]) -> list[Sweep]:
    """The sweeps that `sweep` combines; raises `ConfigError` if one of them is not known."""
    ids = sweep.combine.sources if sweep.combine else ()
    if missing := [source for source in ids if source not in known]:
        problem = (
            f"{sweep.id}: combines {', '.join(missing)}, not run in this study yet; run "
            f"{'it' if len(missing) == 1 else 'them'} first, or all in one plan: `fmnist run "
            "configs/`"
        )
        raise ConfigError([problem])
    sources = [known[source] for source in ids]
    searches = [source.id for source in sources if source.search]
    if sweep.combine and not sweep.combine.trials and searches:
        text = f"found {searches[0]}, a search; allowed: its finalists, {searches[0]}{FINALISTS}"
        raise ConfigError([f"{sweep.id}: combine.from: {text}"])
    return sources


def unfinished_sources(
    sweep: Sweep,
    sources: Sequence[Sweep],
    runs: Mapping[str, Sequence[PlannedRun]],
    finished: Container[str],
    pruned: Container[tuple[str, str]] = (),
) -> list[str]:
    """A line for every source that is not finished, with the names of the missing runs.

    `runs` are those of each sweep; `finished` are fingerprints, and `pruned` those of trials that
    have ended too, with their search's id.
    """
    lines = []
    for source in sources:
        lacking = [
            run.name
            for run in runs[source.id]
            if run.fingerprint not in finished
            if (source.id, run.fingerprint) not in pruned
        ]
        if source.search and source.to_come:
            there = f"{source.to_come} of {counted(source.search.trials, 'trial')}"
            lines.append(f"{sweep.id}: chooses from {source.id}, of which {there} are not trained")
        elif source.pending:
            lines.append(f"{sweep.id}: combines {source.id}, whose arms are not chosen yet")
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
    finished: Mapping[str, FinishedRun],
) -> Sweep:
    """Fill in the arms: the combinations of the sources' levels with the best predictions.

    The model is fitted to all runs of the sources, which must be finished. It has the main effect
    of every swept setting, and the interaction of settings that one source crosses. Settings that
    all sources share are fixed. The new arms need fresh seeds, so the seeds that picked a
    configuration do not also judge it. Arms of the sources that a claim compares with come too, to
    be trained with the fresh seeds: by their old ones, the winners were chosen.

    Raises:
        ConfigError: If a seed was used before, a combined setting is fixed, no combination is
            small enough, or a claim is about none of those that are chosen.
    """
    assert sweep.combine is not None  # noqa: S101  for mypy: the caller checks it
    levels = _levels(sources)
    if problems := _contradictions(sweep, sources, levels):
        raise ConfigError(problems)
    # Several sweeps can share a run, which is one observation.
    observed = list({run.fingerprint: run for s in sources for run in runs[s.id]}.values())
    settings = [run.config.model_dump(mode="json") for run in observed]
    ranked = rank_combinations(
        settings,
        [finished[run.fingerprint].metrics[ACCURACY] for run in observed],
        levels,
        _crossed(sources),
    )
    fixed = {**_shared(settings, levels), **sweep.fixed}
    bound = sweep.combine.max_params or math.inf
    allowed = _small_enough(bound, fixed, ranked)
    if not allowed:
        problem = f"found {bound:,}, and no combination of the levels has so few parameters"
        raise ConfigError([f"{sweep.id}: combine.max_params: {problem}"])
    arms = tuple(
        {"name": letters(place), "predicted": round(predicted, 6), **combination}
        for place, (combination, predicted) in enumerate(allowed[: sweep.combine.top])
    )
    try:
        chosen = sweep.changed(fixed=fixed, arms=arms)
        return chosen.changed(arms=(*arms, *_rivals(chosen, sources, levels)))
    except ValidationError as error:  # such as a claim about an arm that was not chosen
        raise ConfigError([f"{sweep.id}: {p}" for p in problems_of(error, Sweep)]) from None


def _rivals(
    chosen: Sweep, sources: Sequence[Sweep], levels: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The arms of the sources that the claims compare with, where they are not chosen anyway."""
    there = {arm.config for arm in chosen.arms}
    for claim in chosen.claims:
        for source in sources:
            for arm in source.arms if source.id == claim.versus_sweep else ():
                settings = arm.config.model_dump(mode="json")
                rival = {key: settings[key] for key in levels}
                alike = run_config({**chosen.fixed, **rival}) == arm.config
                if alike and arm.config not in there and arm.matches(claim.versus):
                    there.add(arm.config)
                    number = len(there) - len(chosen.arms)
                    yield {"name": "base" if number == 1 else f"base {number}", **rival}


def _contradictions(sweep: Sweep, sources: Sequence[Sweep], levels: Mapping[str, Any]) -> list[str]:
    """Parts of the combination that its sources do not allow."""
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
    """The combinations with at most `bound` parameters; if predictions tie, small ones first."""
    sized = [(option, _params({**fixed, **option[0]})) for option in ranked]
    allowed = [(option, size) for option, size in sized if size is not None and size <= bound]
    allowed.sort(key=lambda found: (-round(found[0][1], 9), found[1]))
    return [option for option, _ in allowed]


def rank_combinations(
    runs: Sequence[Mapping[str, Any]],
    response: Sequence[float],
    levels: Mapping[str, Sequence[Any]],
    interactions: Sequence[tuple[str, str]],
) -> list[tuple[dict[str, Any], float]]:
    """Predict the response of every combination of levels from the runs of some combinations.

    Ordinary least squares on treatment-coded factors: an intercept, the main effects of every
    factor, and the two-way interactions of the pairs in `interactions`. Effects that the runs do
    not determine are zero, as far as the data allow it (the minimum-norm solution). Source:
    Montgomery, Design and Analysis of Experiments, unbalanced factorials.

    Args:
        runs: The level of every factor, for each run.
        response: The metric of each run, in the same order.
        levels: The levels of every factor.
        interactions: Pairs of factors whose effects can depend on each other.

    Returns:
        Every combination with its prediction, the best first. Ties keep the order of the levels.
    """
    row = _row_of(runs, levels, interactions)
    design = np.array([row(run) for run in runs])  # (runs, 1 + terms)
    effects, *_ = np.linalg.lstsq(design, np.asarray(response, dtype=float), rcond=None)
    every = (dict(zip(levels, c, strict=True)) for c in itertools.product(*levels.values()))
    predicted = [(combination, float(np.dot(row(combination), effects))) for combination in every]
    # Rounded for the order only: floating-point errors make equal predictions differ a little.
    return sorted(predicted, key=lambda option: -round(option[1], 9))


def leverages(
    sources: Sequence[Sweep], chosen: Sequence[Arm], seeds: Mapping[str, Mapping[str, int]]
) -> list[float]:
    """How uncertain the predictions of some arms are: their variances, in that of one run.

    x (X'X)⁺ x' of the model that chose them, Montgomery, chapter 10. `seeds` has the number of
    runs of each source's arms, by the source's id and the arm's label.
    """
    levels = _levels(sources)
    once = {
        arm.config: (arm.config.model_dump(mode="json"), seeds[source.id].get(arm.label, 0))
        for source in sources
        for arm in source.arms
    }
    runs = [settings for settings, count in once.values() for _ in range(count)]
    row = _row_of(runs, levels, _crossed(sources))
    design = np.array([row(run) for run in runs])
    inverse = np.linalg.pinv(design.T @ design)
    rows = (np.array(row(arm.config.model_dump(mode="json"))) for arm in chosen)
    return [float(x @ inverse @ x) for x in rows]


def _crossed(sources: Sequence[Sweep]) -> list[tuple[str, str]]:
    return [pair for source in sources for pair in itertools.combinations(source.swept, 2)]


def _row_of(
    runs: Sequence[Mapping[str, Any]],
    levels: Mapping[str, Sequence[Any]],
    interactions: Sequence[tuple[str, str]],
) -> Callable[[Mapping[str, Any]], list[float]]:
    """Gives a configuration's row of the design matrix."""
    # The most common level is the reference, because the other factors were varied at this level.
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

    return row


def _levels(sources: Sequence[Sweep]) -> dict[str, list[Any]]:
    """Every swept setting with all its values in any arm, in order of appearance."""
    swept = dict.fromkeys(key for source in sources for key in source.swept)
    configs = [arm.config.model_dump(mode="json") for source in sources for arm in source.arms]
    values = {key: [config[key] for config in configs] for key in swept}
    # Values such as lists of channels cannot be hashed, so a dict or set is no help here.
    return {k: [v for i, v in enumerate(vs) if v not in vs[:i]] for k, vs in values.items()}


def _shared(settings: Sequence[Mapping[str, Any]], levels: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are the same in all runs and differ from their default."""
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
    """The number of parameters of a combination's network; None if it cannot be built."""
    try:
        return parameter_count(run_config(dict(settings)))
    except ValidationError:  # such as a fifth block: four poolings leave one pixel
        return None
