"""What a sweep's runs say about its claims, and about other questions asked beside them.

A sweep has one error rate. Most of it is its claims', which are declared beforehand; the rest is
shared by all that its tables and the journal say besides. See docs/statistics.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fmnist_tuning.analysis.contrasts import Contrast, Question, contrast
from fmnist_tuning.analysis.frames import SweepFrames
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
from fmnist_tuning.analysis.spread import UNKNOWN
from fmnist_tuning.metrics import ACCURACY, LATE_ACCURACY, METRICS
from fmnist_tuning.sweeps.arms import Arm
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


@dataclass(frozen=True, slots=True)
class Groups:
    """Two groups of a sweep's arms; the second may be another sweep's."""

    frames: SweepFrames
    arms: Sequence[Arm]
    versus: Sequence[Arm]
    other: SweepFrames | None = None

    def question(self, metric: str) -> Question:
        """What a contrast between them answers."""
        sides = (frozenset(arm.config for arm in side) for side in (self.arms, self.versus))
        return metric, frozenset(sides)

    def values(self, metric: str) -> tuple[dict[int, float], dict[int, float]]:
        """A metric by seed for both, in the order of their sweep's seeds."""
        return _by_seed(self.frames, self.arms, metric), _by_seed(
            self.other or self.frames, self.versus, metric
        )


def groups(
    frames: SweepFrames,
    arm: Mapping[str, Any],
    versus: Mapping[str, Any],
    other: SweepFrames | None = None,
) -> Groups:
    """The arms that match two groups of settings; settings that are left out match all values."""
    return Groups(
        frames,
        [a for a in frames.sweep.arms if a.matches(arm)],
        [a for a in (other or frames).sweep.arms if a.matches(versus)],
        other,
    )


def compare(asked: Groups, metric: str, pool: Pool) -> Contrast | None:
    """The contrast between two groups, over all their seeds; None while a side has no runs."""
    seeds = _seeds(*asked.values(metric))
    return _contrast(asked, metric, seeds, pool) if seeds else None


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
        _evidence(groups_, claim.metric, pool, claim.margin, beyond=claim.expect == "equal")
        if groups_ and not METRICS[claim.metric].of_machine
        else []
        for claim, groups_ in zip(frames.sweep.claims, asked, strict=True)
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


def groups_of(
    claim: Claim, frames: SweepFrames, others: Mapping[str, SweepFrames]
) -> Groups | None:
    """The two groups of arms that a claim compares; None if their sweep is not in the study."""
    if claim.versus_sweep is None:
        return groups(frames, claim.arm, claim.versus)
    other = others.get(claim.versus_sweep)
    if other is None:
        return None
    asked = groups(frames, claim.arm, claim.versus, other)
    rivals = {arm.config for arm in asked.versus}
    own = [arm for arm in frames.sweep.arms if arm.config in rivals]
    # Trained here with the same seeds, they are compared pair by pair.
    return Groups(frames, asked.arms, own) if len(own) == len(rivals) else asked


def _evidence(
    asked: Groups, metric: str, pool: Pool, margin: float, *, beyond: bool = False
) -> list[Evidence]:
    """The evidence at each look that the runs have reached, none while a side has no runs.

    Without a plan of looks, all seeds are one look. The margin of a ratio becomes that of its
    logarithm.
    """
    first, second = asked.values(metric)
    there = _seeds(first, second)
    if not there:
        return []
    plan = asked.frames.sweep.looks
    reached = [*zip(plan, weights(plan), strict=True)] if plan else [(there, 1.0)]
    if plan and there < plan[0]:  # shown, and not judged
        return [
            Evidence(there, 0.0, _contrast(asked, metric, there, pool), margin, math.nan, math.nan)
        ]
    if METRICS[metric].ratio:
        margin = math.log1p(margin / math.exp(_mean(second)))
    return [
        evidence(
            look,
            weight,
            _contrast(asked, metric, look, pool),
            margin,
            beyond=beyond,
        )
        for look, weight in reached
        if look <= there
    ]


def _contrast(asked: Groups, metric: str, seeds: int, pool: Pool) -> Contrast:
    """Over the first seeds that both have; if too few are shared, over the first of each."""
    first, second = asked.values(metric)
    shared = [seed for seed in first if seed in second][:seeds]
    if len(shared) == seeds:
        first, second = ({seed: side[seed] for seed in shared} for side in (first, second))
    else:
        first, second = (dict([*side.items()][:seeds]) for side in (first, second))
    spread = UNKNOWN
    if not METRICS[metric].ratio:
        spread = pool.spread(metric, asked.arms[0].config, seeds)
    return contrast(
        first,
        second,
        arms=(len(asked.arms), len(asked.versus)),
        spread=spread,
        exact=METRICS[metric].exact,
        question=asked.question(metric),
    )


def _seeds(first: Mapping[int, float], second: Mapping[int, float]) -> int:
    """How many seeds a comparison has: pairs, if half of them or more are shared."""
    least, shared = min(len(first), len(second)), len(first.keys() & second.keys())
    return shared if 2 * shared >= least else least


def _by_seed(frames: SweepFrames, arms: Sequence[Arm], metric: str) -> dict[int, float]:
    values = frames.by_seed(arms, metric)
    order = frames.sweep.first_seeds(max(len(frames.sweep.seeds_of(arm)) for arm in arms))
    shown = {seed: values[seed] for seed in order if seed in values}
    if METRICS[metric].ratio:
        return {seed: math.log(value) for seed, value in shown.items() if value > 0}
    return shown


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
