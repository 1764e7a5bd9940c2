"""Differences between groups of runs: how large they are, and how certain.

The methods, their assumptions and their error rates by simulation are in docs/statistics.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fmnist_tuning.sweeps.settings import RunConfig

CONFIDENCE: Final = 0.95
Method = Literal["paired t", "Welch t", "exact", "one seed"]

Side = tuple[frozenset[RunConfig], frozenset[int]]
"""A group of runs: the settings of its arms, and its seeds."""

Question = tuple[str, frozenset[Side]]
"""What a contrast is about: a metric and two groups, in either order."""


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
    deviation: float  # standard deviation of one pair's difference; see `verdicts.seeds_needed`
    method: Method
    question: Question | None = None  # what it answers, so that it is recognised when asked again


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % t interval of the mean; (NaN, NaN) for fewer than two values."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:  # noqa: PLR2004
        return math.nan, math.nan
    half = t_quantile(len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample))
    return sample.mean() - half, sample.mean() + half


def contrast(
    first: Mapping[int, float],
    second: Mapping[int, float],
    *,
    exact: bool = False,
    question: Question | None = None,
) -> Contrast:
    """Compare two groups of runs, given as a metric by seed (or the mean of several arms by seed).

    If both groups have the same seeds, they are compared pair by pair (paired t), because runs with
    one seed share their batches and, where layers agree, their initial weights. Otherwise Welch's
    t compares them, which assumes neither pairs nor equal spreads. A metric that is `exact` is
    the same for every seed.

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
        return Contrast(difference, difference, difference, p, seeds, 0.0, "exact", question)
    nan = math.nan
    unknown = Contrast(difference, nan, nan, nan, seeds, nan, "one seed", question)
    if seeds < 2:  # noqa: PLR2004
        return unknown
    method: Method
    if set(first) == set(second):
        pairs, method = np.array([first[seed] - second[seed] for seed in first]), "paired t"
        deviation, freedom = float(pairs.std(ddof=1)), float(len(pairs) - 1)
        error = deviation / math.sqrt(len(pairs))
    else:
        method = "Welch t"
        deviation, error, freedom = _welch(one, other)
    if not error > 0:
        # Accuracies are counts of images, so several of them can be equal by chance. That no
        # spread was seen does not mean that there is none.
        return unknown
    half = t_quantile(freedom) * error
    p = float(2 * special.stdtr(freedom, -abs(difference) / error))
    low, high = difference - half, difference + half
    return Contrast(difference, low, high, p, seeds, deviation, method, question)


def _welch(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    """The deviation of a pair's difference, the standard error, and the degrees of freedom."""
    variances = float(one.var(ddof=1)), float(other.var(ddof=1))
    shares = variances[0] / len(one), variances[1] / len(other)
    # Welch-Satterthwaite.
    weights = shares[0] ** 2 / (len(one) - 1) + shares[1] ** 2 / (len(other) - 1)
    freedom = sum(shares) ** 2 / weights if weights else math.nan
    return math.sqrt(sum(variances)), math.sqrt(sum(shares)), freedom


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, which bounds the chance of any false finding in the family.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6 (1979). NaN stays NaN, but counts as one of the tests.
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


@cache
def t_quantile(freedom: float) -> float:
    """95 % of Student's t distribution lie between minus and plus this value."""
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
