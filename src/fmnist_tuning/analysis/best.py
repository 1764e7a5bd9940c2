"""Which arm is the best, of a sweep or of a study, and which arms may be just as good."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from fmnist_tuning.analysis.contrasts import moderated_interval
from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.analysis.pool import Pool
from fmnist_tuning.analysis.verdicts import Groups, told_apart
from fmnist_tuning.metrics import ACCURACY, LATE_ACCURACY, METRICS
from fmnist_tuning.sweeps.arms import Arm

Place = tuple[SweepFrames, Arm]
"""An arm, and the sweep that it belongs to."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An arm's place in a sweep."""

    best: bool  # it has the best mean
    tied: bool  # it is not the best arm, but cannot be told apart from it


def ranked(frames: SweepFrames, metric: str = ACCURACY) -> list[Arm]:
    """The arms that have a metric, the best mean first; equal ones in the sweep's order."""
    sign = -1 if METRICS[metric].better == "lower" else 1
    found = [
        (-sign * fmean(values.values()), arm)
        for arm in frames.arms
        if (values := frames.by_seed([arm], metric))
    ]
    return [arm for _, arm in sorted(found, key=lambda pair: pair[0])]


def highest(places: Iterable[Place]) -> Place | None:
    """The arm with the highest mean accuracy; of equal ones, the first."""
    return max(
        places,
        key=lambda place: fmean(place[0].by_seed([place[1]], ACCURACY).values()),
        default=None,
    )


def winner(sweeps: Mapping[str, SweepFrames]) -> Place:
    """The arm of a study that is surely the best; one sweep at least has a finished run.

    Of all arms, it has the highest lower end of the 95 % interval of its mean accuracy over the
    last epochs. Few seeds make a wide interval, so an arm does not win by a few lucky ones. If no
    spread is known, the highest mean wins.
    """
    places = [(frames, arm) for frames in sweeps.values() for arm in frames.arms]
    late = any(frames.by_seed([arm], LATE_ACCURACY) for frames, arm in places)
    metric = LATE_ACCURACY if late else ACCURACY
    pool = Pool(sweeps.values())

    def surely(place: Place) -> tuple[float, float]:
        values = [*place[0].by_seed([place[1]], metric).values()]
        if not values:
            return -math.inf, -math.inf
        low, _ = moderated_interval(values, pool.spread(metric, place[1].config))
        return -math.inf if math.isnan(low) else low, fmean(values)

    return max(places, key=surely)


def standings(
    frames: SweepFrames, metric: str, others: Mapping[str, SweepFrames]
) -> dict[str, Standing]:
    """Which arm has the best mean, and which arms the data cannot tell from it; by arm label.

    Every other arm is compared with the best, see `told_apart`.
    """
    arms = ranked(frames, metric)
    if not arms:
        return {}
    best, *rest = arms
    certain = told_apart(frames, [Groups(frames, [best], [arm]) for arm in rest], others, metric)
    return {best.label: Standing(best=True, tied=False)} | {
        arm.label: Standing(best=False, tied=not apart)
        for arm, apart in zip(rest, certain, strict=True)
    }
