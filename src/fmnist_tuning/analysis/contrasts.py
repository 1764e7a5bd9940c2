"""Differences between groups of runs: how large they are, and how certain.

The methods, their assumptions and their error rates by simulation are in docs/statistics.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fmnist_tuning.analysis.spread import UNKNOWN, Spread

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.settings import RunConfig

CONFIDENCE: Final = 0.95
_ROUNDING: Final = 1e-12
Method = Literal["paired t", "unpaired t", "exact", "one seed"]

Question = tuple[str, frozenset[frozenset["RunConfig"]]]
"""What a contrast is about: a metric and the settings of two groups of arms, in either order."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """The difference between two groups of runs, the first minus the second.

    `low` and `high` are the ends of the 95 % interval. They, `p` and `deviation` are NaN where the
    spread is unknown.
    """

    difference: float  # of the means, in the metric's own unit
    low: float
    high: float
    p: float  # the two-sided probability of a difference this large by chance alone
    seeds: int  # of the smaller group
    deviation: float  # standard deviation of one pair's difference
    method: Method
    error: float = math.nan  # standard error of the difference
    freedom: float = math.nan  # its degrees of freedom
    question: Question | None = None  # what it answers, so that it is recognised when asked again

    def shares(self, margin: float) -> tuple[float, float, float]:
        """How much of what the runs speak for lies below, within and above the margin.

        The posterior of the difference for a flat prior, which is the t distribution of its
        interval: Gelman et al., Bayesian Data Analysis, chapter 3.
        """
        below, above = (
            float(special.stdtr(self.freedom, (sign * -self.difference - margin) / self.error))
            for sign in (1, -1)
        )
        return below, 1 - below - above, above

    def interval(self, level: float) -> tuple[float, float]:
        """The ends of the interval with the confidence 1 - `level`."""
        half = float(special.stdtrit(self.freedom, 1 - level / 2)) * self.error
        return self.difference - half, self.difference + half


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % t interval of the mean; (NaN, NaN) for fewer than two values."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:  # noqa: PLR2004
        return math.nan, math.nan
    half = t_quantile(len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample))
    return sample.mean() - half, sample.mean() + half


def moderated_interval(values: Sequence[float], spread: Spread) -> tuple[float, float]:
    """The 95 % interval of the mean of one arm's runs, by the study's spread and their own.

    (NaN, NaN) if neither is known.
    """
    if len(values) < 2 and not spread.prior:  # noqa: PLR2004
        return math.nan, math.nan
    sample = np.asarray(values, dtype=float)
    variance, freedom = _moderated(sample, 1.0, spread.within, spread.prior)
    half = t_quantile(freedom) * math.sqrt(variance / len(sample))
    return float(sample.mean() - half), float(sample.mean() + half)


def contrast(
    first: Mapping[int, float],
    second: Mapping[int, float],
    *,
    arms: tuple[int, int] = (1, 1),
    spread: Spread = UNKNOWN,
    exact: bool = False,
    question: Question | None = None,
) -> Contrast:
    """Compare two groups of runs, given as a metric by seed (or the mean of several arms by seed).

    If both groups have the same seeds, they are compared pair by pair (paired t), because runs with
    one seed share their batches and, where layers agree, their initial weights. Otherwise they are
    compared group by group. The variance of either is moderated by the study's pooled one s0²:
    s̃² = (d0 κ s0² + (n − 1) s²) / (d0 + n − 1), with d0 + n − 1 degrees of freedom, κ being the sum
    of the squares of the arms' weights. Without a pool (d0 = 0) the first is the paired t test.

    Args:
        first: A metric by seed.
        second: The same, of the group that is subtracted.
        arms: Of how many arms each is the mean.
        spread: The pooled variances of the metric.
        exact: Whether the metric is the same for every seed.
        question: What is asked, to be kept.

    Raises:
        ValueError: When a group is empty.
    """
    if not first or not second:
        raise ValueError("a contrast needs runs on both sides")
    one, other = np.array([*first.values()]), np.array([*second.values()])
    difference = float(one.mean() - other.mean())
    seeds, nan = min(len(one), len(other)), math.nan
    unknown = Contrast(difference, nan, nan, nan, seeds, nan, "one seed", question=question)
    if exact:
        p = 1.0 if difference == 0 else 0.0
        return replace(unknown, low=difference, high=difference, p=p, deviation=0.0, method="exact")
    if seeds < 2:  # noqa: PLR2004
        return unknown
    paired = first.keys() == second.keys()
    differ = _pairs if paired else _sides
    variance, error, freedom = differ(first, second, arms, spread)
    if not error > _ROUNDING * max(abs(one).max(), abs(other).max()):
        # Accuracies are counts of images, so several of them can be equal by chance. That no
        # spread was seen does not mean that there is none.
        return unknown
    method: Method = "paired t" if paired else "unpaired t"
    return _certain_to(replace(unknown, method=method, error=error, freedom=freedom), variance)


def _certain_to(found: Contrast, variance: float) -> Contrast:
    """A contrast whose error is known, with its interval and p value."""
    half = t_quantile(found.freedom) * found.error
    return replace(
        found,
        low=found.difference - half,
        high=found.difference + half,
        p=float(2 * special.stdtr(found.freedom, -abs(found.difference) / found.error)),
        deviation=math.sqrt(variance),
    )


def _pairs(
    first: Mapping[int, float], second: Mapping[int, float], arms: tuple[int, int], spread: Spread
) -> tuple[float, float, float]:
    """The variance of a pair's difference, the standard error, and the degrees of freedom."""
    pairs = np.array([first[seed] - second[seed] for seed in first])
    kappa = sum(1 / count for count in arms)
    variance, freedom = _moderated(pairs, kappa, spread.paired, spread.prior)
    return variance, math.sqrt(variance / len(pairs)), freedom


def _sides(
    first: Mapping[int, float], second: Mapping[int, float], arms: tuple[int, int], spread: Spread
) -> tuple[float, float, float]:
    """The same of two groups with other seeds, each with its own variance."""
    sides = [
        (*_moderated(np.array([*side.values()]), 1 / count, spread.within, spread.prior), len(side))
        for side, count in zip((first, second), arms, strict=True)
    ]
    variance = sum(own for own, _, _ in sides)
    error = math.sqrt(sum(own / count for own, _, count in sides))
    return variance, error, min(freedom for _, freedom, _ in sides)


def _moderated(
    sample: NDArray[np.float64], kappa: float, pool: float, prior: float
) -> tuple[float, float]:
    """The variance of a sample and its degrees of freedom, both with the pool's share."""
    own = len(sample) - 1
    shared = prior * kappa * pool if prior else 0.0
    apart = own * float(sample.var(ddof=1)) if own else 0.0
    return (shared + apart) / (prior + own), prior + own


@cache
def t_quantile(freedom: float) -> float:
    """95 % of Student's t distribution lie between minus and plus this value."""
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
