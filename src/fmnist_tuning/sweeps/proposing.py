"""The one door to Optuna: which trial is next, and whether one that is trained is worth going on.

Optuna's study is made anew for each question, from the trials so far, and every question has a
seed of its own. So the answer follows from the trials alone, wherever a search was interrupted,
and nothing has to be kept beside the study's runs.
"""

import hashlib
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ValidationError

from fmnist_tuning.errors import ConfigError
from fmnist_tuning.sweeps.arms import run_config
from fmnist_tuning.sweeps.marks import Settings
from fmnist_tuning.sweeps.problems import problems_of
from fmnist_tuning.sweeps.search import (
    Range,
    Search,
    base_settings,
    every_trial,
    in_effect,
    is_whole,
    whole_settings,
)
from fmnist_tuning.sweeps.settings import RunConfig, format_value

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

_ATTEMPTS: Final = 200
_DIGITS: Final = 4  # of real numbers: more would tell nothing, and make long labels
_ALL_DIGITS: Final = 10
_REDUCTION: Final = 3  # Hyperband's: each rung has three times the epochs of the one before
_NAME: Final = "fmnist"  # Hyperband deals trials to its brackets by the study's name


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial so far."""

    settings: Settings  # the searched ones that have an effect
    state: Literal["complete", "pruned", "failed", "running"]
    value: float | None = None  # the search's metric, of a complete one
    curve: tuple[float, ...] = ()  # the metric after each epoch


def propose(
    search: Search, fixed: Settings, trials: Sequence[Trial], tried: Sequence[RunConfig]
) -> Settings:
    """The settings of the trial that follows `trials`: it can be trained, and was not `tried`.

    The first one is the base configuration, if the space has it: what the others are scored, is
    then seen beside it. Trials that are `running` are known by their settings only.

    Raises:
        ConfigError: When the space has no further one.
    """
    if not tried and (base := base_settings(search, fixed)) is not None:
        return base
    known, problem = set(tried), ""
    proposals = itertools.islice(_proposals(search, trials), _ATTEMPTS + len(known))
    for proposed in proposals:
        whole = whole_settings(fixed, proposed, search.space)
        try:
            config = run_config(whole)
        except ValidationError as error:
            problem = f": {problems_of(error, RunConfig)[0]}"
            continue
        if config not in known:
            return in_effect(whole, proposed)
    # What is left of a small space is found by looking at all of it.
    for left in every_trial(search, fixed) or ():
        if run_config(whole_settings(fixed, left, search.space)) not in known:
            return left
    raise ConfigError([f"search.space: found no further trial that can be trained{problem}"])


def next_decision(search: Search, done: int, epochs: int) -> int | None:
    """After how many of its `epochs` it is decided next whether a trial goes on; None for never.

    Hyperband's rungs end where less than two thirds of a training are left: there is little to save
    then, and a trial that is nearly whole tells more when it is.
    """
    if search.prune == "none":
        return None
    if search.prune == "median":
        return done + 1 if done + 1 < epochs else None
    rung = 1
    while rung <= done:
        rung *= _REDUCTION
    return rung if rung * _REDUCTION <= epochs else None


def is_pruned(
    search: Search, epochs: int, number: int, curve: Sequence[float], others: Mapping[int, Trial]
) -> bool:
    """Whether a trial ends here, because it is unlikely to become one of the best.

    Args:
        search: The search.
        epochs: How many a whole training has.
        number: The trial's, from 0.
        curve: Its metric after each of its epochs so far.
        others: The trials to compare with, by number. All are over.
    """
    if search.prune == "none":
        return False
    optuna = _optuna()
    median = optuna.pruners.MedianPruner()
    hyperband = optuna.pruners.HyperbandPruner(1, epochs, _REDUCTION)
    study = _study(search, optuna.samplers.RandomSampler(0))
    study.pruner = median if search.prune == "median" else hyperband
    # A pruner notes in its study how far each trial came, so all of them are told again.
    for place in range(number):
        asked, other = study.ask(), others.get(place)
        for epoch, value in enumerate(other.curve if other else (), 1):
            asked.report(value, epoch)
            asked.should_prune()
        if other and other.state == "complete":
            study.tell(asked, other.value)
        elif other and other.state == "pruned":
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
    asked = study.ask()
    pruned = False
    for epoch, value in enumerate(curve, 1):
        asked.report(value, epoch)
        pruned = bool(asked.should_prune())
    return pruned


def importances(search: Search, trials: Sequence[Trial]) -> dict[str, float]:
    """The share of the complete trials' variance that each setting explains, the largest first.

    By fANOVA (Hutter, Hoos, Leyton-Brown, ICML 2014) as Optuna has it; empty where trials are too
    few or all alike. Settings that only some of the trials have are left out.
    """
    optuna = _optuna()
    complete = [trial for trial in trials if trial.state == "complete"]
    if len({trial.value for trial in complete}) < 2:  # noqa: PLR2004  no variance
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=search.seed)
    study = _study(search, optuna.samplers.RandomSampler(0), complete)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(share) for key, share in found.items()}


def _proposals(search: Search, trials: Sequence[Trial]) -> Iterator[Settings]:
    """What the sampler says, again and again."""
    optuna = _optuna()
    space = _distributions(search)
    if search.sampler == "qmc":
        # The points of its sequence do not depend on any trial; whoever calls skips known ones.
        sampler = optuna.samplers.QMCSampler(scramble=True, seed=search.seed)
        study = _study(search, sampler)
        while True:
            yield _settings(search, study.ask(space).params)
    for attempt in itertools.count():
        seed = _seed(search.seed, len(trials), attempt)
        yield _settings(search, _study(search, _sampler(search, seed), trials).ask(space).params)


def _sampler(search: Search, seed: int) -> "BaseSampler":
    samplers = _optuna().samplers
    sampler: BaseSampler
    if search.sampler == "random":
        sampler = samplers.RandomSampler(seed)
    elif search.sampler == "gp":
        sampler = samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    else:
        sampler = samplers.TPESampler(seed=seed, constant_liar=True)
    return sampler


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def _study(search: Search, sampler: "BaseSampler", trials: Sequence[Trial] = ()) -> "Study":
    """Optuna's study of some trials. Without a pruner: the sampler then learns from all trials."""
    optuna = _optuna()
    study: Study = optuna.create_study(
        direction="maximize" if search.higher else "minimize",
        study_name=_NAME,
        sampler=sampler,
        pruner=optuna.pruners.NopPruner(),
    )
    space = _distributions(search)
    states = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.PRUNED,
        "failed": optuna.trial.TrialState.FAIL,
        "running": optuna.trial.TrialState.RUNNING,
    }
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params={k: _told(search, k, value) for k, value in trial.settings.items()},
                distributions={key: space[key] for key in trial.settings},
                state=states[trial.state],
                value=trial.value,
                intermediate_values=dict(enumerate(trial.curve, 1)),
            )
        )
    return study


