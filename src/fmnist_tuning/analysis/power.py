"""What numbers of seeds can see: forecasts before a training, from a spread.

Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), with t quantiles in place of
normal ones.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import special

from fmnist_tuning.analysis.contrasts import Contrast
from fmnist_tuning.analysis.looks import weights

POWER: Final = 0.8
_SHARES: Final = np.linspace(0.25, 0.75, 9)

Needed = tuple[int, int | None]
"""The fewest and the most seeds that should decide a claim; None if no look is late enough."""


def detectable(seeds: int, deviation: float, prior: float, level: float) -> float:
    """The difference that this many seeds tell from zero with a power of 80 %.

    Args:
        seeds: Of each arm.
        deviation: Standard deviation of one pair's difference.
        prior: Degrees of freedom of the pool.
        level: 1 minus the confidence of the interval that must exclude zero.
    """
    freedom = prior + seeds - 1
    quantiles = special.stdtrit(freedom, 1 - level / 2) + special.stdtrit(freedom, POWER)
    return float(quantiles) * deviation / math.sqrt(seeds)


def seeds_needed(
    found: Contrast, margin: float, looks: Sequence[int], level: float
) -> Needed | None:
    """How many seeds should decide a claim with a power of 80 %, as a range; None if unknown.

    The true difference is not known either: the range is that of the middle half of what the runs
    speak for. A difference near zero is decided as equivalent, one near half the margin last.

    Args:
        found: The claim's contrast so far.
        margin: The smallest difference that matters.
        looks: All looks of the plan.
        level: Of the claim's family: the error rate, divided by the claims still in it.
    """
    if math.isnan(found.error):
        return None
    prior = found.freedom - (found.seeds - 1)
    later = [
        (look, detectable(look, found.deviation, prior, level * weight))
        for look, weight in zip(looks, weights(looks), strict=True)
        if look > found.seeds
    ]
    needed = []
    for quantile in special.stdtrit(found.freedom, _SHARES):
        size = abs(found.difference + quantile * found.error)
        reach = max(size, margin - size)  # of zero and of the margin, the one farther away
        needed.append(next((look for look, seen in later if seen <= reach), math.inf))
    low, high = min(needed), max(needed)
    if low == math.inf:
        return None
    return int(low), None if high == math.inf else int(high)
