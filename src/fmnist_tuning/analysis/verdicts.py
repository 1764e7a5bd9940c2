"""What a sweep's runs say of its claims, and of whatever else is asked beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from scipy import special

from fmnist_tuning.analysis.contrasts import CONFIDENCE, Contrast, contrast, holm, t_quantile
from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.sweep import Claim

POWER: Final = 0.8
MAX_SEEDS: Final = 1_000
"""Beyond so many seeds an answer is out of reach."""

Word = Literal["supported", "refuted", "equivalent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a claim has come to.

    Attributes:
        word: The verdict.
        contrast: Oriented as the claim words it: `arm` minus `versus`.
        p_adjusted: Holm's, within the claims of one sweep.
        seeds_needed: How many seeds would decide an inconclusive claim with 80 % power, were the
            difference and the spread what they look like; None where that is not known or more
            than 1,000.
    """

    word: Word
    contrast: Contrast
    p_adjusted: float
    seeds_needed: int | None


def contrast_arms(
    frames: SweepFrames,
    arms: Sequence[Arm],
    versus: Sequence[Arm],
    metric: str,
    other: SweepFrames | None = None,
) -> Contrast | None:
    """The contrast between two groups of arms; None while a side has no runs.

    Args:
        frames: The sweep of `arms`.
        arms: Whose mean counts.
        versus: The same for the other side.
        metric: Of a finished run.
        other: The sweep of `versus`, where it is another one.
    """
    first, second = frames.by_seed(arms, metric), (other or frames).by_seed(versus, metric)
    if not first or not second:
        return None
    sides = frozenset(
        (frozenset(arm.config for arm in side), frozenset(values))
        for side, values in ((arms, first), (versus, second))
    )
    return contrast(first, second, exact=METRICS[metric].exact, question=(metric, sides))


def compare(
    frames: SweepFrames,
    arm: Mapping[str, Any],
    versus: Mapping[str, Any],
    metric: str,
    *,
    other: SweepFrames | None = None,
) -> Contrast | None:
    """The contrast between the arms that two selectors pick; None while a side has no runs.

    Args:
        frames: The sweep of `arm`.
        arm: Settings that pick arms, whose mean counts.
        versus: The same for the other side.
        metric: Of a finished run.
        other: The sweep of `versus`, where it is another one.
    """
    return contrast_arms(
        frames,
        [a for a in frames.sweep.arms if a.matches(arm)],
        [a for a in (other or frames).sweep.arms if a.matches(versus)],
        metric,
        other,
    )


def judge_claims(
    frames: SweepFrames, others: Mapping[str, SweepFrames]
) -> list[tuple[Claim, Verdict | None]]:
    """The verdict of each of a sweep's claims, None where its runs are missing.

    Holm's adjustment takes the sweep's claims together, those with missing runs left out.

    Args:
        frames: The sweep with the claims.
        others: Every sweep of the study by id, for claims that compare with another one.
    """
    contrasts = [
        compare(
            frames,
            claim.arm,
            claim.versus,
            claim.metric,
            other=others.get(claim.versus_sweep) if claim.versus_sweep else None,
        )
        if claim.versus_sweep is None or claim.versus_sweep in others
        else None
        for claim in frames.sweep.claims
    ]
    known = [(c, k) for c, k in zip(frames.sweep.claims, contrasts, strict=True) if k is not None]
    verdicts = iter(
        judge([k for _, k in known], [c.expect for c, _ in known], [c.margin for c, _ in known])
    )
    return [
        (claim, next(verdicts) if found is not None else None)
        for claim, found in zip(frames.sweep.claims, contrasts, strict=True)
    ]


def told_apart(
    frames: SweepFrames,
    contrasts: Sequence[Contrast],
    others: Mapping[str, SweepFrames],
) -> list[bool]:
    """Which of some differences within a sweep are certain.

    A difference that one of the sweep's claims is about is judged as the claim is, so that no two
    answers contradict each other; the rest Holm-adjusted together with the claims.

    Args:
        frames: The sweep.
        contrasts: A family of questions that are asked beside the claims.
        others: Every sweep of the study by id.
    """
    verdicts = [verdict for _, verdict in judge_claims(frames, others) if verdict is not None]
    claimed = {verdict.contrast.question: verdict.p_adjusted for verdict in verdicts}
    rest = [found.p for found in contrasts if found.question not in claimed]
    adjusted = iter(holm([*rest, *(verdict.contrast.p for verdict in verdicts)]))
    certain = []
    for found in contrasts:
        p = claimed[found.question] if found.question in claimed else next(adjusted)
        certain.append(p < 1 - CONFIDENCE)  # NaN is not
    return certain


def judge(
    contrasts: Sequence[Contrast],
    expected: Sequence[Literal["higher", "lower", "equal"]],
    margins: Sequence[float],
) -> list[Verdict]:
    """Give each of a family of claims its verdict.

    - *equivalent*: the whole 95 % interval lies within the margin on either side of zero: whatever
      the difference is, it does not matter. For a claim that expects no difference, *supported*.
    - *supported*, *refuted*: the difference is certain (Holm-adjusted p < 0.05) and has the
      expected sign, or the opposite one. A claim of no difference is refuted only by an interval
      that lies wholly beyond the margin.
    - *inconclusive*: the seeds so far do not tell.
    """
    adjusted = holm([c.p for c in contrasts])
    verdicts = []
    for found, expect, margin, p in zip(contrasts, expected, margins, adjusted, strict=True):
        certain = p < 1 - CONFIDENCE
        small = found.low >= -margin and found.high <= margin
        word: Word = "inconclusive"
        if expect == "equal":
            if small:
                word = "supported"
            elif certain and (found.low > margin or found.high < -margin):
                word = "refuted"
        elif small:
            word = "equivalent"
        elif certain:
            word = "supported" if (found.difference > 0) == (expect == "higher") else "refuted"
        needed = seeds_needed(found, margin) if word == "inconclusive" else None
        verdicts.append(Verdict(word, found, p, needed))
    return verdicts


def seeds_needed(found: Contrast, margin: float) -> int | None:
    """The smallest number of seeds that tells a difference like this from zero, or from the margin.

    For a power of 80 %, from the difference and the spread as they look now; see Cohen, Statistical
    Power Analysis for the Behavioral Sciences (1988), with t quantiles in place of normal ones.
    """
    if math.isnan(found.deviation):
        return None
    targets = [abs(found.difference), margin - abs(found.difference)]
    reach = max(targets)  # whichever is decided first
    if reach <= 0:
        return None
    for seeds in range(max(found.seeds, 1) + 1, MAX_SEEDS + 1):
        if _detectable(seeds) * found.deviation <= reach:
            return seeds
    return None


@cache
def _detectable(seeds: int) -> float:
    """The difference that so many seeds see with the wanted power, in standard deviations."""
    return float((t_quantile(seeds - 1) + special.stdtrit(seeds - 1, POWER)) / math.sqrt(seeds))
