"""How much repeats of one configuration differ: a spread pooled over all arms of a study.

Three seeds say little about the spread of one difference. All arms together say much more, if
their spreads are alike. The method is the moderated t of Smyth, Linear Models and Empirical Bayes
Methods for Assessing Differential Expression (2004), with the weight of the pool held fixed: see
docs/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PRIOR_FREEDOM: Final = 4.0
"""For how many degrees of freedom the pool counts beside the arms of a contrast. It is fixed,
because estimates of it jump between 2 and infinity on neighbouring metrics of one study.
"""

POOL_FREEDOM: Final = 8
"""With fewer degrees of freedom the pool itself is too uncertain to be used."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Variances of one metric over a study's runs, in its squared unit; NaN where unknown."""

    paired: float = math.nan  # left after the effects of arm and seed
    freedom: int = 0
    within: float = math.nan  # between the seeds of an arm
    within_freedom: int = 0

    @property
    def prior(self) -> float:
        """For how many degrees of freedom it counts in a contrast."""
        return PRIOR_FREEDOM if self.freedom >= POOL_FREEDOM and self.paired > 0 else 0.0


UNKNOWN: Final = Spread()


def pooled(
    arms: NDArray[np.int64], seeds: NDArray[np.int64], values: NDArray[np.float64]
) -> Spread:
    """The spread of a metric over runs, by least squares on indicators of arm and seed.

    Args:
        arms: (N,) which arm each run has, counted from 0.
        seeds: (N,) which seed each run has, counted from 0.
        values: (N,) the metric, finite; one for each arm and seed at most.

    The columns of the arms are swept out first, so the equations left have one unknown a seed:
    Searle, Linear Models for Unbalanced Data (1987), chapter 4.
    """
    table = np.zeros((arms.max() + 1, seeds.max() + 1))
    table[arms, seeds] = 1.0
    sizes = table.sum(axis=1)
    means = np.bincount(arms, values, len(sizes)) / sizes
    left = values - means[arms]
    within_freedom = len(values) - len(sizes)
    total = float(left @ left)
    normal = np.diag(table.sum(axis=0)) - table.T @ (table / sizes[:, None])
    sums = np.bincount(seeds, left, table.shape[1])
    effects, _, rank, _ = np.linalg.lstsq(normal, sums, rcond=1e-9)
    freedom = within_freedom - int(rank)
    paired = max(total - float(effects @ sums), 0.0)
    return Spread(
        paired / freedom if freedom > 0 else math.nan,
        max(freedom, 0),
        total / within_freedom if within_freedom > 0 else math.nan,
        max(within_freedom, 0),
    )


def numbered(labels: Sequence[object]) -> NDArray[np.int64]:
    """Labels as numbers from 0, equal ones alike."""
    places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return np.array([places[label] for label in labels], dtype=np.int64)
