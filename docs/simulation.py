"""How often do the verdicts go wrong, and how many trainings do they take?

Draws studies whose truth is known, has them judged by the program's own functions, and prints the
tables of docs/statistics.md:  python docs/simulation.py   (some minutes on two cores)
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fmnist_tuning.analysis.contrasts import Contrast, contrast
from fmnist_tuning.analysis.looks import (
    CLAIMS_RATE,
    REST_RATE,
    Evidence,
    decide,
    evidence,
    weights,
)
from fmnist_tuning.analysis.spread import UNKNOWN, Spread, pooled
from fmnist_tuning.sweeps.looks import STANDARD_LOOKS

POINT = 0.01  # accuracies are fractions
MARGIN = 0.2 * POINT
IMAGES = 10_000  # accuracies are counts of so many
STUDIES = 2_000

# Standard deviations of repeats, with three seeds an arm of the shipped study: of the mean of the
# last three epochs, and of the last epoch. Then those of its arms one by one, of the last epoch.
LATE, FINAL = 0.217 * POINT, 0.348 * POINT
OBSERVED = (0.10, 0.15, 0.18, 0.22, 0.26, 0.30, 0.33, 0.36, 0.39, 0.42, 0.47, 0.55, 0.67)
ARMS = 13  # of a study; the spread is pooled over all of them

Draw = Callable[[np.random.Generator], NDArray[np.float64]]
SPREADS: dict[str, Draw] = {
    "all equal": lambda _: np.ones(ARMS),
    "inverse gamma, 13 degrees": lambda rng: np.sqrt(13 / rng.chisquare(13, ARMS)),
    "lognormal, 0.5": lambda rng: rng.lognormal(-0.125, 0.5, ARMS),
    "as the study's arms": lambda rng: (
        rng.permutation(OBSERVED) / np.sqrt(np.mean(np.square(OBSERVED)))
    ),
}
# The first arm's spread is three times the others', and it is in every claim.
DEVIANT: Draw = lambda _: np.array([3.0] + [1.0] * (ARMS - 1))  # noqa: E731

# True differences of a sweep's four claims, in margins: each compares an arm with the first.
TRUTHS: dict[str, tuple[float, ...]] = {
    "all zero": (0, 0, 0, 0),
    "all at the margin": (1, 1, 1, 1),
    "mixed": (0, 0, 1, 2),
}
LOOKS = {"one look, 3 seeds": (3,), "seven looks": STANDARD_LOOKS}


@dataclass(frozen=True, slots=True)
class Asked:
    """A claim: the means of two groups of arms differ."""

    arms: tuple[int, ...]
    versus: tuple[int, ...]


MANY_TO_ONE = tuple(Asked((arm,), (0,)) for arm in range(1, 5))

# The accuracy claims of the six experiments, and what the shipped study measured of their arms:
# mean of the last three epochs in percent, and minutes of a training on one core.
MEASURED = (
    (91.98, 6.8), (91.96, 6.4), (91.90, 6.8), (91.86, 7.1), (91.36, 6.0), (91.92, 5.4),
    (90.70, 3.4), (91.99, 9.8), (91.91, 27.9), (92.08, 5.6), (91.67, 15.6), (91.69, 13.2),
    (91.80, 6.3),
)  # fmt: skip
EXPERIMENTS = (
    (Asked((2, 3), (0,)), Asked((2, 3), (4,))),
    (Asked((3,), (5,)),),
    (Asked((3,), (6,)), Asked((7,), (3,))),
    (Asked((3,), (8,)),),
    (Asked((2, 3), (5, 9)),),
    (Asked((10,), (3,)),),
)


def spread_of(values: NDArray[np.float64], have: Sequence[int], look: int) -> Spread:
    """The pooled spread at a look: of each arm the seeds that it has by then."""
    counts = np.minimum(have, look)
    arms = np.repeat(np.arange(len(counts)), counts)
    seeds = np.concatenate([np.arange(count) for count in counts])
    return pooled(arms, seeds, values[arms, seeds])


def compared(
    values: NDArray[np.float64], asked: Asked, look: int, spread: Spread = UNKNOWN
) -> Contrast:
    """A claim's contrast over the first seeds."""
    one, other = (
        dict(enumerate(values[list(side), :look].mean(axis=0)))
        for side in (asked.arms, asked.versus)
    )
    return contrast(one, other, arms=(len(asked.arms), len(asked.versus)), spread=spread)


