"""Which arm is the best, of a sweep or of a study, and which arms may be just as good."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from fmnist_tuning.analysis.contrasts import moderated_interval
from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.analysis.groups import Groups, matching
from fmnist_tuning.analysis.pool import pool_of
from fmnist_tuning.analysis.verdicts import judge_claims, told_apart
from fmnist_tuning.metrics import ACCURACY, LATE_ACCURACY, METRICS
from fmnist_tuning.sweeps.arms import Arm

_ENOUGH: Final = 3

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

    Of the arms that are judged by the same images as most are, it has the highest lower end of the
    95 % interval of its mean accuracy over the last epochs. Few seeds make a wide interval, so an
    arm does not win by a few lucky ones. If the study is too small to tell how much repeats differ,
    the highest mean wins. If that is unknown of some arms only, these need `_ENOUGH` seeds of their
    own: two that agree by chance would have an interval of no width.
    """
    places = [(frames, arm) for frames in sweeps.values() for arm in frames.contenders]
    # A study may have nothing but a search whose finalists are not trained yet.
    places = places or [(frames, arm) for frames in sweeps.values() for arm in frames.arms]
    places = judged_alike(places)
    late = any(frames.by_seed([arm], LATE_ACCURACY) for frames, arm in places)
    metric = LATE_ACCURACY if late else ACCURACY
    pool = pool_of(sweeps.values())

    def surely(place: Place) -> tuple[float, float]:
        values = [*place[0].by_seed([place[1]], metric).values()]
        if not values:
            return -math.inf, -math.inf
        spread = pool.spread(metric, [place[1].config])
        if known and not spread.prior and len(values) < _ENOUGH:
            return -math.inf, -math.inf
        low, _ = moderated_interval(values, spread)
        return low if known else fmean(values), fmean(values)

    known = any(pool.spread(metric, [arm.config]).prior for _, arm in places)
    return max(places, key=surely)


def judged_alike(places: Sequence[Place]) -> list[Place]:
    """The arms whose accuracies are of the same images: those that most arms are judged by."""
    ((common, _),) = Counter(judged_by(arm) for _, arm in places).most_common(1)
    return [place for place in places if judged_by(place[1]) == common]


def judged_by(arm: Arm) -> tuple[object, ...]:
    """What tells by which images an arm's accuracies are."""
    held_out = arm.config.holdout_size if arm.config.validation == "holdout" else 0
    return arm.config.dataset, held_out, arm.config.val_size


def standings(
    frames: SweepFrames, metric: str, others: Mapping[str, SweepFrames]
) -> dict[str, Standing]:
    """Which arm has the best mean, and which arms the data cannot tell from it; by arm label.

    Every other arm is compared with the best, see `told_apart`. What is certainly worse than an arm
    that is certainly worse than the best, is so too.
    """
    arms = ranked(frames, metric)
    if not arms:
        return {}
    best, *rest = arms
    certain = told_apart(frames, [Groups(frames, [best], [arm]) for arm in rest], others, metric)
    worse = {arm.label for arm, apart in zip(rest, certain, strict=True) if apart}
    if metric == ACCURACY:
        worse = _with_those_below(worse, frames, others)
    return {best.label: Standing(best=True, tied=False)} | {
        arm.label: Standing(best=False, tied=arm.label not in worse) for arm in rest
    }


def _with_those_below(
    worse: set[str], frames: SweepFrames, others: Mapping[str, SweepFrames]
) -> set[str]:
    """With the arms that claims show to be worse than one of them."""
    steps = []
    for claim, verdict in judge_claims(frames, others):
        about_means = claim.compare == "mean" and claim.metric in {ACCURACY, LATE_ACCURACY}
        if verdict is None or not about_means or claim.versus_sweep:
            continue
        asked = matching(frames, claim.arm, claim.versus)
        if verdict.word in {"supported", "refuted"} and len(asked.arms) == len(asked.versus) == 1:
            one, other = asked.arms[0].label, asked.versus[0].label
            steps.append((one, other) if verdict.contrast.difference > 0 else (other, one))
    for _ in steps:  # the longest chain has all of them
        worse |= {lower for higher, lower in steps if higher in worse}
    return worse
