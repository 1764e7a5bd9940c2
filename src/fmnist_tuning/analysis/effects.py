"""Main effects and interactions of a sweep over a grid, and what else its arms change."""

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

from fmnist_tuning.analysis.contrasts import Contrast
from fmnist_tuning.analysis.frames import SweepFrames, summary
from fmnist_tuning.analysis.groups import Groups, compare, matching
from fmnist_tuning.analysis.pool import Pool
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.settings import label_of, label_of_value


@dataclass(frozen=True, slots=True)
class Effect:
    """A main effect or an interaction of a factorial sweep.

    A main effect is the difference between two levels, averaged over the other factors. An
    interaction says how much the first factor's effect differs between the second's levels.
    """

    name: str  # `dropout rate: 0.5 − 0.3`, or `dropout rate × batch norm`
    asked: Groups  # the two groups of arms between which it is seen
    contrast: Contrast
    interaction: bool = False


def factorial_effects(frames: SweepFrames, metric: str, pool: Pool) -> list[Effect]:
    """Main effects and two-way interactions of a sweep over a full grid.

    Each level is compared with its factor's first. Empty unless the grid has two factors or more
    and every arm has finished runs. See Montgomery, Design and Analysis of Experiments, chapter 5.
    """
    grid = frames.sweep.grid
    if len(grid) < 2 or len(frames.arms) < len(frames.sweep.arms):  # noqa: PLR2004
        return []
    effects = []
    for factor, (reference, *levels) in grid.items():
        for level in levels:
            asked = matching(frames, {factor: level}, {factor: reference})
            found = compare(asked, metric, pool)
            if found is not None:
                effects.append(Effect(_difference(factor, level, reference), asked, found))
    for one, two in combinations(grid.items(), 2):
        effects += _interactions(frames, metric, pool, one, two)
    return effects


def _interactions(
    frames: SweepFrames,
    metric: str,
    pool: Pool,
    one: tuple[str, list[Any]],
    two: tuple[str, list[Any]],
) -> list[Effect]:
    effects = []
    (factor, (reference, *levels)), (second, (baseline, *others)) = one, two
    for level, other in product(levels, others):
        same, cross = (
            [
                arm
                for first, then in pairs
                for arm in frames.sweep.arms
                if arm.matches({factor: first, second: then})
            ]
            for pairs in (
                ((level, other), (reference, baseline)),
                ((level, baseline), (reference, other)),
            )
        )
        # The interaction is the difference between the diagonals of the 2 x 2 table, as sums.
        asked = Groups(frames, same, cross)
        found = compare(asked, metric, pool)
        if found is None:
            continue
        name = f"{label_of(factor)} × {label_of(second)}"
        if len(levels) > 1 or len(others) > 1:
            name += f" ({label_of_value(level)}, {label_of_value(other)})"
        effects.append(Effect(name, asked, _doubled(found), interaction=True))
    return effects


def _difference(factor: str, level: Any, reference: Any) -> str:
    return f"{label_of(factor)}: {label_of_value(level)} − {label_of_value(reference)}"


def _called(arm: Arm) -> str:
    settings = (f"{label_of(key)} {label_of_value(value)}" for key, value in arm.overrides.items())
    return arm.name or ", ".join(settings)


def confounds(frames: SweepFrames) -> list[str]:
    """A sentence for each thing that the arms change beside the swept settings.

    The number of parameters depends on several settings. So a sweep over pooling or depth changes
    the size too, and a difference between its arms may come from either.
    """
    if not frames.rows:
        return []
    params = {_called(arm): summary(frames, arm, "total_params").mean for arm in frames.arms}
    low, high = min(params, key=params.__getitem__), max(params, key=params.__getitem__)
    ratio = params[high] / params[low]
    if ratio < 1.1:  # noqa: PLR2004  the few parameters of batch norm do not count as a size
        return []
    *others, last = (
        label_of(key)
        for key in frames.sweep.swept
        if len({getattr(arm.config, key) for arm in frames.arms}) > 1
    )
    swept = f"{', '.join(others)} and {last}" if others else last
    return [
        f"The arms differ in size too: {high} has {params[high]:,.0f} parameters, {ratio:.1f} "
        f"times the {params[low]:,.0f} of {low}. A difference may "
        f"come of size as well as of {swept}."
    ]


def _doubled(found: Contrast) -> Contrast:
    """Twice a difference, with all that belongs to it."""
    return replace(
        found,
        difference=2 * found.difference,
        low=2 * found.low,
        high=2 * found.high,
        deviation=2 * found.deviation,
        error=2 * found.error,
    )
