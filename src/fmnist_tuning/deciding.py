"""`fmnist run --decide`: which arms get how many seeds, look after look. Pure.

Seeds are added only for the arms of undecided claims, up to the next look. The plan of looks and
the arms' seeds are part of a sweep's definition in the store, and the verdicts follow from the
runs, so a command that was interrupted goes on where it was.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.analysis.groups import groups_of
from fmnist_tuning.analysis.looks import CLAIMS_RATE, weights
from fmnist_tuning.analysis.pool import pool_of
from fmnist_tuning.analysis.power import detectable
from fmnist_tuning.analysis.spread import POOL_FREEDOM, PRIOR_FREEDOM
from fmnist_tuning.analysis.verdicts import DECIDED, Verdict, judge_claims
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.looks import STANDARD_LOOKS
from fmnist_tuning.sweeps.sections import Claim
from fmnist_tuning.sweeps.sweep import Sweep


def first_looks(sweeps: Sequence[Sweep], stored: Mapping[str, Sweep | None]) -> list[Sweep]:
    """The sweeps with a plan of looks, and at least the seeds of the first one.

    A combination keeps the arms that the study has for it: chosen again by more runs, they might
    be others, whose claims would start anew. A sweep without claims stays as it is.
    """
    known = {sweep.id: sweep for sweep in sweeps}
    return [_first_look(sweep, stored.get(sweep.id), known, stored) for sweep in sweeps]


def _first_look(
    sweep: Sweep,
    before: Sweep | None,
    known: Mapping[str, Sweep],
    stored: Mapping[str, Sweep | None],
) -> Sweep:
    combine = sweep.combine
    if combine is not None and sweep.pending and before and before.combine == combine:
        if combine.trials is None:
            sweep = before.changed(seeds=sweep.seeds, claims=sweep.claims)
        elif _is_same_search(known.get(combine.sources[0]), stored.get(combine.sources[0])):
            # There may be fewer finalists than were asked for.
            there = [c for c in sweep.claims if any(arm.matches(c.arm) for arm in before.arms)]
            sweep = before.changed(seeds=sweep.seeds, claims=tuple(there))
    if not sweep.claims:
        return sweep
    looks = sweep.looks or STANDARD_LOOKS
    return sweep.changed(looks=looks, seeds=sweep.first_seeds(max(len(sweep.seeds), looks[0])))


def _is_same_search(one: Sweep | None, other: Sweep | None) -> bool:
    """Whether finalists of one are those of the other; also if the search is not asked for now."""
    if one is None or other is None or one.search is None:
        return other is not None
    return one.search.same_space(other.search) and one.fixed == other.fixed


def last_look(sweep: Sweep, most: int, found: Sequence["ClaimState"] = ()) -> Sweep:
    """The sweep with all seeds that its claims may take, for what that costs at most.

    Claims that are decided in `found` take none.
    """
    decided = [state.claim for state in found if state.decided and state.sweep == sweep.id]
    limit = min(most, sweep.max_seeds or most)
    reached = max((look for look in sweep.looks if look <= limit), default=0)
    arms = (
        arm
        for arm in sweep.arms
        for claim in sweep.claims
        if claim not in decided
        if not METRICS[claim.metric].exact and not METRICS[claim.metric].of_machine
        if arm.matches(claim.arm) or (claim.versus_sweep is None and arm.matches(claim.versus))
    )
    return sweep.changed(arm_seeds=sweep.arm_seeds | {arm.label: reached for arm in arms})


@dataclass(frozen=True, slots=True)
class ClaimState:
    """A claim after a look, and what it would still take."""

    sweep: str
    claim: Claim
    verdict: Verdict | None
    arms: tuple[tuple[str, Arm], ...]  # those that it compares, with their sweeps
    target: int | None  # the seeds of its next look; None if it needs or gets no further one

    @property
    def decided(self) -> bool:
        """Whether no seeds can change its verdict any more."""
        return self.verdict is not None and self.verdict.word in DECIDED


def states(
    sweeps: Sequence[Sweep], every: Mapping[str, SweepFrames], most: int
) -> list[ClaimState]:
    """The claims of some sweeps, in order; `every` are the study's sweeps, `most` seeds an arm."""
    return [
        _state(frames, claim, verdict, every, most)
        for frames in (every[sweep.id] for sweep in sweeps if sweep.id in every)
        for claim, verdict in judge_claims(frames, every)
    ]


def next_look(
    sweeps: Sequence[Sweep], found: Sequence[ClaimState], every: Mapping[str, SweepFrames]
) -> list[Sweep]:
    """The sweeps with the seeds of the next look for the arms of undecided claims.

    They are unchanged if there is nothing more to train. The arms of another sweep that a claim
    compares with are extended there.
    """
    known = {sweep.id: sweep for sweep in sweeps}
    wanted: dict[str, dict[str, int]] = {}
    for state in found:
        for owner, arm in state.arms if state.target else ():
            known.setdefault(owner, every[owner].sweep)
            seeds = wanted.setdefault(owner, dict(known[owner].arm_seeds))
            present = max(len(known[owner].seeds), seeds.get(arm.label, 0))
            if state.target and state.target > present:
                seeds[arm.label] = state.target
    return [
        sweep.changed(arm_seeds=wanted[id_])
        if wanted.get(id_, sweep.arm_seeds) != sweep.arm_seeds
        else sweep
        for id_, sweep in known.items()
        if id_ in wanted or sweep in sweeps
    ]


