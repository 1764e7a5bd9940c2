"""How often do the verdicts go wrong, and how often do they see a difference that is there?

Draws studies whose truth is known, has them judged by the program's own functions, and prints the
tables of docs/statistics.md:  python docs/simulation.py
"""

from collections import Counter
from itertools import product

import numpy as np

from fmnist_tuning.analysis.contrasts import contrast
from fmnist_tuning.analysis.verdicts import judge

DEVIATION = 0.0027  # of repeats of one configuration, a fraction: 0.27 percentage points
IMAGES = 10_000  # accuracies are counts of so many
ARMS = 5
MARGIN = 0.002
STUDIES = 2_000
SEEDS = (3, 5, 10)
DESIGNS = ("seeds shared, with an effect", "seeds shared, without", "other seeds for each arm")


def words(design: str, seeds: int, difference: float, studies: int = STUDIES) -> list[list[str]]:
    """Verdicts of studies with four claims: that each of four arms is better than the fifth.

    Args:
        design: One of DESIGNS. A seed's own effect, where there is one, is half of the variance.
        seeds: Of every arm.
        difference: By which the first of the four is truly better, a fraction; the rest are equal.
        studies: How many to draw.
    """
    rng = np.random.default_rng([DESIGNS.index(design), seeds, round(difference * IMAGES)])
    shared = 0.5 if design == DESIGNS[0] else 0.0
    found = []
    for _ in range(studies):
        common = rng.normal(0, DEVIATION * shared**0.5, seeds)
        own = rng.normal(0, DEVIATION * (1 - shared) ** 0.5, (ARMS, seeds))
        accuracies = np.round((0.92 + common + own) * IMAGES) / IMAGES
        accuracies[1] += difference
        first_seed = [seeds * arm if design == DESIGNS[2] else 0 for arm in range(ARMS)]
        arms = [
            dict(enumerate(map(float, values), start))
            for start, values in zip(first_seed, accuracies, strict=True)
        ]
        contrasts = [contrast(arm, arms[0]) for arm in arms[1:]]
        verdicts = judge(contrasts, ["higher"] * 4, [MARGIN] * 4)
        found.append([verdict.word for verdict in verdicts])
    return found


def wrong(design: str, seeds: int, studies: int = STUDIES) -> float:
    """The share of studies of equal arms with any claim wrongly supported or refuted."""
    judged = words(design, seeds, 0.0, studies)
    return sum(bool({"supported", "refuted"} & set(study)) for study in judged) / studies


def power(design: str, seeds: int, difference: float, studies: int = STUDIES) -> float:
    """The share of studies in which the one true claim is supported."""
    judged = Counter(study[0] for study in words(design, seeds, difference, studies))
    return judged["supported"] / studies


def main() -> None:
    """Print the tables as Markdown."""
    print("| design | seeds | wrong | power at 0.2 | at 0.5 | at 1.0 points |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for design, seeds in product(DESIGNS, SEEDS):
        powers = [f"{power(design, seeds, d) * 100:.0f} %" for d in (0.002, 0.005, 0.010)]
        print(f"| {design} | {seeds} | {wrong(design, seeds) * 100:.1f} % | {' | '.join(powers)} |")


if __name__ == "__main__":
    main()
