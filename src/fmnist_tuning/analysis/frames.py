"""A sweep's runs as tidy frames, and the groups of them that contrasts compare."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import pandas as pd

from fmnist_tuning.analysis.contrasts import (
    CONFIDENCE,
    EXACT_METRICS,
    Contrast,
    Verdict,
    contrast,
    holm,
    interval,
    judge,
)
from fmnist_tuning.config import Arm, Claim, SweepConfig

CURVES: Final = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
CONVERGED: Final = 0.8


@dataclass(frozen=True, slots=True)
class SweepFrames:
    """What a study knows of one sweep.

    Attributes:
        config: The sweep as it was last run, its arms decided.
        runs: A row a finished run: `arm` (the label), `seed`, `run_id`, every setting and every
            metric by name, `overfitting_gap`, and `val_epochs_to_80`, the first epoch that ended
            with a validation accuracy of 80 % (NaN where none did). In the order of arms and seeds.
        curves: A row a value: `arm`, `seed`, `epoch`, `metric`, `value`.
        missing: The names of its runs that are not finished.
    """

    config: SweepConfig
    runs: pd.DataFrame
    curves: pd.DataFrame
    missing: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms with at least one finished run, in the sweep's order."""
        finished = set(self.runs["arm"]) if len(self.runs) else set()
        return tuple(arm for arm in self.config.expanded() if arm.label in finished)

    @property
    def seeds(self) -> int:
        """Finished seeds of the arm that has the most."""
        return int(self.runs.groupby("arm").size().max()) if len(self.runs) else 0

    def arm(self, label: str) -> pd.DataFrame:
        """The finished runs of one arm, a row a seed."""
        return self.runs[self.runs["arm"] == label]

    def by_seed(self, arms: Iterable[Arm], metric: str) -> dict[int, float]:
        """A metric by seed: the mean over the arms, for the seeds that all of them have finished.

        Values that were not measured are left out.
        """
        labels = [arm.label for arm in arms]
        chosen = self.runs[self.runs["arm"].isin(labels)]
        if not len(chosen) or metric not in chosen:
            return {}
        groups = chosen.dropna(subset=[metric]).groupby("seed")[metric]
        means = groups.mean()[groups.size() == len(labels)]
        return {int(seed): float(value) for seed, value in means.items()}  # type: ignore[call-overload]


def build_frames(
    config: SweepConfig,
    finished: Sequence[tuple[Arm, int, str, Mapping[str, float]]],
    curves: pd.DataFrame,
    missing: Sequence[str] = (),
) -> SweepFrames:
    """Put a sweep's runs into frames.

    Args:
        config: The sweep.
        finished: Arm, seed, MLflow run id and metrics of each finished run.
        curves: `run_id`, `epoch`, `metric`, `value` of at least those runs.
        missing: Names of runs that are not finished.
    """
    rows = [
        {
            "arm": arm.label,
            "seed": seed,
            "run_id": run_id,
            **{k: v for k, v in arm.config.model_dump(mode="json").items() if k != "seed"},
            **metrics,
        }
        for arm, seed, run_id, metrics in finished
    ]
    runs = pd.DataFrame(rows, columns=None if rows else ["arm", "seed", "run_id"])
    keys = runs[["run_id", "arm", "seed"]]
    own = keys.merge(curves, on="run_id") if len(curves) else no_curves()
    if len(runs):
        runs["overfitting_gap"] = runs["final_train_accuracy"] - runs["final_val_accuracy"]
        there = own[(own["metric"] == "val_accuracy") & (own["value"] >= CONVERGED)]
        runs["val_epochs_to_80"] = runs["run_id"].map(there.groupby("run_id")["epoch"].min())
    return SweepFrames(config, runs, own.drop(columns="run_id"), tuple(missing))


