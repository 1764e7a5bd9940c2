"""What a search found, and how much it flattered itself. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal

from fmnist_tuning.analysis.contrasts import t_quantile
from fmnist_tuning.analysis.frames import Summary, SweepFrames, summary
from fmnist_tuning.analysis.rows import value_of
from fmnist_tuning.analysis.verdicts import Verdict, judge_claims
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.proposing import Trial, importances
from fmnist_tuning.sweeps.sweep import BASE, FINALISTS, search_of

BEST_SHOWN: Final = 10
"""So many trials are shown to people, at most."""

Found = Literal["found better", "found worse", "equivalent", "undecided"]

_FOUND: dict[str, Found] = {
    "supported": "found better",
    "refuted": "found worse",
    "equivalent": "equivalent",
    "inconclusive": "undecided",
}


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial of a search."""

    number: int  # from 1
    arm: Arm
    state: Literal["complete", "pruned", "missing"]
    value: float  # the search's metric; of a pruned one its last epoch's; NaN if it is missing
    epochs: int  # that it was trained


def trials_of(frames: SweepFrames) -> list[TrialResult]:
    """The trials of a search in the order in which they were proposed."""
    search = search_of(frames.sweep)
    finished = {row.arm.label: row for row in frames.rows}
    pruned = {row.arm.label: row for row in frames.pruned}
    results = []
    for number, arm in enumerate(frames.sweep.arms, 1):
        if row := finished.get(arm.label):
            epochs = int(row.metrics.get("trained_epochs", arm.config.epochs))
            value = value_of(row, search.metric)
            results.append(TrialResult(number, arm, "complete", value, epochs))
        elif ended := pruned.get(arm.label):
            value = float(ended.metrics.get(search.curve, math.nan))
            results.append(TrialResult(number, arm, "pruned", value, ended.epochs))
        else:
            results.append(TrialResult(number, arm, "missing", math.nan, 0))
    return results


def ranked_trials(frames: SweepFrames) -> list[TrialResult]:
    """The complete trials, the best first."""
    sign = -1 if search_of(frames.sweep).higher else 1
    complete = [trial for trial in trials_of(frames) if trial.state == "complete"]
    return sorted(complete, key=lambda trial: sign * trial.value)


def importances_of(frames: SweepFrames) -> dict[str, float]:
    """The share of the complete trials' variance that each setting explains, largest first."""
    trials = [Trial(one.arm.overrides, "complete", one.value) for one in ranked_trials(frames)]
    return importances(search_of(frames.sweep), trials)


@dataclass(frozen=True, slots=True)
class Finalist:
    """A finalist beside what the search scored it, in the search's metric."""

    arm: Arm
    score: float  # of its trial
    fresh: Summary  # by seeds that did not choose it
    test: Summary  # the accuracy on the test set, by the same seeds
    promised: float  # its score minus the base configuration's; NaN if that was no trial
    shown: float  # the mean difference from it by the fresh seeds that both have; NaN without any
    flattery: float  # by how much it was promised better than it is
    chance: float  # how far the promise of one run may lie from the mean in 19 of 20 cases
    found: Found  # beside the base configuration
    verdict: Verdict | None


def finalists_of(frames: SweepFrames, others: Mapping[str, SweepFrames]) -> list[Finalist]:
    """The finalists of a search that have finished runs; `others` are the study's sweeps."""
    there = others.get(f"{frames.sweep.id}{FINALISTS}")
    if there is None:
        return []
    search = search_of(frames.sweep)
    scores = {trial.arm.config: trial.value for trial in ranked_trials(frames)}
    verdicts = {claim.arm.get("name"): verdict for claim, verdict in judge_claims(there, others)}
    base = next((arm for arm in there.arms if arm.name == BASE), None)
    base_score = scores.get(base.config) if base else None
    found = []
    for arm in there.arms:
        score, verdict = scores.get(arm.config), verdicts.get(arm.name)
        if arm.name == BASE or score is None:
            continue
        fresh = summary(there, arm, search.metric)
        differences = _differences(there, arm, base, search.metric)
        if base_score is None:  # then its score stands beside its own fresh seeds
            promised, excess = math.nan, score - fresh.mean
            spread = [*there.by_seed([arm], search.metric).values()]
        else:
            # The seed of the search may be an easy or a hard one, for both.
            promised, spread = score - base_score, differences
            excess = promised - fmean(differences) if differences else math.nan
        found.append(
            Finalist(
                arm=arm,
                score=score,
                fresh=fresh,
                test=summary(there, arm, "test_accuracy"),
                promised=promised,
                shown=fmean(differences) if differences else math.nan,
                flattery=excess if search.higher else -excess,
                chance=_chance(spread),
                found=_FOUND[verdict.word] if verdict else "undecided",
                verdict=verdict,
            )
        )
    return found


def _differences(frames: SweepFrames, arm: Arm, base: Arm | None, metric: str) -> list[float]:
    """A finalist minus the base configuration, for each seed that both have."""
    one, other = frames.by_seed([arm], metric), frames.by_seed([base] if base else [], metric)
    return [one[seed] - other[seed] for seed in one if seed in other]


def _chance(values: Sequence[float]) -> float:
    """Half the 95 % prediction interval of one more value; NaN for less than two.

    G. J. Hahn and W. Q. Meeker, Statistical Intervals (1991), chapter 4.
    """
    if len(values) < 2:  # noqa: PLR2004
        return math.nan
    return t_quantile(len(values) - 1) * stdev(values) * math.sqrt(1 + 1 / len(values))


def flattery(finalists: list[Finalist]) -> float:
    """The mean by which a search's scores of its finalists are better than those of fresh seeds."""
    known = [one.flattery for one in finalists if not math.isnan(one.flattery)]
    return fmean(known) if known else math.nan
