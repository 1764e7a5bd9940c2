"""What a sweep's runs say about its claims, and about other questions asked beside them.

A sweep has one error rate. Most of it is its claims', which are declared beforehand; the rest is
shared by all that its tables and the journal say besides. See docs/statistics.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from fmnist_tuning.analysis.contrasts import Contrast
from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.analysis.groups import SPREAD_EQUIVALENT, Groups, compare, groups_of
from fmnist_tuning.analysis.looks import (
    CLAIMS_RATE,
    REST_RATE,
    Decision,
    Evidence,
    decide,
    evidence,
    weights,
)
from fmnist_tuning.analysis.pool import Pool, pool_of
from fmnist_tuning.analysis.power import Needed, seeds_needed
from fmnist_tuning.metrics import ACCURACY, LATE_ACCURACY, METRICS
from fmnist_tuning.sweeps.looks import STANDARD_LOOKS
from fmnist_tuning.sweeps.sections import Claim

Word = Literal["supported", "refuted", "equivalent", "inconclusive"]
DECIDED: Final = ("supported", "refuted", "equivalent")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the runs say about a claim."""

    word: Word
    contrast: Contrast  # in the claim's direction, `arm` minus `versus`, at the look below
    look: int  # seeds: those that decided it, or those of the last look so far
    low: float  # ends of the interval that the word stands on, adjusted for looks and claims
    high: float
    p_adjusted: float  # the smallest so far, adjusted for looks and claims
    margin: float  # the claim's, in the contrast's unit
    seeds_needed: Needed | None  # for an inconclusive claim


def judge_claims(
    frames: SweepFrames, others: Mapping[str, SweepFrames]
) -> list[tuple[Claim, Verdict | None]]:
    """The verdict on each of a sweep's claims, None where its runs are missing.

    `others` are the study's sweeps by id: their runs tell the spread, and some claims compare with
    one of them. A metric that depends on the machine's load is not judged, because seeds do not
    repeat that.
    """
    pool = pool_of({**others, frames.sweep.id: frames}.values())
    asked = [groups_of(claim, frames, others) for claim in frames.sweep.claims]
    judged = [
        _evidence(
            groups,
            claim.metric,
            pool,
            claim.margin,
            expect_equal=claim.expect == "equal",
            of_spread=claim.compare == "spread",
        )
        if groups and not METRICS[claim.metric].of_machine
        else []
        for claim, groups in zip(frames.sweep.claims, asked, strict=True)
    ]
    open_ = [
        n
        for n, claim in enumerate(frames.sweep.claims)
        if not METRICS[claim.metric].exact and not METRICS[claim.metric].of_machine
    ]
    decisions = dict(zip(open_, decide([judged[n] for n in open_], CLAIMS_RATE), strict=True))
    found = sum(
        decision is not None and decision.kind == "differs" for decision in decisions.values()
    )
    looks = frames.sweep.looks or STANDARD_LOOKS
    rate = CLAIMS_RATE / max(len(open_) - found, 1)
    verdicts: list[Verdict | None] = []
    for n, claim in enumerate(frames.sweep.claims):
        if not judged[n]:
            verdicts.append(None)
        elif METRICS[claim.metric].exact:
            verdicts.append(_exact(claim, judged[n][-1].contrast))
        else:
            decision = decisions[n]
            assert decision is not None  # noqa: S101  it has evidence
            verdicts.append(_verdict(claim, decision, looks, rate))
    return list(zip(frames.sweep.claims, verdicts, strict=True))


