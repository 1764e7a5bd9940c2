"""Differences between groups of runs: how large, how certain, and what to call them.

The methods, their assumptions and their error rates by simulation are in docs/statistics.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np
from scipy import special

CONFIDENCE: Final = 0.95
POWER: Final = 0.8
MAX_SEEDS: Final = 1_000
"""Beyond so many seeds an answer is out of reach."""

EXACT_METRICS: Final = frozenset({"total_params"})
"""The same for every seed: one run tells all."""

Method = Literal["paired t", "Welch t", "exact", "one seed"]
Word = Literal["supported", "refuted", "equivalent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Contrast:
    """The difference between two groups of runs, the first minus the second.

    Attributes:
        difference: Of the means, in the metric's own unit.
        low: Lower end of the 95 % interval; NaN where the spread is unknown.
        high: Its upper end.
        p: Two-sided probability of a difference as large by chance alone; NaN like the interval.
        seeds: Of the smaller group.
        deviation: Standard deviation of a single pair's difference, from which the number of
            seeds that an answer needs is judged; NaN like the interval.
        method: How the interval was made.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds: int
    deviation: float
    method: Method

    @property
    def certain(self) -> bool:
        """Whether the interval, on its own, excludes no difference."""
        return self.low > 0 or self.high < 0


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


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % t interval of the mean; (NaN, NaN) for a single value, whose spread is unknown."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:  # noqa: PLR2004
        return math.nan, math.nan
    half = _t(len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample))
    return sample.mean() - half, sample.mean() + half


def contrast(
    first: Mapping[int, float], second: Mapping[int, float], *, exact: bool = False
) -> Contrast:
    """Compare two groups of runs.

    Groups with the same seeds are compared pair by pair (paired t): runs that share a seed share
    their batches and, where layers agree, their initial weights. Others by Welch's t, which
    assumes neither pairs nor equal spreads.

    Args:
        first: A metric by seed; a value may be the mean of several arms.
        second: The same for the group compared with.
        exact: The metric is the same for every seed.

    Raises:
        ValueError: When a group is empty.
    """
    if not first or not second:
        raise ValueError("a contrast needs runs on both sides")
    one, other = np.array([*first.values()]), np.array([*second.values()])
    difference = float(one.mean() - other.mean())
    seeds = min(len(one), len(other))
    if exact:
        p = 1.0 if difference == 0 else 0.0
        return Contrast(difference, difference, difference, p, seeds, 0.0, "exact")
    unknown = Contrast(difference, math.nan, math.nan, math.nan, seeds, math.nan, "one seed")
    if seeds < 2:  # noqa: PLR2004
        return unknown
    freedom: float
    if set(first) == set(second):
        pairs = np.array([first[seed] - second[seed] for seed in first])
        deviation, method = float(pairs.std(ddof=1)), "paired t"
        error, freedom = deviation / math.sqrt(len(pairs)), len(pairs) - 1
    else:
        shares = one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)
        error = math.sqrt(sum(shares))
        # Welch-Satterthwaite.
        weights = shares[0] ** 2 / (len(one) - 1) + shares[1] ** 2 / (len(other) - 1)
        freedom = sum(shares) ** 2 / weights if weights else math.nan
        deviation, method = math.sqrt(one.var(ddof=1) + other.var(ddof=1)), "Welch t"
    if not error > 0:
        # Values on a grid, such as counts of 10,000 images, can agree by chance; that no spread
        # was seen does not say that there is none.
        return unknown
    half = _t(freedom) * error
    return Contrast(
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=float(2 * special.stdtr(freedom, -abs(difference) / error)),
        seeds=seeds,
        deviation=deviation,
        method=method,  # type: ignore[arg-type]
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, which bounds the chance of any false finding in the family.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6 (1979). NaN stays NaN, and counts among the tests all the same.
    """
    order = sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        if math.isnan(p_values[index]):
            break
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


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
    return float((_t(seeds - 1) + special.stdtrit(seeds - 1, POWER)) / math.sqrt(seeds))


@cache
def _t(freedom: float) -> float:
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