@dataclass(slots=True)
class Judged:
    """A study after its last look, its claims in order."""

    kinds: list[str | None]
    above: list[bool]  # whether the difference that was seen is above zero
    look: list[int]  # the last one that each claim had
    have: list[NDArray[np.int64]]  # the seeds of every arm when each claim got its verdict


def judge(
    values: NDArray[np.float64],
    sweeps: Sequence[Sequence[Asked]],
    looks: Sequence[int],
    *,
    pool: bool = True,
    old: bool = False,
    all_arms: bool = False,
) -> Judged:
    """Judge a study's sweeps at each look, training only the arms of undecided claims.

    `old` judges as fmnist did before: at every look anew, without a plan and without the pool.
    With `all_arms`, every arm gets the seeds of every look.
    """
    have = np.full(len(values), looks[0])
    claims = [(s, asked) for s, sweep in enumerate(sweeps) for asked in sweep]
    found: list[list[Evidence]] = [[] for _ in claims]
    judged = Judged(
        [None] * len(claims), [False] * len(claims), [0] * len(claims), [have] * len(claims)
    )
    for look, weight in zip(looks, weights(looks), strict=True):
        open_ = [n for n, kind in enumerate(judged.kinds) if kind is None]
        arms = {arm for n in open_ for arm in (*claims[n][1].arms, *claims[n][1].versus)}
        have = have.copy()
        have[[*(range(len(values)) if all_arms else arms)]] = look
        spread = spread_of(values, have, look) if pool and not old else UNKNOWN
        for n in open_:
            seen = compared(values, claims[n][1], look, spread)
            found[n].append(evidence(look, 1.0 if old else weight, seen, MARGIN))
            judged.above[n], judged.look[n], judged.have[n] = seen.difference > 0, look, have
        for s in {claims[n][0] for n in open_}:
            own = [n for n, (sweep, _) in enumerate(claims) if sweep == s]
            kinds = _old([found[n] for n in own]) if old else _new([found[n] for n in own])
            for n, kind in zip(own, kinds, strict=True):
                judged.kinds[n] = judged.kinds[n] or kind
        if all(judged.kinds):
            break
    return judged


def _new(found: Sequence[Sequence[Evidence]]) -> list[str | None]:
    return [decision and decision.kind for decision in decide(found, CLAIMS_RATE)]


def _old(found: Sequence[Sequence[Evidence]]) -> list[str | None]:
    """The first edition: the last look alone, Holm over the claims, equivalence unadjusted."""
    last = [question[-1].contrast for question in found]
    kinds: list[str | None] = [None] * len(last)
    for rank, n in enumerate(sorted(range(len(last)), key=lambda n: last[n].p)):
        if not last[n].p * (len(last) - rank) < 0.05:  # noqa: PLR2004
            break
        kinds[n] = "differs"
    within = [one.low >= -MARGIN and one.high <= MARGIN for one in last]
    return ["equivalent" if small else kind for small, kind in zip(within, kinds, strict=True)]


