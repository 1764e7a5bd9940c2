"""Main effects and interactions of a sweep over a grid, and what else its arms change."""

from dataclasses import dataclass
from typing import Any

from fmnist_tuning.analysis.contrasts import Contrast, contrast
from fmnist_tuning.analysis.frames import SweepFrames, summary
from fmnist_tuning.analysis.verdicts import compare


@dataclass(frozen=True, slots=True)
class Effect:
    """A main effect or an interaction of a factorial sweep.

    Attributes:
        name: `dropout_rate: 0.5 − 0.3`, or `dropout_rate × use_batch_norm`.
        contrast: A main effect is the difference of two levels, averaged over the other factors; an
            interaction, how much the first factor's effect differs between the second's levels.
        interaction: Which of the two it is.
    """

    name: str
    contrast: Contrast
    interaction: bool = False


def factorial_effects(frames: SweepFrames, metric: str) -> list[Effect]:
    """Main effects and two-way interactions of a sweep over a full grid, with their intervals.

    Each level is compared with its factor's first. Empty unless the grid has two factors or more
    and every arm has finished runs. See Montgomery, Design and Analysis of Experiments, chapter 5.
    """
    grid = frames.sweep.grid
    if len(grid) < 2 or len(frames.arms) < len(frames.sweep.arms):  # noqa: PLR2004
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
            arms = frames.sweep.arms
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
            effects.append(Effect(name, contrast(same, cross), interaction=True))
    return effects


def confounds(frames: SweepFrames) -> list[str]:
    """What else an arm changes than the setting that it names, in words.

    The number of parameters follows from several settings: a sweep over pooling or depth is a sweep
    over size too, and its differences cannot be laid at one factor's door.
    """
    if not len(frames.runs) or "total_params" not in frames.runs:
        return []
    params = {
        arm.name or arm.label: summary(frames, arm, "total_params").mean for arm in frames.arms
    }
    low, high = min(params, key=params.__getitem__), max(params, key=params.__getitem__)
    ratio = params[high] / params[low]
    if ratio < 1.1:  # noqa: PLR2004  batch norm's own few parameters are no other size
        return []
    swept = " and ".join(
        key
        for key in frames.sweep.swept
        if len({getattr(arm.config, key) for arm in frames.arms}) > 1
    )
    return [
        f"The arms differ in size too: {high} has {params[high]:,.0f} parameters, {ratio:.1f} "
        f"times the {params[low]:,.0f} of {low}. A difference may "
        f"come of size as well as of {swept}."
    ]
