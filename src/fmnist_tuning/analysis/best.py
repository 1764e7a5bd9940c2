"""Which arm is the best: of a sweep, of a study, and what the data cannot tell from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.analysis.verdicts import contrast_arms, told_apart
from fmnist_tuning.metrics import ACCURACY, METRICS
from fmnist_tuning.sweeps.arms import Arm

Place = tuple[SweepFrames, Arm]
"""An arm, and the sweep that it is of."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An arm's place in a sweep.

    Attributes:
        best: Its mean is the best one.
        tied: It cannot be told apart from the best (the best arm itself left out).
    """

    best: bool
    tied: bool


def ranked(frames: SweepFrames, metric: str = ACCURACY) -> list[Arm]:
    """The arms that have a metric, the best mean first; equal ones in the sweep's order."""
    sign = -1 if METRICS[metric].better == "lower" else 1
    means = {
        arm.label: fmean(values.values())
        for arm in frames.arms
        if (values := frames.by_seed([arm], metric))
    }
    found = [arm for arm in frames.arms if arm.label in means]
    return sorted(found, key=lambda arm: -sign * means[arm.label])


def highest(places: Iterable[Place]) -> Place | None:
    """The arm with the highest mean accuracy; of equal ones, the first."""
    return max(
        places,
        key=lambda place: fmean(place[0].by_seed([place[1]], ACCURACY).values()),
        default=None,
    )


def winner(sweeps: Mapping[str, SweepFrames]) -> Place:
    """The arm to take home, by mean validation accuracy, and the sweep that it is of.

    Where there are combinations, only their arms stand: fresh seeds judged them.

    Args:
        sweeps: With at least one finished run among them.
    """
    finished = [frames for frames in sweeps.values() if frames.arms]
    combined = [frames for frames in finished if frames.sweep.combine is not None]
    found = highest((frames, arm) for frames in combined or finished for arm in frames.arms)
    assert found is not None  # noqa: S101  the caller has a finished run
    return found


def standings(
    frames: SweepFrames, metric: str, others: Mapping[str, SweepFrames]
) -> dict[str, Standing]:
    """Which arm has the best mean, and which ones the data cannot tell from it; by arm label.

    Every other arm is compared with the best, see `told_apart`. The best is chosen by the same
    data, which flatters it: an arm that is told apart from it may be better than it looks.
    """
    arms = ranked(frames, metric)
    if not arms:
        return {}
    best, *rest = arms
    contrasts = [found for arm in rest if (found := contrast_arms(frames, [best], [arm], metric))]
    certain = told_apart(frames, contrasts, others)
    return {best.label: Standing(best=True, tied=False)} | {
        arm.label: Standing(best=False, tied=not apart)
        for arm, apart in zip(rest, certain, strict=True)
    }