def told_apart(
    frames: SweepFrames,
    questions: Sequence[Groups],
    others: Mapping[str, SweepFrames],
    metric: str = ACCURACY,
) -> list[bool]:
    """Which of some differences within a sweep are certain; `others` as in `judge_claims`.

    If a claim is about the same difference, its verdict counts, so that no two answers contradict
    each other; a claim on the last epochs' accuracy is about the final one's too. For the rest,
    what `REST_RATE` allows is shared by all pairs of arms and all effects of the sweep, asked or
    not, so it does not matter that the data chose the best arm. Of other metrics than `ACCURACY`,
    only claims are certain: each would need a share of its own.
    """
    claimed = {
        verdict.contrast.question: verdict.word in {"supported", "refuted"}
        for _, verdict in judge_claims(frames, others)
        if verdict is not None
    }
    pool = pool_of({**others, frames.sweep.id: frames}.values())
    arms, factors = len(frames.sweep.arms), len(frames.sweep.grid)
    family = arms * (arms - 1) / 2 + (arms - 1 if factors > 1 else 0) + 1
    rate = REST_RATE if frames.sweep.claims else CLAIMS_RATE + REST_RATE
    certain = []
    for asked in questions:
        same = [metric]
        if metric == ACCURACY and _agree(asked, pool):
            same.append(LATE_ACCURACY)
        verdicts = [claimed[q] for q in map(asked.question, same) if q in claimed]
        if verdicts:
            certain.append(any(verdicts))
        elif metric == ACCURACY:
            (decision,) = decide([_evidence(asked, metric, pool, 0.0)], rate / family)
            certain.append(decision is not None and decision.kind == "differs")
        else:
            certain.append(False)
    return certain


def _agree(asked: Groups, pool: Pool) -> bool:
    """Whether the final accuracy and that of the last epochs differ in the same direction."""
    found = [compare(asked, metric, pool) for metric in (ACCURACY, LATE_ACCURACY)]
    one, other = (contrast.difference if contrast else 0.0 for contrast in found)
    return one * other > 0


def _evidence(
    asked: Groups,
    metric: str,
    pool: Pool,
    margin: float,
    *,
    expect_equal: bool = False,
    of_spread: bool = False,
) -> list[Evidence]:
    """The evidence at each look that the runs have reached, none while a side has no runs.

    Without a plan of looks, all seeds are one look. The margin of a ratio becomes that of its
    logarithm.
    """
    there = asked.seeds(metric)
    if not there:
        return []

    def contrast(seeds: int) -> Contrast:
        if of_spread:
            return asked.contrast_of_spreads(metric, seeds)
        return asked.contrast(metric, seeds, pool)

    plan = asked.frames.sweep.looks
    reached = [*zip(plan, weights(plan), strict=True)] if plan else [(there, 1.0)]
    if plan and there < plan[0]:  # shown, and not judged
        return [Evidence(there, 0.0, contrast(there), margin, math.nan, math.nan)]
    if METRICS[metric].ratio and not of_spread:
        _, second = asked.values(metric)
        margin = math.log1p(margin / math.exp(_mean(second)))
    found = [
        evidence(look, weight, contrast(look), margin, beyond=expect_equal)
        for look, weight in reached
        if look <= there
    ]
    if of_spread:
        few = SPREAD_EQUIVALENT
        found = [one if one.look >= few else replace(one, equivalent=1.0) for one in found]
    return found


def _mean(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)


def _verdict(claim: Claim, decision: Decision, looks: Sequence[int], rate: float) -> Verdict:
    found = decision.evidence.contrast
    word: Word = "inconclusive"
    if decision.kind == "equivalent":
        word = "supported" if claim.expect == "equal" else "equivalent"
    elif decision.kind == "differs":
        expected = claim.expect == ("higher" if found.difference > 0 else "lower")
        word = "supported" if expected else "refuted"
    low, high = found.interval(decision.level)
    margin = decision.evidence.margin
    needed = seeds_needed(found, margin, looks, rate) if word == "inconclusive" else None
    return Verdict(word, found, decision.evidence.look, low, high, decision.p, margin, needed)


def _exact(claim: Claim, found: Contrast) -> Verdict:
    """Of a metric that is the same for every seed: there is nothing to doubt."""
    word: Word
    if abs(found.difference) <= claim.margin:
        word = "supported" if claim.expect == "equal" else "equivalent"
    elif claim.expect == ("higher" if found.difference > 0 else "lower"):
        word = "supported"
    else:
        word = "refuted"
    return Verdict(word, found, found.seeds, found.low, found.high, found.p, claim.margin, None)
