"""Two groups of arms and their contrast, in the mean of a metric or in its spread between seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Final

from fmnist_tuning.analysis.contrasts import Contrast, Question, contrast
from fmnist_tuning.analysis.spread import UNKNOWN
from fmnist_tuning.metrics import METRICS

if TYPE_CHECKING:
    from fmnist_tuning.analysis.frames import SweepFrames
    from fmnist_tuning.analysis.pool import Pool
    from fmnist_tuning.sweeps.arms import Arm
    from fmnist_tuning.sweeps.sections import Claim

    Side = tuple[SweepFrames, Sequence[Arm]]


SPREAD_SEEDS: Final = 8
"""From so many on, a claim about the spread is judged: see docs/statistics.md."""

SPREAD_EQUIVALENT: Final = 18
"""From so many on, it may be found equivalent."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Two groups of a sweep's arms; the second may be another sweep's."""

    frames: "SweepFrames"
    arms: "Sequence[Arm]"
    versus: "Sequence[Arm]"
    other: "SweepFrames | None" = None

    @property
    def sides(self) -> "tuple[Side, Side]":
        """Both groups, each with its sweep."""
        return (self.frames, self.arms), (self.other or self.frames, self.versus)

    def question(self, metric: str) -> Question:
        """What a contrast between their means answers."""
        sides = (frozenset(arm.config for arm in side) for side in (self.arms, self.versus))
        return metric, frozenset(sides)

    def values(self, metric: str) -> tuple[dict[int, float], dict[int, float]]:
        """A metric by seed for both, in the order of their sweep's seeds."""
        first, second = (_by_seed(frames, arms, metric) for frames, arms in self.sides)
        return first, second

    def seeds(self, metric: str) -> int:
        """How many seeds a comparison has: pairs, if half of them or more are shared."""
        first, second = self.values(metric)
        least, shared = min(len(first), len(second)), len(first.keys() & second.keys())
        return shared if 2 * shared >= least else least

    def first(self, metric: str, seeds: int) -> tuple[list[int], list[int]]:
        """The first seeds that both have; if too few are shared, the first of each."""
        first, second = self.values(metric)
        shared = [seed for seed in first if seed in second][:seeds]
        if len(shared) == seeds:
            return shared, shared
        return [*first][:seeds], [*second][:seeds]

    def contrast(self, metric: str, seeds: int, pool: "Pool") -> Contrast:
        """The difference of the means over so many first seeds."""
        first, second = (
            {seed: values[seed] for seed in chosen}
            for values, chosen in zip(self.values(metric), self.first(metric, seeds), strict=True)
        )
        configs = [arm.config for arm in (*self.arms, *self.versus)]
        return contrast(
            first,
            second,
            arms=(len(self.arms), len(self.versus)),
            spread=UNKNOWN if METRICS[metric].ratio else pool.spread(metric, configs, seeds),
            exact=METRICS[metric].exact,
            question=self.question(metric),
        )

    def contrast_of_spreads(self, metric: str, seeds: int) -> Contrast:
        """The difference of the mean distances from the median, over so many first seeds.

        Each run's distance is that from its own arm's median. This is the test of Levene in the
        form of Brown and Forsythe, Journal of the American Statistical Association 69 (1974), which
        needs no normal distribution; of runs with the same seeds, distances are compared pair by
        pair. With few seeds it does not keep its error rate, and nothing is said.
        """
        first, second = (
            _distances(side, metric, chosen)
            for side, chosen in zip(self.sides, self.first(metric, seeds), strict=True)
        )
        _, sides = self.question(metric)
        found = contrast(first, second, question=(f"spread of {metric}", sides))
        if seeds >= SPREAD_SEEDS:
            return found
        nan = math.nan
        return replace(found, low=nan, high=nan, p=nan, error=nan, method="one seed")


def matching(
    frames: "SweepFrames",
    arm: Mapping[str, Any],
    versus: Mapping[str, Any],
    other: "SweepFrames | None" = None,
) -> Groups:
    """The arms that match two groups of settings; settings that are left out match all values."""
    return Groups(
        frames,
        [a for a in frames.sweep.arms if a.matches(arm)],
        [a for a in (other or frames).sweep.arms if a.matches(versus)],
        other,
    )


def groups_of(
    claim: "Claim", frames: "SweepFrames", others: "Mapping[str, SweepFrames]"
) -> Groups | None:
    """The two groups of arms that a claim compares; None if their sweep is not in the study."""
    if claim.versus_sweep is None:
        return matching(frames, claim.arm, claim.versus)
    other = others.get(claim.versus_sweep)
    if other is None:
        return None
    asked = matching(frames, claim.arm, claim.versus, other)
    rivals = {arm.config for arm in asked.versus}
    own = [arm for arm in frames.sweep.arms if arm.config in rivals]
    # Trained here with the same seeds, they are compared pair by pair.
    return Groups(frames, asked.arms, own) if len(own) == len(rivals) else asked


def compare(asked: Groups, metric: str, pool: "Pool") -> Contrast | None:
    """The contrast between two groups, over all their seeds; None while a side has no runs."""
    seeds = asked.seeds(metric)
    return asked.contrast(metric, seeds, pool) if seeds else None


def _by_seed(frames: "SweepFrames", arms: "Sequence[Arm]", metric: str) -> dict[int, float]:
    values = frames.by_seed(arms, metric)
    order = frames.sweep.first_seeds(max(len(frames.sweep.seeds_of(arm)) for arm in arms))
    shown = {seed: values[seed] for seed in order if seed in values}
    if METRICS[metric].ratio:
        return {seed: math.log(value) for seed, value in shown.items() if value > 0}
    return shown


def _distances(side: "Side", metric: str, seeds: Sequence[int]) -> dict[int, float]:
    """The mean distance of a group's runs from the medians of their arms, by seed."""
    frames, arms = side
    values = [_by_seed(frames, [arm], metric) for arm in arms]
    middles = [median(own[seed] for seed in seeds) for own in values]
    return {
        seed: fmean(abs(own[seed] - middle) for own, middle in zip(values, middles, strict=True))
        for seed in seeds
    }