def _distributions(search: Search) -> "dict[str, BaseDistribution]":
    kinds = _optuna().distributions
    found: dict[str, BaseDistribution] = {}
    for key, given in search.levels.items():
        if not isinstance(given, Range):
            found[key] = kinds.CategoricalDistribution([format_value(value) for value in given])
            continue
        whole = bool(is_whole(key))
        values = None if given.log else given.values(whole=whole)
        high = values[-1] if values else given.high  # the last step may end before it
        if whole:
            step = int(given.step or 1)
            found[key] = kinds.IntDistribution(int(given.low), int(high), given.log, step)
        else:
            found[key] = kinds.FloatDistribution(given.low, high, given.log, given.step)
    return found


def _told(search: Search, key: str, value: Any) -> Any:
    """A setting's value as Optuna has it; that of a list as the file writes it: 0 is 0.0."""
    given = search.space[key]
    return value if isinstance(given, dict) else format_value(given[given.index(value)])


def _settings(search: Search, params: Mapping[str, Any]) -> Settings:
    """Optuna's parameters as settings, in the order of the space."""
    settings: Settings = {}
    for key, given in search.levels.items():
        value = params[key]
        if not isinstance(given, Range):
            settings[key] = next(v for v in given if format_value(v) == value)
        elif is_whole(key):
            settings[key] = int(value)
        else:
            digits = _DIGITS if given.step is None else _ALL_DIGITS
            rounded = float(f"{value:.{digits}g}")
            settings[key] = min(max(rounded, given.low), given.high)
    return settings


def _optuna() -> Any:
    """Optuna, which loads half a second; its warnings are for those who write the loop."""
    import optuna  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