def no_curves() -> pd.DataFrame:
    """The curves of no runs."""
    return pd.DataFrame(columns=["run_id", "arm", "seed", "epoch", "metric", "value"])


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric of one arm over its seeds.

    Attributes:
        mean: Over the seeds.
        deviation: Standard deviation (n - 1); NaN, which is to say unknown, for one seed.
        low: Lower end of the mean's 95 % t interval; NaN like the deviation.
        high: Its upper end.
        seeds: How many.
    """

    mean: float
    deviation: float
    low: float
    high: float
    seeds: int


def summary(frames: SweepFrames, arm: Arm, metric: str) -> Summary:
    """A metric of an arm over the seeds that measured it."""
    runs = frames.arm(arm.label)
    values = runs[metric].dropna() if metric in runs else pd.Series(dtype=float)
    low, high = interval(values.to_list())
    return Summary(float(values.mean()), float(values.std(ddof=1)), low, high, len(values))


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


def standings(frames: SweepFrames, metric: str, better: str = "higher") -> dict[str, Standing]:
    """Which arm has the best mean, and which ones the data cannot tell from it; by arm label.

    Every other arm is compared with the best, Holm-adjusted. The best is chosen by the same data,
    which flatters it: an arm that is told apart from it may be better than it looks.
    """
    values = {arm.label: by for arm in frames.arms if (by := frames.by_seed([arm], metric))}
    if not values:
        return {}
    sign = 1 if better == "higher" else -1
    best, *others = sorted(values, key=lambda arm: -sign * fmean(values[arm].values()))
    exact = metric in EXACT_METRICS
    contrasts = [contrast(values[best], values[arm], exact=exact) for arm in others]
    told_apart = [p < 1 - CONFIDENCE for p in holm([c.p for c in contrasts])]  # NaN is not
    return {best: Standing(best=True, tied=False)} | {
        arm: Standing(best=False, tied=not apart)
        for arm, apart in zip(others, told_apart, strict=True)
    }


@dataclass(frozen=True, slots=True)
class Effect:
    """A main effect or an interaction of a factorial sweep.

    Attributes:
        name: `dropout_rate: 0.5 − 0.3`, or `dropout_rate × use_batch_norm`.
        contrast: A main effect is the difference of two levels, averaged over the other factors; an
            interaction, how much the first factor's effect differs between the second's levels.
    """

    name: str
    contrast: Contrast


def factorial_effects(frames: SweepFrames, metric: str) -> list[Effect]:
    """Main effects and two-way interactions of a sweep over a full grid, with their intervals.

    Each level is compared with its factor's first. Empty unless the grid has two factors or more
    and every arm has finished runs. See Montgomery, Design and Analysis of Experiments, chapter 5.
    """
    grid = frames.config.grid
    if len(grid) < 2 or len(frames.arms) < len(frames.config.expanded()):  # noqa: PLR2004
        return []
    effects = []
    for factor, (reference, *levels) in grid.items():
        for level in levels:
            found = compare(frames, {factor: level}, {factor: reference}, metric)
            if found is not None:
                effects.append(Effect(f"{factor}: {level} − {reference}", found))
    factors = list(grid)
    for index, one in enumerate(factors):
        for two in factors[index + 1 :]:
            effects += _interactions(frames, metric, (one, grid[one]), (two, grid[two]))
    return effects


def _interactions(
    frames: SweepFrames, metric: str, one: tuple[str, list[Any]], two: tuple[str, list[Any]]
) -> list[Effect]:
    effects = []
    for level in one[1][1:]:
        for other in two[1][1:]:
            # Both diagonals of the 2 x 2 table; twice their difference is the interaction.
            arms = frames.config.expanded()
            cells = [
                [a for a in arms if a.matches({one[0]: first, two[0]: second})]
                for first in (one[1][0], level)
                for second in (two[1][0], other)
            ]
            values = [frames.by_seed(cell, metric) for cell in cells]
            same = {seed: values[3].get(seed, 0) + values[0].get(seed, 0) for seed in values[3]}
            cross = {seed: values[1].get(seed, 0) + values[2].get(seed, 0) for seed in values[1]}
            if any(set(v) != set(values[0]) for v in values) or not values[0]:
                continue
            name = f"{one[0]} × {two[0]}"
            if len(one[1]) > 2 or len(two[1]) > 2:  # noqa: PLR2004
                name += f" ({level}, {other})"
            effects.append(Effect(name, contrast(same, cross)))
    return effects


def confounds(frames: SweepFrames) -> list[str]:
    """What else an arm changes than the setting that it names, in words.

    The number of parameters follows from several settings: a sweep over pooling or depth is a sweep
    over size too, and its differences cannot be laid at one factor's door.
    """
    if not len(frames.runs) or "total_params" not in frames.runs:
        return []
    params = {arm.label: summary(frames, arm, "total_params").mean for arm in frames.arms}
    low, high = min(params, key=params.__getitem__), max(params, key=params.__getitem__)
    ratio = params[high] / params[low]
    if ratio < 1.1:  # noqa: PLR2004  batch norm's own few parameters are no other size
        return []
    swept = " and ".join(f"`{key}`" for key in frames.config.swept)
    return [
        f"{swept} {'is' if len(frames.config.swept) == 1 else 'are'} not all that changes: "
        f"{high} has {params[high]:,.0f} parameters, {ratio:.1f} times the {params[low]:,.0f} of "
        f"{low}, so that a difference may come of size as well."
    ]
