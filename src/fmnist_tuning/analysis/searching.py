"""What a search found, and how much it flattered itself. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from fmnist_tuning.analysis.frames import Summary, SweepFrames, summary
from fmnist_tuning.analysis.rows import value_of
from fmnist_tuning.analysis.verdicts import Verdict, judge_claims
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.proposing import Trial, importances
from fmnist_tuning.sweeps.search import Search
from fmnist_tuning.sweeps.sweep import BASE, FINALISTS

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
    search = search_of(frames)
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
    sign = -1 if search_of(frames).higher else 1
    complete = [trial for trial in trials_of(frames) if trial.state == "complete"]
    return sorted(complete, key=lambda trial: sign * trial.value)


def importances_of(frames: SweepFrames) -> dict[str, float]:
    """The share of the complete trials' variance that each setting explains, largest first."""
    trials = [Trial(one.arm.overrides, "complete", one.value) for one in ranked_trials(frames)]
    return importances(search_of(frames), trials)


@dataclass(frozen=True, slots=True)
class Finalist:
    """A finalist beside what the search scored it."""

    arm: Arm
    score: float  # of its trial
    fresh: Summary  # the same metric, by seeds that did not choose it
    test: Summary  # the accuracy on the test set, by the same seeds
    promised: float  # its score minus the base configuration's; NaN if that was no trial
    shown: float  # the difference of their means by fresh seeds; NaN while they are missing
    flattery: float  # by how much it was promised better than it is
    found: Found  # beside the base configuration
    verdict: Verdict | None


def finalists_of(frames: SweepFrames, others: Mapping[str, SweepFrames]) -> list[Finalist]:
    """The finalists of a search that have finished runs; `others` are the study's sweeps."""
    there = others.get(f"{frames.sweep.id}{FINALISTS}")
    if there is None:
        return []
    search = search_of(frames)
    scores = {trial.arm.config: trial.value for trial in ranked_trials(frames)}
    verdicts = {claim.arm.get("name"): verdict for claim, verdict in judge_claims(there, others)}
    bases = [arm for arm in there.arms if arm.name == BASE]
    base = summary(there, bases[0], search.metric).mean if bases else math.nan
    base_score = scores.get(bases[0].config, math.nan) if bases else math.nan
    found = []
    for arm in there.arms:
        score, verdict = scores.get(arm.config), verdicts.get(arm.name)
        if arm.name == BASE or score is None:
            continue
        fresh = summary(there, arm, search.metric)
        promised, shown = score - base_score, fresh.mean - base
        # The seed of the search may be an easy or a hard one, for the base configuration as well.
        excess = score - fresh.mean if math.isnan(promised - shown) else promised - shown
        found.append(
            Finalist(
                arm=arm,
                score=score,
                fresh=fresh,
                test=summary(there, arm, "test_accuracy"),
                promised=promised,
                shown=shown,
                flattery=excess if search.higher else -excess,
                found=_FOUND[verdict.word] if verdict else "undecided",
                verdict=verdict,
            )
        )
    return found


def flattery(finalists: list[Finalist]) -> float:
    """The mean by which a search's scores of its finalists are better than those of fresh seeds."""
    return fmean(one.flattery for one in finalists) if finalists else math.nan


def search_of(frames: SweepFrames) -> Search:
    """The section `search`; a `TypeError` if the sweep has none."""
    if frames.sweep.search is None:
        raise TypeError(f"{frames.sweep.id} is no search")
    return frames.sweep.search
