"""All claims of a study in one figure: a forest plot in units of their margins."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from matplotlib.figure import Figure

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.analysis.verdicts import Verdict, judge_claims
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.report.figures import style
from fmnist_tuning.text import counted

_WIDEST: Final = 8.0  # margins; what lies beyond is cut
_LABEL: Final = 44  # characters
_LINE: Final = 0.155  # inches
_MARKERS: Final = {"supported": "o", "refuted": "X", "equivalent": "s", "inconclusive": "D"}


@dataclass(frozen=True, slots=True)
class _Row:
    """A claim with its verdict, or the heading of a sweep."""

    text: str
    verdict: Verdict | None

    @property
    def lines(self) -> float:
        """How much room it takes."""
        return max(2, self.text.count("\n") + 1) + 0.6 if self.verdict else 1.6


def draw_claims(
    sweeps: Mapping[str, SweepFrames], others: Mapping[str, SweepFrames]
) -> Figure | None:
    """Each claim's difference in units of its margin, with both of its intervals and its verdict.

    None if no claim has a margin and runs. `others` has the sweeps that claims compare with.
    """
    rows: list[_Row] = []
    for id_, frames in sweeps.items():
        own = [
            _Row(textwrap.fill(claim.that, _LABEL), verdict)
            for claim, verdict in judge_claims(frames, others)
            if verdict is not None and verdict.margin
            if not METRICS[claim.metric].exact and not math.isnan(verdict.contrast.error)
        ]
        rows += [_Row(id_, None), *own] if own else []
    if not rows:
        return None
    ends = [*accumulate(row.lines for row in rows)]
    places = [end - row.lines / 2 for end, row in zip(ends, rows, strict=True)]
    figure, axes = style.new_figure("What the claims came to", 1.3 + _LINE * ends[-1])
    axes.axvspan(-1, 1, color=style.PALE, alpha=0.3, lw=0)
    axes.axvline(0, color=style.ink(), lw=0.8)
    edge = axes.get_yaxis_transform()
    for place, row in zip(places, rows, strict=True):
        if row.verdict is None:
            axes.text(
                -0.02, place, row.text, transform=edge, weight="bold", va="center", ha="right"
            )
        else:
            _draw_row(axes, place, row.verdict)
            text = f"{row.verdict.word}\n{counted(row.verdict.look, 'seed')}"
            axes.text(1.02, place, text, transform=edge, va="center")
    shown = [(place, row) for place, row in zip(places, rows, strict=True) if row.verdict]
    axes.set_yticks([place for place, _ in shown], [row.text for _, row in shown])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(ends[-1], 0)
    widest = _widest([row.verdict for row in rows if row.verdict])
    axes.set_xlim(-widest, widest)
    axes.set_xlabel("difference, in margins")
    style.add_note(
        figure,
        _left_out(len(shown), sweeps.values()),
        "In units of each claim's margin, the smallest difference that matters; grey: less than "
        "that. Thick: the 95 % interval of the claim alone. Thin: adjusted for looks and for its "
        "sweep's claims. Circles: supported; crosses: refuted; squares: equivalent; diamonds: "
        "undecided. Lines that reach the edge go on beyond it.",
    )
    return figure


def _left_out(shown: int, sweeps: Iterable[SweepFrames]) -> str:
    claims = sum(len(frames.sweep.claims) for frames in sweeps)
    why = "the others are exact, have no margin, or too few seeds"
    return f"{shown} of {claims} claims; {why}." if shown < claims else ""


def _draw_row(axes: Any, place: float, verdict: Verdict) -> None:
    scale = 1 / verdict.margin
    look = style.looks(2)[verdict.word == "inconclusive"]
    for low, high, width in (
        (verdict.low, verdict.high, 0.8),
        (verdict.contrast.low, verdict.contrast.high, 2.6),
    ):
        ends = [max(min(end * scale, 2 * _WIDEST), -2 * _WIDEST) for end in (low, high)]
        axes.plot(ends, [place, place], color=look.colour, lw=width, solid_capstyle="butt")
    at = max(min(verdict.contrast.difference * scale, _WIDEST), -_WIDEST)
    axes.plot(at, place, color=look.colour, marker=_MARKERS[verdict.word], mec="white", ms=6.5)


def _widest(verdicts: Sequence[Verdict]) -> float:
    """How far the axis goes, in margins."""
    ends = [
        abs(end) / verdict.margin
        for verdict in verdicts
        for end in (verdict.contrast.low, verdict.contrast.high)
    ]
    return min(max(*ends, 2.0) * 1.1, _WIDEST)