def drawn(
    means: NDArray[np.float64], scale: NDArray[np.float64], seeds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Accuracies (arms, seeds): means over three epochs of counts of images."""
    noise = rng.normal(0, 1, (len(means), seeds)) * scale[:, None]
    return np.round((means[:, None] + noise) * IMAGES * 3) / (IMAGES * 3)


def many_to_one(
    truth: Sequence[float], draw: Draw, seeds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Accuracies of a study whose first five arms are a sweep with four claims."""
    means = np.full(ARMS, 0.92)
    means[1 : len(truth) + 1] += np.array(truth) * MARGIN
    return drawn(means, draw(rng) * LATE, seeds, rng)


def is_wrong(kind: str | None, size: float, *, above: bool) -> bool:
    """Whether a verdict contradicts a true difference of so many margins."""
    return (kind == "differs" and (size == 0 or not above)) or (kind == "equivalent" and size >= 1)


def wrong(
    truth: str, draw: Draw, looks: Sequence[int], studies: int, *, old: bool = False
) -> float:
    """The share of studies with any wrong verdict in the sweep of four claims."""
    rng = np.random.default_rng([[*TRUTHS].index(truth), len(looks), studies])
    found = 0
    for _ in range(studies):
        values = many_to_one(TRUTHS[truth], draw, looks[-1], rng)
        judged = judge(values, [MANY_TO_ONE], looks, old=old)
        verdicts = zip(judged.kinds, judged.above, TRUTHS[truth], strict=True)
        found += any(is_wrong(kind, size, above=above) for kind, above, size in verdicts)
    return found / studies


def anything_wrong(looks: Sequence[int], studies: int) -> float:
    """The share of studies of equal arms in which a claim, or any pair of arms, is told apart."""
    rng = np.random.default_rng([7, len(looks), studies])
    pairs = [Asked((one,), (other,)) for one, other in combinations(range(5), 2)]
    found = 0
    for _ in range(studies):
        values = many_to_one(TRUTHS["all zero"], SPREADS["all equal"], looks[-1], rng)
        any_ = "differs" in judge(values, [MANY_TO_ONE], looks).kinds
        if not any_:
            every = np.full(ARMS, looks[-1])
            spreads = [spread_of(values, every, look) for look in looks]
            for pair in pairs:
                seen = [
                    evidence(look, weight, compared(values, pair, look, spread), 0.0)
                    for look, weight, spread in zip(looks, weights(looks), spreads, strict=True)
                ]
                (decision,) = decide([seen], REST_RATE / (len(pairs) + 1))
                any_ = any_ or (decision is not None and decision.kind == "differs")
        found += any_
    return found / studies


def power(difference: float, studies: int) -> list[float]:
    """The share of studies that support the one true claim of four, by each of the looks."""
    rng = np.random.default_rng([round(difference * 1e6), studies])
    found = np.zeros(len(STANDARD_LOOKS))
    for _ in range(studies):
        truth = (difference / MARGIN, 0, 0, 0)
        values = many_to_one(truth, SPREADS["all equal"], STANDARD_LOOKS[-1], rng)
        judged = judge(values, [MANY_TO_ONE], STANDARD_LOOKS)
        if judged.kinds[0] == "differs" and judged.above[0]:
            found[STANDARD_LOOKS.index(judged.look[0]) :] += 1
    return [float(share) for share in found / studies]


def half_widths(deviation: float, seeds: int) -> tuple[float, float]:
    """Half the 95 % interval of a difference in points: seeds alone, and with the pool."""
    alone, with_pool = (
        float(special.stdtrit(freedom, 0.975)) * deviation * np.sqrt(2 / seeds) / POINT
        for freedom in (seeds - 1, seeds + 3)
    )
    return alone, with_pool


def cost(method: str, studies: int) -> tuple[list[tuple[int, float] | None], float]:
    """Trainings and hours until 80 and 90 % of the study's accuracy claims are decided.

    Also the share that is decided at the last look. Truth is what the shipped study measured.
    """
    old, late = method.startswith("first edition"), "last three" in method
    means, minutes = np.array(MEASURED).T
    rng = np.random.default_rng(studies)
    looks = STANDARD_LOOKS
    spent: list[tuple[int, float, float]] = []
    decided = 0.0
    for _ in range(studies):
        scale = np.full(ARMS, LATE if late else FINAL)
        values = drawn(means / 100, scale, looks[-1], rng)
        judged = judge(
            values,
            EXPERIMENTS,
            looks,
            old=old,
            pool="pooled" in method,
            all_arms="all arms" in method,
        )
        claims = len(judged.kinds)
        decided += sum(kind is not None for kind in judged.kinds) / claims
        for look in looks:
            done = sum(
                kind is not None and at <= look
                for kind, at in zip(judged.kinds, judged.look, strict=True)
            )
            at_look = [h for h, at in zip(judged.have, judged.look, strict=True) if at <= look]
            have = np.max([np.minimum(h, look) for h in (*at_look, *judged.have)], axis=0)
            spent.append((done / claims, int(have.sum()), float(have @ minutes) / 60))
    table = np.array(spent).reshape(studies, len(looks), 3).mean(axis=0)
    reached = []
    for share in (0.8, 0.9):
        rows = np.flatnonzero(table[:, 0] >= share)
        reached.append((round(table[rows[0], 1]), float(table[rows[0], 2])) if len(rows) else None)
    return reached, decided / studies


METHODS = (
    "first edition, judged again at each look, all arms",
    "first edition, judged again at each look",
    "plan of looks, last epoch",
    "plan of looks, mean of the last three epochs",
    "plan of looks, mean of the last three epochs, pooled spread",
)


def main(studies: int = STUDIES) -> None:
    """Print the tables as Markdown."""
    with ProcessPoolExecutor(2) as pool:
        print(f"{studies:,} studies a cell.\n")
        print(
            "| truth | spread of the arms | "
            + " | ".join(LOOKS)
            + " |\n| --- | --- | ---: | ---: |"
        )
        cells = [*product(TRUTHS, SPREADS)]
        found = {
            (cell, name): pool.submit(_wrong, *cell, looks, studies)
            for cell in cells
            for name, looks in LOOKS.items()
        }
        for cell in cells:
            shares = " | ".join(_percent(found[cell, name].result()) for name in LOOKS)
            print(f"| {cell[0]} | {cell[1]} | {shares} |", flush=True)
        others = {
            "one arm with three times the spread": [
                pool.submit(_deviant, looks, studies) for looks in LOOKS.values()
            ],
            "claims, and every pair of arms": [
                pool.submit(anything_wrong, looks, studies) for looks in LOOKS.values()
            ],
            "first edition, judged again at each look": [
                pool.submit(_old_wrong, looks, studies) for looks in LOOKS.values()
            ],
        }
        for name, futures in others.items():
            shares = " | ".join(_percent(future.result()) for future in futures)
            print(f"| all zero | {name} | {shares} |", flush=True)
        print("\n| true difference | " + " | ".join(f"{n} seeds" for n in STANDARD_LOOKS) + " |")
        print("| --- |" + " ---: |" * len(STANDARD_LOOKS))
        powers = [(d, pool.submit(power, d * POINT, studies // 4)) for d in (0.2, 0.3, 0.5, 1.0)]
        for difference, future in powers:
            shares = " | ".join(f"{share * 100:.0f} %" for share in future.result())
            print(f"| {difference} points | {shares} |", flush=True)
        print("\n| half the 95 % interval, points | last epoch | last three | last three, pooled |")
        print("| --- | ---: | ---: | ---: |")
        for seeds in STANDARD_LOOKS:
            final, (late, with_pool) = half_widths(FINAL, seeds)[0], half_widths(LATE, seeds)
            print(f"| {seeds} seeds | {final:.2f} | {late:.2f} | {with_pool:.2f} |")
        print("\n| method | 80 % decided | 90 % decided | decided at 40 seeds |")
        print("| --- | ---: | ---: | ---: |")
        for method, (reached, decided) in zip(
            METHODS, pool.map(partial(cost, studies=studies // 4), METHODS), strict=True
        ):
            shown = " | ".join(
                f"{at[0]} trainings, {at[1]:.0f} h" if at else "never" for at in reached
            )
            print(f"| {method} | {shown} | {decided * 100:.0f} % |", flush=True)


def _wrong(truth: str, spread: str, looks: Sequence[int], studies: int) -> float:
    return wrong(truth, SPREADS[spread], looks, studies)


def _deviant(looks: Sequence[int], studies: int) -> float:
    return wrong("all zero", DEVIANT, looks, studies)


def _old_wrong(looks: Sequence[int], studies: int) -> float:
    return wrong("all zero", SPREADS["all equal"], looks, studies, old=True)


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STUDIES)
