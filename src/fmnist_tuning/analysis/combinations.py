"""Which combinations of settings promise most, by a linear model of finished runs."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def predict_combinations(
    runs: Sequence[Mapping[str, Any]],
    response: Sequence[float],
    levels: Mapping[str, Sequence[Any]],
    interactions: Sequence[tuple[str, str]],
) -> list[tuple[dict[str, Any], float]]:
    """Predict the response of every combination of levels from the runs of some of them.

    Ordinary least squares on treatment-coded factors: an intercept, the main effects of every
    factor, and the named two-way interactions. An effect that no run can tell (a cell of an
    interaction that was never tried) is taken as zero, which is the minimum-norm solution; see
    Montgomery, Design and Analysis of Experiments, on unbalanced factorial designs.

    Args:
        runs: The level of every factor, for each run.
        response: The metric of each run, in the same order.
        levels: Every factor's levels.
        interactions: Pairs of factors whose effects may depend on each other.

    Returns:
        Every combination with its prediction, the best first; ties keep the order of the levels.
    """
    # The commonest level is the reference: it is the one that the other factors were varied at.
    reference = {
        factor: max(choices, key=lambda level: sum(run[factor] == level for run in runs))
        for factor, choices in levels.items()
    }
    terms = [
        {factor: level}
        for factor, choices in levels.items()
        for level in choices
        if level != reference[factor]
    ]
    pairs = [
        one | other
        for one, other in itertools.combinations(terms, 2)
        if tuple(one | other) in interactions
    ]

    def row(run: Mapping[str, Any]) -> list[float]:
        present = [all(run[f] == level for f, level in term.items()) for term in terms + pairs]
        return [1.0, *map(float, present)]

    design = np.array([row(run) for run in runs])  # (runs, 1 + terms)
    effects, *_ = np.linalg.lstsq(design, np.asarray(response, dtype=float), rcond=None)
    combinations = [
        dict(zip(levels, chosen, strict=True)) for chosen in itertools.product(*levels.values())
    ]
    predicted = [float(np.dot(row(combination), effects)) for combination in combinations]
    # Rounded for the order only: equal predictions differ by the last bits of the arithmetic.
    order = sorted(range(len(combinations)), key=lambda i: -round(predicted[i], 9))
    return [(combinations[i], predicted[i]) for i in order]
