"""What a sweep's runs say: contrasts between its arms, verdicts on its claims, the best arm."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fmnist_tuning.analysis.contrasts import (
    CONFIDENCE,
    EXACT_METRICS,
    Contrast,
    Verdict,
    contrast,
    holm,
    judge,
)
from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.config import Arm, Claim
from fmnist_tuning.metrics import METRICS


def compare(
    frames: SweepFrames,
    arm: Mapping[str, Any],
    versus: Mapping[str, Any],
    metric: str,
    *,
    other: SweepFrames | None = None,
) -> Contrast | None:
    """The contrast between the arms that two selectors pick; None while a side has no runs.

    Args:
        frames: The sweep of `arm`.
        arm: Settings that pick arms, whose mean counts.
        versus: The same for the other side.
        metric: Of a finished run.
        other: The sweep of `versus`, where it is another one.
    """
    sides = []
    for sweep, selector in ((frames, arm), (other or frames, versus)):
        picked = [a for a in sweep.config.expanded() if a.matches(selector)]
        sides.append(sweep.by_seed(picked, metric))
    if not all(sides):
        return None
    return contrast(*sides, exact=metric in EXACT_METRICS)


def judge_claims(
    frames: SweepFrames, others: Mapping[str, SweepFrames]
) -> list[tuple[Claim, Verdict | None]]:
    """The verdict of each of a sweep's claims, None where its runs are missing.

    Holm's adjustment takes the sweep's claims together, those with missing runs left out.

    Args:
        frames: The sweep with the claims.
        others: Every sweep of the study by id, for claims that compare with another one.
    """
    contrasts = [
        compare(
            frames,
            claim.arm,
            claim.versus,
            claim.metric,
            other=others.get(claim.versus_sweep) if claim.versus_sweep else None,
        )
        if claim.versus_sweep is None or claim.versus_sweep in others
        else None
        for claim in frames.config.claims
    ]
    known = [(c, k) for c, k in zip(frames.config.claims, contrasts, strict=True) if k is not None]
    verdicts = iter(
        judge([k for _, k in known], [c.expect for c, _ in known], [c.margin for c, _ in known])
    )
    return [
        (claim, next(verdicts) if found is not None else None)
        for claim, found in zip(frames.config.claims, contrasts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Standing:
    """An arm's place in a sweep.

    Attributes:
        best: Its mean is the best one.
        tied: It cannot be told apart from the best (the best arm itself left out).
    """

    best: bool
    tied: bool


def standings(
    frames: SweepFrames, metric: str, others: Mapping[str, SweepFrames] | None = None
) -> dict[str, Standing]:
    """Which arm has the best mean, and which ones the data cannot tell from it; by arm label.

    Every other arm is compared with the best, see `told_apart`. The best is chosen by the same
    data, which flatters it: an arm that is told apart from it may be better than it looks.
    """
    values = {arm.label: by for arm in frames.arms if (by := frames.by_seed([arm], metric))}
    if not values:
        return {}
    sign = -1 if METRICS[metric].better == "lower" else 1
    best, *rest = sorted(values, key=lambda arm: -sign * fmean(values[arm].values()))
    exact = metric in EXACT_METRICS
    contrasts = [contrast(values[best], values[arm], exact=exact) for arm in rest]
    certain = told_apart(frames, metric, contrasts, others)
    return {best: Standing(best=True, tied=False)} | {
        arm: Standing(best=False, tied=not apart) for arm, apart in zip(rest, certain, strict=True)
    }


def winner(sweeps: Mapping[str, SweepFrames]) -> tuple[SweepFrames, Arm]:
    """The arm to take home, by mean validation accuracy, and the sweep that it is of.

    Where there are combinations, only their arms stand: fresh seeds judged them.

    Args:
        sweeps: With at least one finished run among them.
    """
    finished = [frames for frames in sweeps.values() if frames.arms]
    combined = [frames for frames in finished if frames.config.combine is not None]
    return max(
        ((frames, arm) for frames in combined or finished for arm in frames.arms),
        key=lambda place: fmean(place[0].by_seed([place[1]], "final_val_accuracy").values()),
    )


def told_apart(
    frames: SweepFrames,
    metric: str,
    contrasts: Sequence[Contrast],
    others: Mapping[str, SweepFrames] | None = None,
) -> list[bool]:
    """Which of some differences within a sweep are certain.

    A difference that one of the sweep's claims is about is judged as the claim is, so that no two
    answers contradict each other; the rest Holm-adjusted together with the claims.

    Args:
        frames: The sweep.
        metric: That the contrasts are of.
        contrasts: A family of questions that are asked beside the claims.
        others: Every sweep of the study by id.
    """
    judged = [
        (claim.metric, verdict)
        for claim, verdict in judge_claims(frames, others or {})
        if verdict is not None
    ]

    def claimed(found: Contrast) -> Verdict | None:
        return next(
            (
                verdict
                for claimed_metric, verdict in judged
                if claimed_metric == metric and _same(verdict.contrast, found)
            ),
            None,
        )

    rest = [found.p for found in contrasts if claimed(found) is None]
    adjusted = iter(holm([*rest, *(verdict.contrast.p for _, verdict in judged)]))
    certain = []
    for found in contrasts:
        verdict = claimed(found)
        p = next(adjusted) if verdict is None else verdict.p_adjusted
        certain.append(p < 1 - CONFIDENCE)  # NaN is not
    return certain


def _same(one: Contrast, other: Contrast) -> bool:
    """Whether two contrasts compare the same groups, in either direction."""
    return math.isclose(abs(one.difference), abs(other.difference), rel_tol=1e-9) and (
        math.isclose(one.p, other.p, rel_tol=1e-9) or (math.isnan(one.p) and math.isnan(other.p))
    )