def _state(
    frames: SweepFrames,
    claim: Claim,
    verdict: Verdict | None,
    every: Mapping[str, SweepFrames],
    most: int,
) -> ClaimState:
    asked = groups_of(claim, frames, every)
    exact = METRICS[claim.metric].exact or METRICS[claim.metric].of_machine
    if asked is None or exact or (verdict is not None and verdict.word in DECIDED):
        return ClaimState(frames.sweep.id, claim, verdict, (), None)
    owners = (frames, asked.other or frames)
    arms = {
        (owner.sweep.id, arm.label): arm
        for owner, side in zip(owners, (asked.arms, asked.versus), strict=True)
        for arm in side
    }
    limit = min(most, frames.sweep.max_seeds or most)
    reached = verdict.look if verdict is not None and frames.sweep.looks else 0
    target = next((look for look in frames.sweep.looks if look > reached), None)
    further = target if target is not None and target <= limit else None
    own = tuple((id_, arm) for (id_, _), arm in arms.items())
    return ClaimState(frames.sweep.id, claim, verdict, own, further)


def cost(
    state: ClaimState, seeds: int, every: Mapping[str, SweepFrames]
) -> tuple[int, float | None]:
    """Trainings that bring a claim's arms to a number of seeds, and their seconds one by one.

    The seconds are None if an arm has none to go by.
    """
    lacking = [(max(seeds - len(every[id_].seeds_of(arm)), 0), id_, arm) for id_, arm in state.arms]
    times = [every[id_].by_seed([arm], "train_seconds").values() for _, id_, arm in lacking]
    trainings = sum(count for count, _, _ in lacking)
    if not all(times):
        return trainings, None
    return trainings, sum(
        count * fmean(own) for (count, _, _), own in zip(lacking, times, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a sweep's seeds can see of a claim, before they are trained."""

    sweep: str
    claim: Claim
    seeds: int
    sees: float | None  # the difference told from zero with 80 % power; None for one seed
    needed: int | None  # the first number of seeds that sees the margin; None beyond all looks
    most: int  # the seeds of the last look
    assumed: bool  # whether the spread is that of the shipped study


_SHIPPED = {"final_val_accuracy": 0.0035, "late_val_accuracy": 0.0022}
"""Standard deviations of repeats in the shipped study, for studies without runs of their own."""


def forecasts(sweeps: Sequence[Sweep], every: Mapping[str, SweepFrames]) -> Iterator[Forecast]:
    """What the planned seeds can see of each claim; none for exact and for unknown spreads."""
    pool = pool_of(every.values())
    for sweep in sweeps:
        judged = [c for c in sweep.claims if not METRICS[c.metric].exact]
        for claim in judged:
            arms = [a for a in sweep.arms if a.matches(claim.arm)]
            versus = [a for a in sweep.arms if a.matches(claim.versus)]
            metric = METRICS[claim.metric]
            if not arms or claim.compare != "mean" or metric.ratio or metric.of_machine:
                continue
            spread = pool.spread(claim.metric, [arm.config for arm in (*arms, *versus)])
            known = spread.prior > 0
            each = math.sqrt(spread.paired) if known else _SHIPPED.get(claim.metric)
            if each is None:
                continue
            deviation = each * math.sqrt(1 / len(arms) + 1 / max(len(versus), 1))
            yield _forecast(sweep, claim, deviation, len(judged), assumed=not known)


def _forecast(
    sweep: Sweep, claim: Claim, deviation: float, family: int, *, assumed: bool
) -> Forecast:
    looks = sweep.looks or STANDARD_LOOKS
    seeds = min(
        len(sweep.seeds_of(arm))
        for arm in sweep.arms
        if arm.matches(claim.arm) or arm.matches(claim.versus)
    )
    share = dict(zip(looks, weights(looks), strict=True)) if sweep.looks else {seeds: 1.0}
    at = max((look for look in share if look <= seeds), default=None)
    level = CLAIMS_RATE / family

    def sees_at(look: int, weight: float) -> float:
        freedom = (len(sweep.arms) - 1) * (look - 1)  # of the pool, if these are all runs
        prior = PRIOR_FREEDOM if not assumed or freedom >= POOL_FREEDOM else 0.0
        return detectable(look, deviation, prior, level * weight)

    sees = sees_at(at, share[at]) if at is not None and at > 1 else None
    needed = next(
        (
            look
            for look, weight in zip(looks, weights(looks), strict=True)
            if look > 1 and sees_at(look, weight) <= claim.margin
        ),
        None,
    )
    return Forecast(sweep.id, claim, seeds, sees, needed, looks[-1], assumed)
