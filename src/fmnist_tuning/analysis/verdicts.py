"""What a sweep's runs say about its claims, and about other questions asked beside them."""

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
SEEDS_SEARCHED: Final = 1_000
"""Nobody will train more seeds than this."""

Word = Literal["supported", "refuted", "equivalent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the runs say about a claim."""

    word: Word
    contrast: Contrast  # in the claim's direction: `arm` minus `versus`
    p_adjusted: float  # by Holm, within the claims of one sweep
    seeds_needed: int | None  # for an inconclusive claim; see the function `seeds_needed`


def contrast_arms(
    frames: SweepFrames,
    arms: Sequence[Arm],
    versus: Sequence[Arm],
    metric: str,
    other: SweepFrames | None = None,
) -> Contrast | None:
    """The contrast between the means of two groups of arms; None while a side has no runs.

    `other` is the sweep of `versus`, if that is another one than `frames`.
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
    """The contrast between the arms that match two groups of settings, as `contrast_arms` does it.

    Settings that are left out are not compared. If several arms match, their mean is used.
    """
    arms = [a for a in frames.sweep.arms if a.matches(arm)]
    others = [a for a in (other or frames).sweep.arms if a.matches(versus)]
    return contrast_arms(frames, arms, others, metric, other)


def judge_claims(
    frames: SweepFrames, others: Mapping[str, SweepFrames]
) -> list[tuple[Claim, Verdict | None]]:
    """The verdict on each of a sweep's claims, None where its runs are missing.

    Holm's adjustment takes the sweep's claims together, but for those with missing runs. `others`
    are the study's sweeps by id, for claims that compare with another sweep.
    """
    judged: list[tuple[Claim, Contrast | None]] = []
    for claim in frames.sweep.claims:
        other = frames if claim.versus_sweep is None else others.get(claim.versus_sweep)
        found = None
        if other is not None:
            found = compare(frames, claim.arm, claim.versus, claim.metric, other=other)
        judged.append((claim, found))
    known = [(claim, found) for claim, found in judged if found is not None]
    verdicts = iter(
        judge([k for _, k in known], [c.expect for c, _ in known], [c.margin for c, _ in known])
    )
    return [(claim, next(verdicts) if found is not None else None) for claim, found in judged]


def told_apart(
    frames: SweepFrames, contrasts: Sequence[Contrast], others: Mapping[str, SweepFrames]
) -> list[bool]:
    """Which of some differences within a sweep are certain; `others` as in `judge_claims`.

    If a claim of the sweep is about the same difference, the claim's p value counts, so that no two
    answers contradict each other. The rest are Holm-adjusted together with the claims.
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

    - *equivalent*: the whole 95 % interval lies within the margin on either side of zero, so the
      difference is too small to matter. A claim that expects no difference is then *supported*.
    - *supported*, *refuted*: the difference is certain (Holm-adjusted p < 0.05) and has the
      expected sign, or the opposite one. A claim of no difference is refuted only by an interval
      that lies wholly beyond the margin.
    - *inconclusive*: there are too few seeds to tell.
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

    For a power of 80 %, if the true difference and spread are as measured; None if that is unknown
    or takes more than 1,000 seeds. See Cohen, Statistical Power Analysis for the Behavioral
    Sciences (1988), with t quantiles in place of normal ones.
    """
    reach = max(abs(found.difference), margin - abs(found.difference))  # the one decided first
    if math.isnan(found.deviation) or reach <= 0:
        return None
    for seeds in range(max(found.seeds, 1) + 1, SEEDS_SEARCHED + 1):
        if _detectable(seeds) * found.deviation <= reach:
            return seeds
    return None


@cache
def _detectable(seeds: int) -> float:
    """The difference, in standard deviations, that this many seeds detect with the power above."""
    return float((t_quantile(seeds - 1) + special.stdtrit(seeds - 1, POWER)) / math.sqrt(seeds))
