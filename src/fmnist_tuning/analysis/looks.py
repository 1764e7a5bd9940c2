"""When claims are judged, and how: a plan of looks that keeps the error rate over all of them.

A study that is judged again after every new seed finds differences that are not there. So the
numbers of seeds at which its claims are judged, the *looks*, are planned before; each look may use
up a share of the error rate (its weight), and a decision is final. The shares are those of a
Bonferroni correction over the looks, the simplest of group-sequential designs: Lan and DeMets,
Biometrika 70 (1983); Jennison and Turnbull, Group Sequential Methods (2000). See
docs/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scipy import special

from fmnist_tuning.analysis.contrasts import Contrast

CLAIMS_RATE: Final = 0.04
"""The probability that any claim of a sweep gets a wrong verdict, over all looks, at most."""

REST_RATE: Final = 0.01
"""The same for all else that is asked of a sweep: together they make 5 %."""

Kind = Literal["differs", "equivalent"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the runs say about one question at one look."""

    look: int  # seeds
    weight: float  # the look's share of the error rate
    contrast: Contrast
    margin: float  # the smallest difference that matters, in the contrast's unit
    differs: float  # two-sided p value of no difference; NaN where the spread is unknown
    equivalent: float  # p value of a difference of the margin or more


@dataclass(frozen=True, slots=True)
class Decision:
    """A question at the look that decided it, or at its last look so far."""

    kind: Kind | None  # None while it is undecided
    evidence: Evidence
    p: float  # the smaller p value over the looks so far, adjusted for looks and questions
    level: float  # of the interval that goes with it: 1 minus its confidence


def weights(looks: Sequence[int]) -> list[float]:
    """Each look's share of the error rate: proportional to its number of seeds."""
    return [look / sum(looks) for look in looks]


def evidence(
    look: int, weight: float, found: Contrast, margin: float, *, beyond: bool = False
) -> Evidence:
    """The p values of a contrast: of no difference, and of one as large as the margin.

    The second is that of two one-sided tests: Schuirmann, Journal of Pharmacokinetics and
    Biopharmaceutics 15 (1987). Both are doubled, so that the two tests share one error rate. With
    `beyond`, the first is that of a difference of the margin or less.
    """
    excess = abs(found.difference) - margin
    tail = 2 * float(special.stdtr(found.freedom, -abs(excess) / found.error))
    differs = found.p if not beyond else tail if excess > 0 else 1.0
    equivalent = tail if excess < 0 else 1.0
    if math.isnan(found.error):
        differs = equivalent = math.nan
    return Evidence(look, weight, found, margin, differs, equivalent)


def decide(questions: Sequence[Sequence[Evidence]], rate: float) -> list[Decision | None]:
    """Judge the questions of one family, each with its evidence in the order of looks.

    A question is decided at the first look at which the smaller of its two p values, divided by the
    look's weight and multiplied by the number of questions that no difference was found for yet, is
    below the error rate. What is found equivalent releases no share to the others: with ordinary
    Holm the error rate reached 6.1 % in simulations. A question without evidence is None, but
    counts.
    """
    decisions: list[Decision | None] = [None] * len(questions)
    smallest: list[dict[Kind, float]] = [{"differs": 1.0, "equivalent": 1.0} for _ in questions]
    for look in sorted({one.look for question in questions for one in question}):
        for place, question in enumerate(questions):
            now = next((one for one in question if one.look == look), None)
            if now is not None and not _final(decisions[place]):
                least = smallest[place]
                least["differs"] = _least(least["differs"], now.differs, now.weight)
                least["equivalent"] = _least(least["equivalent"], now.equivalent, now.weight)
                decisions[place] = Decision(None, now, math.nan, math.nan)
        _settle(decisions, smallest, rate)
    return decisions


def _settle(
    decisions: list[Decision | None], smallest: Sequence[dict[Kind, float]], rate: float
) -> None:
    """Decide what can be decided now; each difference found leaves more for the others."""
    before = None
    while before != decisions:
        before = list(decisions)
        found = sum(d is not None and d.kind == "differs" for d in decisions)
        family = len(decisions) - found
        for place, decision in enumerate(decisions):
            if decision is None or _final(decision):
                continue
            least = smallest[place]
            kind: Kind = "differs" if least["differs"] <= least["equivalent"] else "equivalent"
            p = min(1.0, least[kind] * family)
            decided = kind if p < rate else None
            level = rate * decision.evidence.weight / family
            decisions[place] = Decision(decided, decision.evidence, p, level)


def _final(decision: Decision | None) -> bool:
    return decision is not None and decision.kind is not None


def _least(before: float, p: float, weight: float) -> float:
    return before if math.isnan(p) else min(before, p / weight)
